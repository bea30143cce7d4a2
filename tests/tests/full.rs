//! Tables that are full: who passes, who is refused, what is told, and that no count is wrong for it.
#![forbid(unsafe_code)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use nix::{errno::Errno, sys::signal::Signal};
use weir_common::gate::{MAX_ALLOWED, MAX_DENIED};
use weir_tests::{
    Agent, Conf, HTTP, World, eventually,
    gate::{Gate, syn},
    host, sockopt, world,
};

const A: &str = "a.test";
/// Thousands of entries take a while to be read and written, in a debug build that others share the machine with.
const LONG: Duration = Duration::from_secs(60);

fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(HTTP).expect("a client");
    (client, listener.accept().expect("an accepted connection").0)
}

/// Asks for another configuration. Why it was refused.
fn refusal(world: &World, agent: &Agent, conf: &Conf) -> String {
    let before = agent.events_of("reload_failed").len();
    world.write("weir.toml", &conf.to_string());
    agent.process.signal(Signal::SIGHUP);
    eventually("a refused reload", LONG, || match agent.events_of("reload_failed").len() {
        now if now > before => Ok(()),
        _ => Err(format!("{:?}", agent.events_of("reload"))),
    });
    let last = agent.events_of("reload_failed").pop().and_then(|event| event.message);
    last.expect("it says why")
}

#[test]
fn a_configuration_that_no_table_has_room_for_changes_nothing_and_says_which() {
    world(|world| {
        let plan = || world.conf().agent("max_zones = 3").plan("p", 5, 10);
        let conf = (0..3).fold(plan(), |conf, n| conf.zone(&format!("{n}.test"), "p"));
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let held = pair(&listener);
        sockopt::admit(&held.1, "1.test").expect("admitted");

        let zones = refusal(world, &agent, &conf.clone().zone("3.test", "p"));
        assert!(zones.contains("4 zones") && zones.contains("3"), "{zones}");
        // The room is there by the configuration, and not in the kernel: a zone that was taken out still has a live socket.
        let another = (2..5).fold(plan(), |conf, n| conf.zone(&format!("{n}.test"), "p"));
        let draining = refusal(world, &agent, &another);
        assert!(draining.contains("zones") || draining.contains("slot"), "{draining}");

        let address = |n: u16| SocketAddr::new(Ipv4Addr::from(0x7f01_0000 + u32::from(n)).into(), 9100);
        let many = (0..1024).fold(conf.clone(), |conf, n| conf.listener(address(n), ""));
        let listeners = refusal(world, &agent, &many);
        assert!(listeners.contains("WEIR_LISTENERS") && listeners.contains("1024"), "{listeners}");

        let prefixes: Vec<_> =
            (0..=MAX_ALLOWED).map(|n| format!("\"{}\"", Ipv4Addr::from(0x0a00_0000 + n))).collect();
        let allow = refusal(world, &agent, &conf.clone().xdp(&format!("allow = [{}]", prefixes.join(", "))));
        assert!(allow.contains("`allow` has 16385 prefixes") && allow.contains("room for 16384"), "{allow}");

        // What was in force is in force.
        assert_eq!(agent.live("1.test"), (1, 1));
        let more = pair(&listener);
        for zone in ["0.test", "2.test"] {
            sockopt::attribute(&more.1, zone).expect("the first configuration's zone");
        }
        assert_eq!(sockopt::attribute(&more.1, "3.test"), Err(Errno::ENOENT));
        drop((held, more));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

/// A list is full by others' hands (verdicts): what an operator asks for is refused, with the list's name.
#[test]
fn a_denial_that_finds_a_full_list_is_told_and_drops_nobody() {
    world(|world| {
        let denied: Vec<_> =
            (0..MAX_DENIED).map(|n| format!("\"{}\"", Ipv4Addr::from(0x1400_0000 + n))).collect();
        let conf = world
            .conf()
            .xdp("interfaces = [{ name = \"lo\", mode = \"generic\" }]")
            .xdp(&format!("deny = [{}]", denied.join(", ")))
            .plan("p", 5, 10)
            .zone(A, "p");
        let agent = world.agent(&conf);
        let fill = agent.scrape();
        let most = f64::from(MAX_DENIED);
        assert_eq!(fill.value("weir_map_entries{map=\"WEIR_DENY\"}"), most, "an alarm can see it");
        let output = Command::new(host::weir())
            .args(["deny", "add", "198.51.100.7", "--for", "10m", "--reason", "a test", "--config"])
            .arg(&agent.conf)
            .output()
            .expect("weir starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "it says so");
        assert!(said.contains("the list of denied prefixes is full: it has room for 262144"), "{said}");
        let gate = Gate::on("lo");
        let passes = |from: [u8; 4]| gate.passes(&syn(Ipv4Addr::from(from).into(), HTTP));
        assert!(passes([198, 51, 100, 7]), "there was no room for it");
        assert!(!passes([20, 0, 0, 1]), "and what is there holds");
    });
}

/// The kernel bounds what programs may keep with one socket; a socket without a tag is not ours, whatever happens to it.
#[test]
fn a_socket_that_the_kernel_keeps_no_tag_for_passes_uncounted_and_is_told() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let before = pair(&listener);
        host::set_sysctl("net/core/optmem_max", "0");
        let without = pair(&listener);
        assert_eq!(agent.sockets(), 1, "one of both");
        assert_eq!(agent.scrape().value("weir_untracked_total"), 1.0);
        assert_eq!(sockopt::admit(&without.1, A), Err(Errno::ENOMEM));
        assert_eq!(agent.live(A), (0, 0), "a step that fails leaves nothing behind");
        assert_eq!(agent.await_audit().audit.untracked_sockets, 1, "the audit tells of it");
        host::set_sysctl("net/core/optmem_max", "131072");
        sockopt::admit(&without.1, A).expect("there is room again");
        sockopt::admit(&before.1, A).expect("and for others");
        assert_eq!(agent.live(A), (2, 2));
        drop((before, without));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}
