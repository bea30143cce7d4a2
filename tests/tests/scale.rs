//! Ten thousand zones, ten thousand WebSockets: everything that tells numbers tells the same ones, and reading them is cheap.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use weir_agent::ZonesReply;
use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, World, eventually, host,
    origin::{self, Manner},
    ss, tracer, websocket, world,
};

const MANY: usize = 10_000;
/// Numbers of this many zones take a while to be told, in a debug build that others share the machine with.
const LONG: Duration = Duration::from_secs(60);

fn name(n: usize) -> String {
    format!("zone-{n}.test")
}

fn many_zones(world: &World) -> Conf {
    (0..MANY).fold(world.conf().plan("p", 5, 50), |conf, n| conf.zone(&name(n), "p"))
}

/// The zone of the nth WebSocket: some zones have several, some none.
fn zone_of(n: usize) -> usize {
    n - n % (1 + n % 7)
}

fn by_zone(reply: &ZonesReply) -> BTreeMap<String, u64> {
    let live = reply.zones.iter().filter(|zone| zone.websockets > 0);
    live.map(|zone| (zone.zone.clone(), zone.websockets)).collect()
}

/// What `weir zones` says.
fn weir_zones(agent: &Agent) -> ZonesReply {
    let output = Command::new(host::weir()).args(["zones", "--json", "--config"]).arg(&agent.conf).output();
    let output = output.expect("weir starts");
    assert!(output.status.success(), "weir zones: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the agent's JSON")
}

#[test]
fn scrape_zones_and_audit_agree_over_ten_thousand_of_each() {
    world(|world| {
        let second = SocketAddr::new(HTTP.ip(), 8081);
        let conf = many_zones(world);
        let _origin = origin::process(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf.clone().http(&[HTTP, second]));
        // No process has room for both ends of all of them where open files are limited as usual.
        let _proxies = [
            world.proxy_called("first", &conf.clone().http(&[HTTP]), HTTP),
            world.proxy_called("second", &conf.http(&[second]), second),
        ];
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        (0..MANY).for_each(|n| *expected.entry(name(zone_of(n))).or_default() += 1);
        let half =
            |from: usize, address| websocket::connect_many(address, MANY / 2, |n| name(zone_of(from + n)));
        let clients: Vec<TcpStream> = [half(0, HTTP), half(MANY / 2, second)].into_iter().flatten().collect();

        let reply = eventually("the end of every other connection", LONG, || match agent.zones() {
            reply if reply.unattributed_sockets == 0 => Ok(reply),
            reply => Err(reply.unattributed_sockets.to_string()),
        });
        assert_eq!(by_zone(&reply), expected, "the API");
        assert_eq!(by_zone(&weir_zones(&agent)), expected, "weir zones");
        let scrape = agent.scrape();
        let scraped = scrape.of("weir_zone_websockets");
        assert_eq!(scraped.len(), MANY, "every zone has its series");
        let scraped: BTreeMap<String, u64> = scraped
            .into_iter()
            .filter(|(_, live)| *live > 0.0)
            .map(|(labels, live)| {
                let zone = labels.split(',').find_map(|pair| pair.strip_prefix("zone=\"")?.strip_suffix('"'));
                (zone.expect("a zone").to_owned(), live as u64)
            })
            .collect();
        assert_eq!(scraped, expected, "the scrape");
        let audit = agent.await_audit().audit;
        assert_eq!(
            (audit.sockets, audit.drift_sockets, audit.untracked_sockets),
            (MANY as u64, 0, 0),
            "the audit"
        );
        let seen = ss::accepted_on(HTTP.port()).len() + ss::accepted_on(second.port()).len();
        assert_eq!(seen, MANY, "and `ss`");

        drop(clients);
        eventually("empty books", LONG, || match agent.sockets() {
            0 => Ok(()),
            sockets => Err(format!("{sockets} sockets")),
        });
        agent.assert_never_drifted();
    });
}

#[test]
fn a_scrape_makes_no_system_call_for_a_zone() {
    world(|world| {
        let agent = world.agent(&many_zones(world));
        // The first one finds memory that later ones have.
        agent.scrape();
        let (calls, scrape) = tracer::count(agent.process.pid(), || agent.scrape());
        assert_eq!(scrape.of("weir_zone_websockets").len(), MANY);
        // What the allocator asks of the kernel depends on what it has at hand, not on what a scrape does.
        let of_memory =
            [libc::SYS_brk, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_munmap, libc::SYS_madvise];
        let all: u64 = calls
            .iter()
            .filter(|(call, _)| !of_memory.contains(&(**call as i64)))
            .map(|(_, times)| times)
            .sum();
        assert!(all > 5, "the tracer sees nothing: {calls:?}");
        assert!(all < MANY as u64 / 10, "{all} system calls, by number: {calls:?}");
        let of_bpf = calls.get(&(libc::SYS_bpf as u64)).copied().unwrap_or(0);
        // A few a program and a reason of the gate, whatever the number of zones.
        assert!(of_bpf < 40, "{of_bpf} calls of bpf(2)");
        assert_eq!(agent.get("/readyz").status, 200, "and it is let go as it was");
    });
}
