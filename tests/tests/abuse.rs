//! Attacks with real sockets: a verdict that rests on what the kernel counts, refused networks in the gate, and their end by the kernel's
//! clock. A crowd, however large, has no verdict.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use rusqlite::Connection;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use weir_agent::{CasesReply, VerdictRecord};
use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, World, ZoneConf, eventually,
    gate::{Gate, syn},
    http::Answer,
    origin::{self, Manner},
    websocket, world,
};

/// The one that is attacked, and one that has success.
const A: &str = "a.test";
const B: &str = "b.test";
/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200;
const MINUTE: i64 = 60;
const PATIENCE: Duration = Duration::from_secs(120);
const CROWD: u8 = 24;
/// What is said in a socket's first five seconds is its handshakes.
const HANDSHAKES: f64 = 7.0;
/// A younger one than 65 s is not asked whether it is silent.
const SETTLED: f64 = 67.0;

struct Clock {
    file: PathBuf,
    at: i64,
}

impl Clock {
    fn new(world: &World) -> Self {
        let clock = Self { file: world.folder().join("clock"), at: START };
        fs::write(&clock.file, START.to_string()).expect("a clock");
        clock
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, agent: &Agent, seconds: i64) -> CasesReply {
        self.at += seconds;
        fs::write(&self.file, self.at.to_string()).expect("a clock");
        eventually("the policy's time", PATIENCE, || {
            let reply = agent.cases();
            let arrived = reply.now.unix_timestamp() == self.at && reply.fault.is_none();
            if arrived { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
    }
}

fn conf(world: &World) -> Conf {
    let conf = world.conf().plan("p", 1000, 5000).zone(A, "p").zone(B, "p");
    conf.xdp("interfaces = [{ name = \"lo\", mode = \"generic\" }]")
}

/// A WebSocket from this address of the loopback network.
fn connect_from(from: [u8; 4], host: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of the loopback network");
    socket.connect(&HTTP.into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(websocket::request(host).as_bytes()).expect("a request");
    let answer = Answer::read(&mut stream).expect("an answer");
    assert_eq!(answer.status, 101, "{}", answer.text());
    stream
}

/// One from each of so many networks.
fn from_everywhere(second: u8, count: u8, host: &str) -> Vec<TcpStream> {
    (1..=count).map(|n| connect_from([127, second, n, 1], host)).collect()
}

fn all_echo(clients: &mut [TcpStream]) {
    for client in clients.iter_mut() {
        client.write_all(b"hello").expect("a live tunnel");
    }
    for client in clients {
        let mut back = [0; 5];
        client.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"hello");
    }
}

/// Waits until every socket of the two zones is as old as that, by an audit that began since.
fn await_age(agent: &Agent, seconds: f64) {
    let oldest = || agent.zone(A).held.map_or(0.0, |held| held.oldest_seconds);
    let until = oldest() + seconds;
    eventually("older sockets", PATIENCE, || {
        let oldest = oldest();
        if oldest >= until { Ok(()) } else { Err(format!("{oldest} s of {until} s")) }
    });
    agent.await_audit();
}

fn facts(world: &World, zone: &str) -> Vec<String> {
    let database = Connection::open(world.folder().join("ledger.db")).expect("the ledger");
    let mut statement =
        database.prepare("SELECT fact FROM events WHERE zone = ?1 ORDER BY seq").expect("a query");
    let facts = statement.query_map([zone], |row| row.get::<_, String>(0)).expect("rows");
    let name = |fact: rusqlite::Result<String>| {
        let fact: Value = serde_json::from_str(&fact.expect("a row")).expect("JSON");
        fact["fact"].as_str().expect("a name").to_owned()
    };
    facts.map(name).collect()
}

fn only(reply: &CasesReply) -> VerdictRecord {
    assert_eq!(reply.verdicts.len(), 1, "{reply:?}");
    reply.verdicts[0].clone()
}

const ATTACKERS: [[u8; 4]; 3] = [[127, 9, 1, 1], [127, 9, 2, 1], [127, 9, 3, 1]];

fn passes(gate: &Gate, from: [u8; 4]) -> bool {
    gate.passes(&syn(IpAddr::V4(Ipv4Addr::from(from)), HTTP))
}

fn await_gate(gate: &Gate, open: bool) {
    eventually("the gate", PATIENCE, || {
        let passing: Vec<bool> = ATTACKERS.iter().map(|from| passes(gate, *from)).collect();
        if passing.iter().all(|passes| *passes == open) { Ok(()) } else { Err(format!("{passing:?}")) }
    });
}

#[test]
fn silent_sockets_from_three_networks_are_refused_by_a_lease_and_a_crowd_is_not() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let mut clock = Clock::new(world);
        let conf = conf(world);
        let mut agent = world.agent_by_clock(&conf, &clock.file);
        let _proxy = world.proxy(&conf, HTTP);
        // What is normal: clients of many networks, who say something.
        let mut theirs = from_everywhere(1, CROWD, A);
        let mut others = from_everywhere(2, CROWD, B);
        await_age(&agent, HANDSHAKES);
        all_echo(&mut theirs);
        all_echo(&mut others);
        await_age(&agent, SETTLED - HANDSHAKES);
        assert_eq!(clock.pass(&agent, 150 * MINUTE).verdicts, []);

        // B has success: as many again from each of ten times the networks, and they speak. A is attacked: silent sockets of three
        // addresses. Either has more than ten times the sockets within a moment.
        let mut success = from_everywhere(3, 250, B);
        let attack: Vec<TcpStream> = (0..300).map(|n| connect_from(ATTACKERS[n % 3], A)).collect();
        await_age(&agent, HANDSHAKES);
        all_echo(&mut success);
        await_age(&agent, SETTLED - HANDSHAKES);
        let gate = Gate::on("lo");
        assert!(
            ATTACKERS.iter().all(|from| passes(&gate, *from)),
            "nothing is refused before its evidence has held"
        );
        // One look confirms nothing: each of these brings another.
        for _ in 0..6 {
            agent.await_audit();
            clock.pass(&agent, 10);
        }
        let verdict = only(&clock.pass(&agent, MINUTE));
        assert_eq!((verdict.zone.as_str(), verdict.measure.as_str()), (A, "refuse_prefixes"));
        let mut prefixes = verdict.prefixes.clone();
        prefixes.sort();
        assert_eq!(
            prefixes,
            ["127.9.1.1/32", "127.9.2.1/32", "127.9.3.1/32"],
            "narrowly: not their networks"
        );
        let families: Vec<&str> = verdict.evidence["families"]
            .as_array()
            .expect("families")
            .iter()
            .filter_map(|finding| finding["family"].as_str())
            .collect();
        assert_eq!(families, ["source", "behaviour", "shape"]);
        assert_eq!(facts(world, A), ["suspected", "mitigated"]);
        assert_eq!(facts(world, B), Vec::<String>::new(), "a crowd is a jump, and one sign is none");

        // It reaches the kernel: their SYNs are dropped, everybody else's pass, and who is connected stays.
        await_gate(&gate, false);
        assert!(passes(&gate, [127, 9, 1, 2]) && passes(&gate, [127, 1, 1, 1]));
        all_echo(&mut theirs);
        let denied = world.hand(&["deny", "list", "--json"]).done().json();
        assert!(
            denied["denied"].as_array().expect("rows").iter().all(|row| row["by"] == "verdict"),
            "{denied}"
        );
        let id = &verdict.verdict;
        let labels = format!("{{zone=\"{A}\",plan=\"p\",verdict=\"{id}\",measure=\"refuse_prefixes\"}}");
        let scrape = agent.scrape();
        assert_eq!(scrape.get(&format!("weir_zone_verdict_active{labels}")), Some(1.0));
        assert_eq!(scrape.value("weir_verdict_prefixes"), 3.0);
        assert!(world.hand(&["verdicts"]).done().stdout.contains(id));

        // Renewed while it lasts; without an agent it ends; the next one goes on with it.
        clock.pass(&agent, 30 * MINUTE);
        await_gate(&gate, false);
        agent.process.kill();
        await_gate(&gate, true);
        agent = world.agent_by_clock(&conf, &clock.file);
        await_gate(&gate, false);

        // The attack is over, and so is the verdict; none of it was the customer's usage.
        drop(attack);
        agent.await_live(A, CROWD.into(), CROWD.into());
        agent.await_audit();
        assert_eq!(clock.pass(&agent, 20 * MINUTE).verdicts, []);
        await_gate(&gate, true);
        let facts = facts(world, A);
        assert_eq!(facts.first().map(String::as_str), Some("suspected"));
        assert_eq!(facts.last().map(String::as_str), Some("verdict_ended"));
        assert!(agent.cases().cases.is_empty());
        assert_eq!((agent.zone(A).refused_total, agent.zone(B).refused_total), (0, 0));
        world.hand(&["ledger", "verify"]).done();
        drop((theirs, others, success));
    });
}

