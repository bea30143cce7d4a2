//! Zones that come, go and change their names while many threads open, speak for and close sockets: few zones in a table that is just
//! large enough, and a hundred thousand.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fastrand::Rng;
use nix::{errno::Errno, sys::signal::Signal};
use socket2::SockRef;
use weir_agent::EventRecord;
use weir_tests::{Agent, Conf, World, eventually, sockopt, world};

const THREADS: u16 = 4;
/// Connections that a thread holds at a time.
const HELD: usize = 60;
/// A debug build reads a hundred thousand zones in that time although others share the machine.
const LONG: Duration = Duration::from_secs(240);

fn address(thread: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080 + thread)
}

/// A connection: the client's end, the accepted one, and the zone that it was last heard to be in, with whether it is a WebSocket.
struct Held {
    client: TcpStream,
    accepted: TcpStream,
    zone: Option<String>,
    websocket: bool,
}

/// Threads that do all that a proxy does, with zones of this range by name.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(Vec<Held>, u64)>>,
}

impl Load {
    fn start(zones: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |thread: u16| {
            let (stop, listener) =
                (Arc::clone(&stop), TcpListener::bind(address(thread)).expect("a listener"));
            thread::spawn(move || play(thread, &listener, zones, &stop))
        };
        let threads = (0..THREADS).map(one).collect();
        Self { stop, threads }
    }

    /// What is held at the end, and how many steps succeeded.
    fn end(self) -> (Vec<Held>, u64) {
        self.stop.store(true, Relaxed);
        let ended: Vec<_> = self.threads.into_iter().map(|thread| thread.join().expect("a load")).collect();
        let steps = ended.iter().map(|(_, steps)| steps).sum();
        (ended.into_iter().flat_map(|(held, _)| held).collect(), steps)
    }
}

fn play(thread: u16, listener: &TcpListener, zones: usize, stop: &AtomicBool) -> (Vec<Held>, u64) {
    let (mut rng, mut held, mut done): (_, Vec<Held>, _) = (Rng::with_seed(u64::from(thread)), Vec::new(), 0);
    while !stop.load(Relaxed) {
        // At a pace that leaves the agent, which reads very many zones meanwhile, its share of a small machine.
        thread::sleep(Duration::from_micros(200));
        if held.len() < HELD && rng.u8(0..3) == 0 {
            let client = TcpStream::connect(address(thread)).expect("a connection");
            let accepted = listener.accept().expect("an accepted connection").0;
            held.push(Held { client, accepted, zone: None, websocket: false });
            done += 1;
            continue;
        }
        let Some(at) = (!held.is_empty()).then(|| rng.usize(0..held.len())) else { continue };
        let (zone, step) = (name(rng.usize(0..zones)), rng.u8(0..8));
        if step == 0 {
            let Held { client, accepted, .. } = held.swap_remove(at);
            // With a RST, so that no port is kept.
            let reset = |socket: &TcpStream| SockRef::from(socket).set_linger(Some(Duration::ZERO));
            reset(&client).expect("a linger");
            drop((client, accepted));
            continue;
        }
        let one = &mut held[at];
        let answer = match step {
            1..=3 => sockopt::attribute(&one.accepted, &zone),
            4..=6 => sockopt::admit(&one.accepted, &zone),
            _ => sockopt::release(&one.accepted, one.zone.as_deref().unwrap_or(&zone)),
        };
        match (answer, step) {
            (Ok(()), 1..=3) => one.zone = Some(zone),
            (Ok(()), 4..=6) => (one.zone, one.websocket) = (Some(zone), true),
            (Ok(()), _) => one.websocket = false,
            // No such zone at the moment, in another one, twice, not at all, or its places are taken.
            (Err(Errno::ENOENT | Errno::EBUSY | Errno::EALREADY | Errno::EINVAL | Errno::EDQUOT), _) => {}
            (Err(other), step) => panic!("step {step} for {zone}: {other}"),
        }
        done += u64::from(answer.is_ok());
    }
    (held, done)
}

fn name(n: usize) -> String {
    format!("z{n}.test")
}

fn conf(world: &World, room: usize, zones: impl Iterator<Item = String>) -> Conf {
    let listeners: Vec<_> = (0..THREADS).map(address).collect();
    let conf = world.conf().http(&listeners).agent(&format!("max_zones = {room}")).plan("p", 5, 20);
    zones.fold(conf, |conf, zone| conf.zone(&zone, "p"))
}

