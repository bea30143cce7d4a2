//! Upgrades under load: to a build of another ABI version, whose counts are rebuilt, and to one with other programs. At no moment is
//! a socket uncounted or a cap not held.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, SOON, World, eventually,
    gate::{Gate, program_on, syn},
    origin::{self, Manner},
    sockopt, ss,
    websocket::{self, Opened},
    world,
};

const A: &str = "a.test";
const B: &str = "b.test";
/// Live WebSockets of either zone that are held throughout; B is full with them.
const HELD: usize = 12;
const CHURNING: usize = 3;
/// As an agent of another ABI version would have left it.
const OTHER_ABI: u64 = 999;

fn kill(agent: Agent) {
    let Agent { mut process, .. } = agent;
    process.kill();
}

fn conf(world: &World) -> Conf {
    let conf = world.conf().plan("wide", 50, 500).plan("full", 5, HELD as u64);
    conf.zone(A, "wide").zone(B, "full")
}

/// Clients that come and go in A, and others that are refused by B all the time.
struct Load {
    stop: AtomicBool,
    opened: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    fn around<T>(test: impl FnOnce(&Self) -> T) -> T {
        let load = Self { stop: AtomicBool::new(false), opened: 0.into(), refused: 0.into() };
        thread::scope(|scope| {
            let churning: Vec<_> = (0..CHURNING).map(|_| scope.spawn(|| load.churn())).collect();
            let refused = scope.spawn(|| load.knock());
            let stop = Stop(&load);
            let result = test(&load);
            drop(stop);
            churning.into_iter().chain([refused]).for_each(|client| client.join().expect("no client failed"));
            result
        })
    }

    fn churn(&self) {
        while !self.stop.load(Relaxed) {
            let mut client = websocket::open(HTTP, A).expect("never refused, never reset").stream();
            client.write_all(b"!").expect("sent");
            client.read_exact(&mut [0]).expect("an echo");
            self.opened.fetch_add(1, Relaxed);
        }
    }

    fn knock(&self) {
        while !self.stop.load(Relaxed) {
            match websocket::open(HTTP, B).expect("an answer") {
                Opened::Switched(_) => panic!("let in above the cap"),
                Opened::Declined(answer) => {
                    assert_eq!(websocket::fault_of_refusal(&answer, B, "abuse_cap"), None);
                }
            }
            self.refused.fetch_add(1, Relaxed);
        }
    }

    /// Waits until there was some of both.
    fn more(&self, when: &str) {
        let counts = || (self.opened.load(Relaxed), self.refused.load(Relaxed));
        let before = counts();
        eventually(when, SOON, || match counts() {
            (opened, refused) if opened >= before.0 + 30 && refused >= before.1 + 10 => Ok(()),
            _ if self.stop.load(Relaxed) => Ok(()),
            now => Err(format!("{before:?}, then {now:?}")),
        });
    }
}

/// Ends the load, also if the test fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Relaxed);
    }
}

#[test]
fn another_abi_version_is_rebuilt_under_load_and_no_cap_is_exceeded() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world);
        let mut agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let held: Vec<TcpStream> = [A, B]
            .into_iter()
            .flat_map(|zone| websocket::connect_many(HTTP, HELD, |_| zone.to_owned()))
            .collect();
        let slot = agent.zone(A).slot;
        let agent = Load::around(|load| {
            load.more("a load before");
            for version in [OTHER_ABI, OTHER_ABI - 1] {
                kill(agent);
                // The kernel alone counts meanwhile.
                world.pretend_abi(version);
                agent = world.agent(&conf);
                assert_eq!(agent.host().rebuilt_from_abi, Some(version));
                let (sockets, websockets) = agent.live(A);
                for live in [sockets, websockets] {
                    assert!((HELD as u64..=(HELD + 2 * CHURNING) as u64).contains(&live), "{live} live");
                }
                assert_eq!(agent.zone(B).websockets, HELD as u64);
                load.more("a load behind");
                assert_eq!(agent.zone(B).websockets_peak, HELD as u64, "no admission above it, ever");
            }
            agent
        });
        agent.await_live(A, HELD as u64, HELD as u64);
        agent.await_live(B, HELD as u64, HELD as u64);
        assert_eq!(agent.zone(A).slot, slot, "each zone has its slot");
        eventually("the last refused client's end", SOON, || match ss::accepted_on(HTTP.port()).len() {
            sockets if sockets == 2 * HELD => Ok(()),
            other => Err(format!("{other} sockets")),
        });
        assert_eq!(agent.sockets(), 2 * HELD as u64);
        assert_eq!(agent.sources("").sockets, 2 * HELD as u64, "and so are the sources");
        drop(held);
        agent.await_empty();
        agent.await_no_sources();
        agent.assert_never_drifted();
        assert_eq!(leftovers(world), Vec::<String>::new());
    });
}

/// What is pinned beside what an instance has.
fn leftovers(world: &World) -> Vec<String> {
    let known: Vec<&str> =
        weir_common::names::PROGRAMS.into_iter().chain(weir_common::names::PINNED_MAPS).collect();
    let pins = std::fs::read_dir(world.pins()).expect("pins").flatten();
    let names = pins.map(|pin| pin.file_name().to_string_lossy().into_owned());
    names.filter(|name| !known.contains(&name.as_str())).collect()
}

