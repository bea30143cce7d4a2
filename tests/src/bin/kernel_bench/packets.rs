//! Nanoseconds a packet, by the kernel's own test run of the program that stands on an interface.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use weir_common::names;
use weir_tests::{
    Agent, Conf, HTTP, World, eventually,
    gate::{ACK, Gate, frame, syn},
};

use crate::{
    Sizes,
    bed::{Sources, connect_from},
    figures::{Report, turns},
};

const PART: &str = "a packet (BPF_PROG_TEST_RUN)";
const FULL_ZONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);
const BLOCKED_ZONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8091);
/// What a run may take of a source's burst: with more than this, the rate would be measured as a drop.
const WITHIN_BURST: u32 = 200_000;
const LONG: Duration = Duration::from_secs(3600);

fn client() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 7).into()
}

fn configuration(world: &World) -> Conf {
    world
        .conf()
        .audit("1h")
        .xdp("interfaces = [{ name = \"lo\", mode = \"generic\" }]")
        .xdp("allow = [\"198.51.100.1\"]")
        .xdp("deny = [\"203.0.113.0/24\"]")
        .proxy("source_cap = 2")
        .listener(FULL_ZONE, "zone = \"full.test\"")
        .listener(BLOCKED_ZONE, "zone = \"blocked.test\"")
        .plan("one", 1, 1)
        .zone("full.test", "one")
        .zone("blocked.test", "one")
}

pub fn measure(world: &World, sizes: &Sizes, report: &mut Report) {
    let conf = configuration(world);
    let agent = world.agent(&conf);
    // Both live on, so that the cap of their source and that of the zone are reached.
    let listeners = [HTTP, FULL_ZONE].map(|address| TcpListener::bind(address).expect("a listener"));
    let at_cap: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let _held: Vec<_> = [0, 0, 1].map(|n: usize| connect_from(at_cap, &listeners[n])).into();
    world.block(agent.zone("blocked.test").slot, true);
    let gate = Gate::on("lo");

    let any = client();
    let elsewhere = SocketAddr::new(HTTP.ip(), 9);
    let not_ours = [
        ("not a SYN: an ACK to our listener", frame(any, HTTP, ACK)),
        ("a SYN to no listener of ours", syn(any, elsewhere)),
    ];
    let dropped = [
        ("dropped: denied", syn(Ipv4Addr::new(203, 0, 113, 9).into(), HTTP)),
        ("dropped: its source is at its cap", syn(at_cap, HTTP)),
        ("dropped: its listener's zone is at its cap", syn(any, FULL_ZONE)),
        ("dropped: its listener's zone is blocked", syn(any, BLOCKED_ZONE)),
    ];
    let passed = ("a SYN that passes, tables as good as empty", syn(any, HTTP));
    let allowed = ("a SYN that passes by the allow list", syn(Ipv4Addr::new(198, 51, 100, 1).into(), HTTP));
    for (_, frame) in not_ours.iter().chain([&passed, &allowed]) {
        assert!(gate.passes(frame));
    }
    for (what, frame) in &dropped {
        assert!(!gate.passes(frame), "{what}");
    }
    let empty = Gate::empty();
    let mut cases = vec![(&empty, "an empty program", not_ours[0].1.clone())];
    let ours = not_ours.into_iter().chain([passed, allowed]).chain(dropped);
    cases.extend(ours.map(|(what, frame)| (&gate, what, frame)));
    rounds(sizes, sizes.packets, &mut cases, report);

    let with_rate = conf.xdp("syn_rate = { per_second = 1000000, burst = 1000000 }");
    reload(world, &agent, &with_rate);
    let repeat = sizes.packets.min(WITHIN_BURST);
    rounds(sizes, repeat, &mut [(&gate, "a SYN that passes, with a rate", syn(any, HTTP))], report);

    fill(world, sizes);
    let clean = (&gate, "a SYN that passes, all tables full, with a rate", syn(any, HTTP));
    rounds(sizes, repeat, &mut [(&empty, "an empty program, again", syn(any, HTTP)), clean], report);

    reload(world, &agent, &configuration(world).xdp("syn_rate = { per_second = 1, burst = 1 }"));
    gate.passes(&syn(any, HTTP));
    let over = (&gate, "dropped: its source is over its rate", syn(any, HTTP));
    let denied = syn(Ipv4Addr::new(203, 0, 113, 9).into(), HTTP);
    rounds(sizes, sizes.packets, &mut [over, (&gate, "dropped: denied, by a full list", denied)], report);
}

/// Fills every table that a SYN is looked up in.
fn fill(world: &World, sizes: &Sizes) {
    let prefix = |n: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n * 16));
    for (map, most) in [(names::MAP_ALLOW, 16_000), (names::MAP_DENY, u32::MAX)] {
        let mut list = world.pinned_list(map);
        // Lengths of every kind, so that the way down the trie is as long as it can be.
        (0..sizes.entries.min(most)).for_each(|n| list.put(prefix(n), 96 + 28 + n % 5, LONG));
    }
    let mut sources = Sources::open(world);
    (0..sizes.entries).for_each(|n| sources.put(prefix(n)));
}

fn reload(world: &World, agent: &Agent, conf: &Conf) {
    let done = || agent.scrape().value("weir_config_reloads_total{outcome=\"success\"}");
    let before = done();
    world.write("weir.toml", &conf.to_string());
    eventually("a reload", Duration::from_secs(60), || {
        if done() > before { Ok(()) } else { Err("none".to_owned()) }
    });
}

type Case<'a> = (&'a Gate, &'static str, Vec<u8>);

fn rounds(sizes: &Sizes, repeat: u32, cases: &mut [Case<'_>], report: &mut Report) {
    let values = turns(sizes.rounds, cases, |(gate, _, frame)| gate.time(frame, repeat).as_nanos() as f64);
    for ((_, what, _), values) in cases.iter().zip(values) {
        report.add(PART, what, "ns", values);
    }
}