/// By the agent's events: a scrape of very many zones takes its time.
fn reload(world: &World, agent: &Agent, conf: &Conf) {
    let newest = |events: &[EventRecord]| events.iter().map(|event| event.id).max().unwrap_or(0);
    let before = newest(&agent.events());
    world.write("weir.toml", &conf.to_string());
    agent.process.signal(Signal::SIGHUP);
    eventually("a reload", LONG, || {
        let news: Vec<_> = agent.events().into_iter().filter(|event| event.id > before).collect();
        assert!(news.iter().all(|event| event.kind != "reload_failed"), "{news:?}");
        if news.iter().any(|event| event.kind == "reload") { Ok(()) } else { Err("none".to_owned()) }
    });
}

/// Every zone has the sockets that its holders say, and nobody else has any.
fn agree(agent: &Agent, held: &[Held]) {
    let mut wanted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for one in held {
        if let Some(zone) = &one.zone {
            let (sockets, websockets) = wanted.entry(zone).or_default();
            *sockets += 1;
            *websockets += u64::from(one.websocket);
        }
    }
    let nowhere = held.iter().filter(|one| one.zone.is_none()).count() as u64;
    eventually("counts as the holders have them", LONG, || {
        let reply = agent.zones();
        let counted: BTreeMap<&str, (u64, u64)> = reply
            .zones
            .iter()
            .filter(|zone| zone.sockets + zone.websockets > 0)
            .map(|zone| (zone.zone.as_str(), (zone.sockets, zone.websockets)))
            .collect();
        let differ = wanted.iter().filter(|(zone, live)| counted.get(*zone) != Some(live)).count();
        match (reply.unattributed_sockets, differ, counted.len()) {
            (unattributed, 0, zones) if unattributed == nowhere && zones == wanted.len() => Ok(()),
            other => Err(format!("{other:?} instead of {nowhere} unattributed and {} zones", wanted.len())),
        }
    });
}

fn empties(agent: &Agent, held: Vec<Held>) {
    held.iter().for_each(|one| {
        SockRef::from(&one.client).set_linger(Some(Duration::ZERO)).expect("a linger");
    });
    drop(held);
    eventually("empty books", LONG, || match agent.sockets() {
        0 => Ok(()),
        sockets => Err(format!("{sockets} sockets")),
    });
    let before = agent.host().audit.at;
    eventually("an audit", LONG, || {
        if agent.host().audit.at > before { Ok(()) } else { Err("none".to_owned()) }
    });
    assert_eq!(agent.host().audit.drift_sockets, 0);
    let drifts = agent.events_of("drift");
    assert!(drifts.is_empty(), "{drifts:?}");
}

#[test]
fn zones_that_go_and_are_renamed_under_parallel_load_keep_the_books() {
    const ZONES: usize = 12;
    const RELOADS: usize = 40;
    world(|world| {
        let all = || conf(world, ZONES, (0..ZONES).map(name));
        let agent = world.agent(&all());
        let load = Load::start(ZONES);
        let mut rng = Rng::with_seed(7);
        for _ in 0..RELOADS {
            // A third of them at random are gone; their slots are given to those that come back, in another order.
            let mut some: Vec<String> = (0..ZONES).filter(|_| rng.u8(0..3) > 0).map(name).collect();
            rng.shuffle(&mut some);
            reload(world, &agent, &conf(world, ZONES, some.into_iter()));
        }
        reload(world, &agent, &all());
        let (held, steps) = load.end();
        assert!(steps > 1000, "{steps} steps of load");
        agree(&agent, &held);
        empties(&agent, held);
    });
}

#[test]
fn a_hundred_thousand_zones_under_load_are_renamed_and_keep_the_books() {
    const ZONES: usize = 100_000;
    const RENAMED: usize = 4_000;
    world(|world| {
        let all = || conf(world, ZONES + RENAMED, (0..ZONES).map(name));
        // It is ready soon, and reads what takes long afterwards.
        let agent = world.agent(&conf(world, ZONES + RENAMED, (0..1).map(name)));
        reload(world, &agent, &all());
        let load = Load::start(ZONES);
        // Every 25th has another name from now on; what lives in it lives on, until it ends.
        let other = |n: usize| if n.is_multiple_of(ZONES / RENAMED) { format!("y{n}.test") } else { name(n) };
        reload(world, &agent, &conf(world, ZONES + RENAMED, (0..ZONES).map(other)));
        let (held, steps) = load.end();
        assert!(steps > 1000, "{steps} steps of load");
        agree(&agent, &held);
        empties(&agent, held);
    });
}