#[test]
fn a_rebuilt_socket_keeps_its_zone_its_way_and_its_bytes() {
    world(|world| {
        let on_lo = "interfaces = [{ name = \"lo\", mode = \"generic\" }]\ndeny = [\"203.0.113.66\"]";
        let conf = conf(world).xdp(on_lo);
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let pair = || {
            let client = TcpStream::connect(HTTP).expect("a connection");
            (client, listener.accept().expect("an accepted connection").0)
        };
        let ((mut client, mut accepted), attributed, unattributed, origins) =
            (pair(), pair(), pair(), pair());
        sockopt::admit(&accepted, A).expect("admitted");
        sockopt::attribute(&attributed.1, A).expect("attributed");
        // The other side of a WebSocket over HTTP/2.
        let origin =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        sockopt::admit(&origin, B).expect("admitted");
        let far = TcpListener::bind(ORIGIN).expect("a listener");
        origin.connect(&ORIGIN.into()).expect("connected");
        let _far = far.accept().expect("accepted");
        client.write_all(&[b'x'; 100]).expect("sent");
        accepted.read_exact(&mut [0; 100]).expect("received");
        eventually("counted bytes", SOON, || match agent.zone(A).received_bytes_total {
            100 => Ok(()),
            other => Err(format!("{other}")),
        });
        world.hand(&["deny", "add", "198.51.100.7", "--for", "1h", "--reason", "x"]).done();
        let gate = program_on("lo").expect("a gate");
        kill(agent);
        client.write_all(&[b'x'; 20]).expect("sent");
        accepted.read_exact(&mut [0; 20]).expect("received");
        world.pretend_abi(OTHER_ABI);
        let agent = world.agent(&conf);
        assert_eq!(agent.host().rebuilt_from_abi, Some(OTHER_ABI));
        assert_eq!((agent.live(A), agent.live(B)), ((2, 1), (1, 1)));
        assert_eq!(agent.zones().unattributed_sockets, 2);
        eventually("bytes that nobody has counted", SOON, || match agent.zone(A).received_bytes_total {
            20 => Ok(()),
            other => Err(format!("{other}")),
        });
        let new_gate = program_on("lo").expect("a gate");
        assert_ne!(gate, new_gate, "this build's program stands there");
        let passes = |source: &str| Gate::on("lo").passes(&syn(source.parse().expect("an address"), HTTP));
        assert!(!passes("203.0.113.66") && !passes("198.51.100.7"), "lists are filled before it stands");

        // All that a socket may do goes on as if nothing had been.
        sockopt::release(&accepted, A).expect("released");
        sockopt::admit(&attributed.1, A).expect("admitted");
        sockopt::attribute(&unattributed.1, B).expect("attributed");
        assert_eq!((agent.live(A), agent.live(B)), ((2, 1), (2, 1)));
        drop(client);
        drop((accepted, attributed, unattributed, origins, origin));
        agent.await_empty();
        assert_eq!(agent.zone(A).closed["peer"], 2);
        assert_eq!(agent.zone(A).received_bytes_total, 20 + 2, "and each FIN");
        agent.assert_never_drifted();
    });
}

#[test]
fn an_agent_that_dies_while_it_rebuilds_leaves_one_version_in_force() {
    world(|world| {
        let conf = conf(world);
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let pair = || {
            let client = TcpStream::connect(HTTP).expect("a connection");
            (client, listener.accept().expect("an accepted connection").0)
        };
        let mut pairs = Vec::new();
        let mut admit = |zone: &str| {
            let pair = pair();
            let admitted = sockopt::admit(&pair.1, zone);
            pairs.push(pair);
            admitted
        };
        (0..HELD).for_each(|_| admit(B).expect("room"));
        kill(agent);
        world.pretend_abi(OTHER_ABI);

        // Both are attached, nothing is adopted: what the other version refuses is refused.
        world.agent_dies_at(&conf, "attached");
        assert_eq!(admit(B), Err(nix::errno::Errno::EDQUOT));
        admit(A).expect("room");
        // The counts are whole, and nothing is moved.
        world.agent_dies_at(&conf, "sealed");
        assert_eq!(admit(B), Err(nix::errno::Errno::EDQUOT));
        admit(A).expect("room");
        let agent = world.agent(&conf);
        assert!(agent.host().adopted, "the move was finished, and the rest is as usual");
        assert_eq!(admit(B), Err(nix::errno::Errno::EDQUOT));
        admit(A).expect("room");
        assert_eq!((agent.live(A), agent.live(B)), ((3, 3), (HELD as u64, HELD as u64)));
        assert_eq!(agent.zones().unattributed_sockets, 3);
        assert_eq!(leftovers(world), Vec::<String>::new());
        drop(pairs);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn another_builds_programs_take_the_place_of_those_that_run_and_no_cap_is_exceeded() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world);
        let mut agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let held: Vec<TcpStream> = [A, B]
            .into_iter()
            .flat_map(|zone| websocket::connect_many(HTTP, HELD, |_| zone.to_owned()))
            .collect();
        let agent = Load::around(|load| {
            load.more("a load before");
            // Its log is compiled into the programs or out of them: they are others each time.
            for log in ["debug", "off", "debug"] {
                let before = world.attached();
                kill(agent);
                agent = world.agent(&conf.clone().agent(&format!("kernel_log = \"{log}\"")));
                let after = world.attached();
                assert_eq!(before.len(), weir_common::names::PROGRAMS.len());
                for (link, program) in &before {
                    assert_ne!(after[link], *program, "{link} runs the new build's");
                }
                assert_eq!(
                    before.keys().collect::<Vec<_>>(),
                    after.keys().collect::<Vec<_>>(),
                    "the same links"
                );
                load.more("a load behind");
                assert_eq!(agent.zone(B).websockets_peak, HELD as u64, "no admission above it, ever");
            }
            agent
        });
        agent.await_live(A, HELD as u64, HELD as u64);
        agent.await_live(B, HELD as u64, HELD as u64);
        drop(held);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}