#[test]
fn the_kernel_counts_declined_upgrades_and_lifetimes() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Forbid403);
        let good = SocketAddr::new(ORIGIN.ip(), ORIGIN.port() + 1);
        origin::serve(world, good, Manner::Echo);
        let conf = world.conf().plan("p", 10, 100).zone(A, "p");
        let conf = conf.with_zone(ZoneConf::new(B, "p").origin(good));
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        for _ in 0..6 {
            assert_eq!(websocket::open(HTTP, A).expect("an answer").declined().status, 403);
        }
        let granted = websocket::connect_many(HTTP, 5, |_| B.to_owned());
        let zone = |name: &str| (agent.zone(name).admitted_total, agent.zone(name).declined_total);
        assert_eq!((zone(A), zone(B)), ((6, 6), (5, 0)));
        await_age(&agent, 0.0);
        eventually("a second", PATIENCE, || match agent.zone(B).held.map(|held| held.oldest_seconds) {
            Some(oldest) if oldest >= 1.0 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        drop(granted);
        agent.await_empty();
        let slot = agent.zone(B).slot;
        let (lived, sum) = world.pinned().lived(slot);
        // 67 ms a unit: each lived for a second at least, and none for two minutes.
        assert_eq!(lived, 5);
        assert!((5 * 14..5 * 1800).contains(&sum), "{sum}");
        assert_eq!(world.pinned().lived(agent.zone(A).slot).0, 0, "a declined upgrade was none");
    });
}
