//! Reloads while clients connect all the time: no instant in which a socket of ours is born uncounted, or in a stranger's zone.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::signal::Signal;
use weir_tests::{Agent, Conf, HTTP, World, eventually, world};

const GAME: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9100);
/// A reload of thousands of zones takes a while in a debug build that others share the machine with.
const LONG: Duration = Duration::from_secs(60);

/// Connects to an address until it is told to stop.
struct Trickle {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<TcpStream>>,
}

impl Trickle {
    /// `keep`: both ends of every connection are kept; else each is closed before the next is opened. At a pace at which neither
    /// ports nor descriptors run out.
    fn start(address: SocketAddr, keep: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let listener = TcpListener::bind(address).expect("a listener");
        let thread = thread::spawn(move || {
            let mut kept = Vec::new();
            while !told.load(Relaxed) {
                let client = TcpStream::connect(address).expect("a connection");
                let accepted = listener.accept().expect("an accepted connection").0;
                if keep {
                    kept.extend([client, accepted]);
                } else {
                    drop((accepted, client));
                }
                // Between two that are not kept the listener's zone is empty, so that its slot can be given away at all.
                thread::sleep(Duration::from_micros(if keep { 200 } else { 2_000 }));
            }
            kept
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<TcpStream> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("every connection succeeds")
    }
}

fn reload(world: &World, agent: &Agent, conf: &Conf) {
    let reloads = || agent.scrape().value("weir_config_reloads_total{outcome=\"success\"}");
    let before = reloads();
    world.write("weir.toml", &conf.to_string());
    agent.process.signal(Signal::SIGHUP);
    eventually("a reload", LONG, || match reloads() {
        now if now > before => Ok(()),
        _ => Err(agent.process.log()),
    });
}

#[test]
fn a_dedicated_listener_counts_for_no_stranger_while_a_full_table_is_renamed() {
    const ZONES: usize = 4000;
    world(|world| {
        let conf = |letter: char| {
            let conf = world
                .conf()
                .agent(&format!("max_zones = {}", ZONES + 1))
                .listener(GAME, &format!("zone = \"{letter}0.test\""))
                .plan("p", 1_000_000, 1_000_000);
            (0..ZONES).fold(conf, |conf, n| conf.zone(&format!("{letter}{n}.test"), "p"))
        };
        let agent = world.agent(&conf('z'));
        let trickle = Trickle::start(GAME, false);
        for letter in ['y', 'x', 'z'] {
            reload(world, &agent, &conf(letter));
            let strangers: Vec<_> = agent
                .zones()
                .zones
                .into_iter()
                .filter(|zone| zone.admitted_total > 0 && zone.zone != format!("{letter}0.test"))
                .filter(|zone| zone.state != "draining")
                .map(|zone| (zone.zone, zone.admitted_total))
                .collect();
            assert!(strangers.is_empty(), "sockets of the listener counted for {strangers:?}");
        }
        let counted = agent.zone("z0.test").admitted_total;
        eventually("the listener's zone counts", LONG, || match agent.zone("z0.test").admitted_total {
            now if now > counted => Ok(()),
            now => Err(now.to_string()),
        });
        trickle.end();
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn an_address_in_another_form_counts_all_the_time() {
    /// Beside it, so that the change takes a while.
    const OTHERS: u16 = 500;
    world(|world| {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), HTTP.port());
        let conf = |address: SocketAddr, others: u8| {
            (0..OTHERS).fold(world.conf().http(&[address]), |conf, n| {
                let [high, low] = n.to_be_bytes();
                conf.listener(SocketAddr::new(Ipv4Addr::new(127, others, high, low).into(), 9100), "")
            })
        };
        let agent = world.agent(&conf(HTTP, 1));
        let trickle = Trickle::start(HTTP, true);
        for (address, others) in [(any, 2), (HTTP, 1), (any, 2), (HTTP, 1)] {
            reload(world, &agent, &conf(address, others));
        }
        let kept = trickle.end();
        assert_eq!(agent.await_audit().audit.untracked_sockets, 0);
        assert_eq!(agent.sockets(), kept.len() as u64 / 2, "every one of them is counted");
        drop(kept);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}
