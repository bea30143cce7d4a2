//! The XDP gate on the real kernel: frames that are made up and run through the program as it stands, and real connections over a
//! cable between two namespaces.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use weir_common::{gate::MAX_RATES, listener::WEBSOCKETS, names};
use weir_tests::{
    Agent, HTTP, SOON, World, eventually,
    gate::{ACK, Gate, SYN, frame, mode_on, packets, program_on, syn},
    ip,
    net::{Elsewhere, this_end},
    sockopt, world,
};

const ON_LO: &str = "interfaces = [{ name = \"lo\", mode = \"generic\" }]";
const DENIED: &str = "203.0.113.66";
const ALLOWED: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.1";
const HERE_6: &str = "[2001:db8:1::1]:8443";

fn from(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn to(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Runs the frame, and says what was done and counted: exactly one packet, for one reason.
fn verdict(agent: &Agent, gate: &Gate, frame: &[u8]) -> (bool, String) {
    let count = || -> BTreeMap<(String, String), u64> {
        let rows = agent.host().xdp.packets;
        rows.into_iter().map(|row| ((row.verdict, row.reason), row.packets)).collect()
    };
    // Our own requests cross the same interface, so only what moved by this frame's kind is looked at: SYNs and refusals.
    let before = count();
    let passed = gate.passes(frame);
    let after = count();
    let background = ["not_syn", "not_ours"];
    let moved: Vec<_> = after
        .into_iter()
        .filter(|(key, packets)| before.get(key).copied().unwrap_or(0) < *packets)
        .map(|((verdict, reason), _)| format!("{verdict} {reason}"))
        .collect();
    let told: Vec<_> =
        moved.iter().filter(|told| !background.iter().any(|other| told.ends_with(other))).collect();
    match told.as_slice() {
        [] => (passed, "pass".to_owned()),
        [one] => (passed, (*one).clone()),
        more => panic!("counted more than once: {more:?}"),
    }
}

#[test]
fn named_frames_get_their_verdicts() {
    world(|world| {
        let conf = world
            .conf()
            .http(&[to("192.0.2.1:8080"), to("[::]:8443")])
            .xdp(ON_LO)
            .xdp("deny = [\"203.0.113.0/24\", \"2001:db8:bad::/48\"]\nallow = [\"203.0.113.7\"]");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let here = to("192.0.2.1:8080");
        let denied = syn(from(DENIED), here);
        let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat();
        let deny = (false, "drop deny_configured".to_owned());
        let clean = (true, "pass clean".to_owned());
        let aside = (true, "pass".to_owned());
        for (name, frame, expected) in [
            ("a stranger's SYN", syn(from(STRANGER), here), clean.clone()),
            ("a denied source's SYN", denied.clone(), deny.clone()),
            ("the same with a tag", tagged(&denied), deny.clone()),
            ("the same with two", tagged(&tagged(&denied)), deny.clone()),
            (
                "an allowed source inside of a denied prefix",
                syn(from(ALLOWED), here),
                (true, "pass allowed".into()),
            ),
            ("a denied source's ACK", frame(from(DENIED), here, ACK), aside.clone()),
            ("a denied source's SYN and ACK", frame(from(DENIED), here, SYN | ACK), aside.clone()),
            ("to another port", syn(from(DENIED), to("192.0.2.1:8081")), aside.clone()),
            ("to another address", syn(from(DENIED), to("192.0.2.2:8080")), aside.clone()),
            ("IPv4 to a dual-stack listener", syn(from(DENIED), to("192.0.2.9:8443")), deny.clone()),
            ("IPv6", syn(from("2001:db8:bad::1"), to(HERE_6)), deny.clone()),
            ("IPv6 of a stranger", syn(from("2001:db8:900d::1"), to(HERE_6)), clean.clone()),
            ("cut in its IPv4 header", denied[..30].to_vec(), aside.clone()),
            ("cut in its TCP header", denied[..46].to_vec(), aside.clone()),
            ("an Ethernet header", denied[..14].to_vec(), aside),
        ] {
            assert_eq!(verdict(&agent, &gate, &frame), expected, "{name}");
        }
        // IPv4 with options, and the fragment that hides its flags.
        let mut options = denied.clone();
        options[14] = 0x46;
        options.splice(34..34, [1, 1, 1, 0]);
        assert_eq!(verdict(&agent, &gate, &options), deny, "options");
        let mut tiny = denied[..42].to_vec();
        tiny[17] = 28;
        tiny[20] = 0x20;
        tiny.resize(60, 0);
        assert_eq!(verdict(&agent, &gate, &tiny), deny, "a first fragment without flags");
        let mut extended = syn(from("2001:db8:bad::1"), to(HERE_6));
        extended[20] = 60;
        extended.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(verdict(&agent, &gate, &extended), deny, "an extension header");
    });
}

#[test]
fn a_rule_that_runs_dry_counts_and_lets_pass() {
    world(|world| {
        let conf = world.conf().xdp(ON_LO).xdp("deny = [\"203.0.113.66\"]\ndry_run = [\"deny\"]");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        assert!(gate.passes(&syn(from(DENIED), HTTP)));
        assert_eq!(packets(&agent.host(), "would_drop", "deny_configured"), 1);
        assert_eq!(packets(&agent.host(), "drop", "deny_configured"), 0);
        let told = eventually_event(&agent, "syn_would_drop");
        assert_eq!(told.source, Some(from(DENIED)));
        world.write("weir.toml", &conf.to_string().replace("[\"deny\"]", "[\"syn_rate\"]"));
        agent.process.signal(Signal::SIGHUP);
        eventually("the rule in force", SOON, || match gate.passes(&syn(from(DENIED), HTTP)) {
            false => Ok(()),
            true => Err("it passed".to_owned()),
        });
        // At most one sample a second and reason.
        eventually("a sample", SOON, || {
            gate.passes(&syn(from(DENIED), HTTP));
            if agent.events_of("syn_dropped").is_empty() { Err("none".to_owned()) } else { Ok(()) }
        });
        let told = eventually_event(&agent, "syn_dropped");
        assert_eq!(told.reason.as_deref(), Some("deny_configured"));
    });
}

fn eventually_event(agent: &Agent, kind: &str) -> weir_agent::EventRecord {
    eventually(kind, SOON, || match agent.events_of(kind).pop() {
        Some(_) => Ok(()),
        None => Err("none".to_owned()),
    });
    agent.events_of(kind).pop().expect("there was one")
}

#[test]
fn an_entry_ends_by_the_kernels_clock_while_the_agent_is_dead() {
    world(|world| {
        let mut agent = world.agent(&world.conf().xdp(ON_LO).xdp("deny = [\"203.0.113.0/25\"]"));
        let gate = Gate::on("lo");
        agent.process.signal(Signal::SIGKILL);
        agent.process.wait(SOON);
        let mut deny = world.pinned_list(names::MAP_DENY);
        let (short, narrower) = (from("198.51.100.9"), from(DENIED));
        deny.put_by_verdict(short, 128, Duration::from_millis(700));
        deny.put_by_verdict(from("198.51.100.10"), 128, Duration::from_secs(3600));
        // Inside of a prefix that goes on.
        deny.put_by_verdict(narrower, 128, Duration::from_millis(700));
        assert!(!gate.passes(&syn(short, HTTP)), "it holds although nobody lives who could enforce it");
        eventually("the entry's end", SOON, || match gate.passes(&syn(short, HTTP)) {
            true => Ok(()),
            false => Err("denied".to_owned()),
        });
        assert_eq!(deny.len(), 4, "nobody has taken it out");
        assert!(!gate.passes(&syn(from("198.51.100.10"), HTTP)), "others hold");
        eventually("the narrower entry's end", SOON, || {
            assert!(!gate.passes(&syn(narrower, HTTP)), "what has ended hides nothing that holds");
            thread::yield_now();
            if deny_has_ended(&gate) { Ok(()) } else { Err("not yet".to_owned()) }
        });

        // The next agent finds what was left there. It sweeps what has ended, and what no verdict of its ledger stands behind.
        let agent = world.agent(&world.conf().xdp(ON_LO).xdp("deny = [\"203.0.113.0/25\"]"));
        eventually("a swept list", SOON, || match deny.len() {
            1 => Ok(()),
            other => Err(format!("{other} entries")),
        });
        assert!(gate.passes(&syn(from("198.51.100.10"), HTTP)));
        let scrape = agent.scrape();
        assert_eq!(scrape.value("weir_map_entries{map=\"WEIR_DENY\"}"), 1.0);
    });
}

/// The entry beside has the same end as the narrower one.
fn deny_has_ended(gate: &Gate) -> bool {
    gate.passes(&syn(from("198.51.100.9"), HTTP))
}

#[test]
fn syns_of_a_source_have_a_rate_and_others_have_their_own() {
    world(|world| {
        let conf =
            world.conf().http(&[to("[::]:8080")]).xdp(ON_LO).xdp("syn_rate = { per_second = 1, burst = 5 }");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let passed = |source: &dyn Fn(u32) -> IpAddr, to: SocketAddr| {
            let started = Instant::now();
            let passed = (0..50).filter(|n| gate.passes(&syn(source(*n), to))).count() as u64;
            // A token a second comes again.
            let most = 5 + started.elapsed().as_secs() + 1;
            assert!((5..=most).contains(&passed), "{passed} of 50 passed, with a burst of 5");
            passed
        };
        let first = passed(&|_| from(STRANGER), HTTP);
        assert!(gate.passes(&syn(from("198.51.100.2"), HTTP)), "another source has its own");
        assert_eq!(packets(&agent.host(), "drop", "syn_rate"), 50 - first);
        // A host has many IPv6 addresses, and is one source.
        let own_64 = |n: u32| from(&format!("2001:db8::{n:x}"));
        passed(&own_64, to("[2001:db8:1::1]:8080"));
        assert!(gate.passes(&syn(from("2001:db8:0:1::1"), to("[2001:db8:1::1]:8080"))), "another /64");
    });
}

#[test]
fn a_source_at_its_cap_of_live_sockets_is_dropped_until_one_ends() {
    world(|world| {
        let agent = world.agent(&world.conf().proxy("source_cap = 3").xdp(ON_LO));
        let gate = Gate::on("lo");
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let mine = syn(HTTP.ip(), HTTP);
        let mut live = Vec::new();
        for n in 0..3 {
            assert!(gate.passes(&mine), "below the cap: {n}");
            live.push((TcpStream::connect(HTTP).expect("a client"), listener.accept().expect("accepted")));
        }
        assert_eq!(verdict(&agent, &gate, &mine), (false, "drop source_cap".to_owned()));
        assert!(gate.passes(&syn(from("127.0.0.2"), HTTP)), "another source");
        live.pop();
        eventually("a place", SOON, || if gate.passes(&mine) { Ok(()) } else { Err("dropped".to_owned()) });
    });
}

#[test]
fn a_dedicated_listener_of_a_zone_that_is_full_or_blocked_is_answered_nothing() {
    world(|world| {
        let conf = world.conf().xdp(ON_LO).plan("p", 1, 2).of_plan("socket_cap = 3").zone("a.test", "p");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let slot = agent.zone("a.test").slot;
        let frame = syn(from(STRANGER), HTTP);
        let connect =
            || (TcpStream::connect(HTTP).expect("a client"), listener.accept().expect("accepted").0);
        let (first, second) = (connect(), connect());
        sockopt::admit(&first.1, "a.test").expect("admitted");
        sockopt::admit(&second.1, "a.test").expect("admitted");
        assert!(gate.passes(&frame), "a listener of all zones");

        world.dedicate(HTTP, slot, 0);
        assert!(gate.passes(&frame), "its zone is at its cap of WebSockets, but sockets may be had");
        world.dedicate(HTTP, slot, WEBSOCKETS);
        let full = (false, "drop websocket_cap".to_owned());
        assert_eq!(verdict(&agent, &gate, &frame), full, "every socket is a WebSocket there");
        world.dedicate(HTTP, slot, 0);
        let third = connect();
        assert_eq!(agent.zone("a.test").sockets, 3);
        assert_eq!(verdict(&agent, &gate, &frame), (false, "drop socket_cap".to_owned()));
        drop(third);
        eventually("a place", SOON, || if gate.passes(&frame) { Ok(()) } else { Err("dropped".to_owned()) });
        world.block(slot, true);
        assert_eq!(verdict(&agent, &gate, &frame), (false, "drop zone_blocked".to_owned()));
        world.block(slot, false);
        assert!(gate.passes(&frame));

        let scrape = agent.scrape();
        let dropped = scrape.of("weir_zone_xdp_dropped_total");
        let of = |reason: &str| {
            dropped.iter().find(|(labels, _)| labels.contains(reason)).map(|(_, count)| *count)
        };
        assert_eq!([of("websocket_cap"), of("zone_blocked")], [Some(1.0), Some(1.0)], "{dropped:?}");
        assert!(of("socket_cap") >= Some(1.0), "{dropped:?}");
        assert_eq!(eventually_event(&agent, "syn_dropped").zone.as_deref(), Some("a.test"));
        drop((first, second));
    });
}

#[test]
fn a_flood_of_made_up_sources_pushes_out_nothing_exact() {
    const FLOOD: u32 = 150_000;
    world(|world| {
        let conf = world
            .conf()
            .xdp(ON_LO)
            .xdp("deny = [\"203.0.113.66\"]\nsyn_rate = { per_second = 100, burst = 100 }")
            .plan("p", 5, 10)
            .zone("a.test", "p");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let live: Vec<_> = (0..7)
            .map(|_| (TcpStream::connect(HTTP).expect("a client"), listener.accept().expect("a connection")))
            .collect();
        world.pinned_list(names::MAP_DENY).put_by_verdict(
            from("198.51.100.10"),
            128,
            Duration::from_secs(3600),
        );
        const { assert!(FLOOD > 2 * MAX_RATES, "more than the table of rates has room for") };
        for n in 0..FLOOD {
            gate.passes(&syn(IpAddr::V4(Ipv4Addr::from_bits(0x2d00_0000 + n)), HTTP));
        }
        assert!(packets(&agent.host(), "pass", "clean") >= u64::from(FLOOD));
        assert!(!gate.passes(&syn(from(DENIED), HTTP)), "the configuration's entry stands");
        assert!(!gate.passes(&syn(from("198.51.100.10"), HTTP)), "the entry for a time stands");
        assert_eq!(agent.sockets(), live.len() as u64, "and the exact counts");
        drop(live);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn real_connections_are_dropped_and_pass_on_a_generic_gate() {
    connections("generic");
}

#[test]
fn real_connections_are_dropped_and_pass_on_a_native_gate() {
    connections("native");
}

fn connections(mode: &'static str) {
    world(move |world| {
        let elsewhere = Elsewhere::new();
        let conf = |deny: &str| {
            let interfaces = format!("interfaces = [{{ name = \"he*\", mode = \"{mode}\" }}]");
            world.conf().http(&[this_end()]).xdp(&interfaces).xdp(&format!("deny = [{deny}]"))
        };
        let agent = world.agent(&conf("\"10.9.8.2\""));
        assert_eq!(mode_on("here"), Some(mode));
        let shown = agent.host().xdp.interfaces;
        assert_eq!((shown.len(), shown[0].interface.as_str(), shown[0].mode.as_str()), (1, "here", mode));
        assert_eq!(shown[0].error, None);
        let info = format!("weir_xdp_interface_info{{interface=\"here\",mode=\"{mode}\"}}");
        assert_eq!(agent.scrape().value(&info), 1.0);

        let listener = TcpListener::bind(this_end()).expect("a listener");
        let client = elsewhere.start(|| TcpStream::connect(this_end()).expect("a connection at last"));
        eventually("a dropped SYN", SOON, || match packets(&agent.host(), "drop", "deny_configured") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        });
        listener.set_nonblocking(true).expect("a mode");
        assert!(listener.accept().is_err(), "the network stack saw nothing");

        // The client's kernel tries again.
        world.write("weir.toml", &conf("").to_string());
        agent.process.signal(Signal::SIGHUP);
        let stream = client.recv_timeout(SOON).expect("connected once it is not denied any more");
        let taken = agent.scrape().value("weir_xdp_packets_total{verdict=\"pass\",reason=\"clean\"}");
        assert!(taken >= 1.0, "{taken}");
        drop(stream);
    });
}

#[test]
fn interfaces_that_come_and_go_are_followed() {
    world(|world| {
        let patterns = "interfaces = [{ name = \"wt-no*\", mode = \"off\" }, { name = \"wt-*\", mode = \"generic\" }, \
                        { name = \"lo\", mode = \"native\" }]";
        let conf = world.conf().xdp(patterns);
        ip("link add wt-first type veth peer name peer1");
        let agent = world.agent(&conf);
        assert_eq!(mode_on("wt-first"), Some("generic"), "there at the start");
        ip("link add wt-later type veth peer name peer2");
        await_gates(&agent, &[("lo", "failed"), ("wt-first", "generic"), ("wt-later", "generic")]);
        assert_eq!(mode_on("wt-later"), Some("generic"));
        ip("link add wt-not type veth peer name peer3");
        ip("link set wt-first down");
        ip("link set wt-first name gone");
        await_gates(&agent, &[("lo", "failed"), ("wt-later", "generic")]);
        await_no_gate("gone");
        assert_eq!((program_on("wt-not"), program_on("peer3")), (None, None));
        ip("link delete wt-later");
        await_gates(&agent, &[("lo", "failed")]);

        // A driver without XDP keeps nothing else from being followed.
        let error = agent.host().xdp.interfaces.pop().and_then(|shown| shown.error);
        assert!(error.is_some_and(|error| error.contains("not supported")), "it says why");
        assert_eq!(agent.scrape().value("weir_xdp_interface_info{interface=\"lo\",mode=\"failed\"}"), 1.0);

        // What the configuration does not name any more is let go.
        ip("link add wt-last type veth peer name peer4");
        await_gates(&agent, &[("lo", "failed"), ("wt-last", "generic")]);
        world.write("weir.toml", &world.conf().to_string());
        agent.process.signal(Signal::SIGHUP);
        await_gates(&agent, &[]);
        await_no_gate("wt-last");
    });
}

#[test]
fn an_interface_that_was_made_anew_under_its_old_index_gets_its_gate() {
    world(|world| {
        let make = || ip("link add wt-one index 77 type veth peer name peer1");
        make();
        let agent = world.agent(&world.conf().xdp("interfaces = [{ name = \"wt-*\", mode = \"generic\" }]"));
        assert_eq!(mode_on("wt-one"), Some("generic"));
        agent.process.signal(Signal::SIGSTOP);
        ip("link delete wt-one");
        make();
        assert_eq!(mode_on("wt-one"), None);
        agent.process.signal(Signal::SIGCONT);
        eventually("a gate on the new interface", SOON, || match mode_on("wt-one") {
            Some("generic") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        await_gates(&agent, &[("wt-one", "generic")]);
    });
}

#[test]
fn a_rate_that_is_loosened_holds_for_sources_that_the_tighter_one_kept_out() {
    world(|world| {
        let conf = |rate: &str| world.conf().xdp(ON_LO).xdp(&format!("syn_rate = {{ {rate} }}"));
        let agent = world.agent(&conf("per_second = 1, burst = 1000"));
        let gate = Gate::on("lo");
        let mine = syn(from(STRANGER), HTTP);
        while gate.passes(&mine) {}
        let before = agent.scrape().value("weir_config_reloads_total{outcome=\"success\"}");
        world.write("weir.toml", &conf("per_second = 1000, burst = 2").to_string());
        agent.process.signal(Signal::SIGHUP);
        eventually("the looser rate", SOON, || {
            match agent.scrape().value("weir_config_reloads_total{outcome=\"success\"}") {
                now if now > before => Ok(()),
                now => Err(now.to_string()),
            }
        });
        // By the old rate it would be shut out for a quarter of an hour.
        for n in 0..5 {
            eventually("a token of the new rate", SOON, || match gate.passes(&mine) {
                true => Ok(()),
                false => Err(format!("the {n}th is dropped")),
            });
        }
    });
}

#[test]
fn more_headers_than_are_read_are_no_way_around_the_lists_and_the_rate() {
    world(|world| {
        let conf = world
            .conf()
            .http(&[to("[::]:8443")])
            .xdp(ON_LO)
            .xdp("deny = [\"2001:db8:bad::/48\"]\nallow = [\"2001:db8:900d::/48\"]")
            .xdp("syn_rate = { per_second = 1, burst = 3 }");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        // Destination options, 7 times.
        let long = |source: &str| {
            let mut frame = syn(from(source), to(HERE_6));
            frame[20] = 60;
            let header = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
            let headers: Vec<u8> = (0..7).flat_map(|n| header(if n == 6 { 6 } else { 60 })).collect();
            frame.splice(54..54, headers);
            let payload_len = u16::try_from(frame.len() - 54).expect("a short frame");
            frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
            frame
        };
        let denied = long("2001:db8:bad::1");
        assert_eq!(verdict(&agent, &gate, &denied), (false, "drop deny_configured".to_owned()));
        let allowed = long("2001:db8:900d::1");
        for _ in 0..9 {
            assert_eq!(verdict(&agent, &gate, &allowed), (true, "pass allowed".to_owned()));
        }
        let stranger = long("2001:db8:5::1");
        assert_eq!(verdict(&agent, &gate, &stranger), (true, "pass unread".to_owned()));
        eventually("no token left", SOON, || match gate.passes(&stranger) {
            false => Ok(()),
            true => Err("it passes".to_owned()),
        });
        assert!(packets(&agent.host(), "drop", "syn_rate") > 0);
    });
}

/// The kernel detaches a little after the link's last pin has gone.
fn await_no_gate(interface: &str) {
    eventually(&format!("no gate on {interface}"), SOON, || match program_on(interface) {
        None => Ok(()),
        Some(id) => Err(format!("program {id}")),
    });
}

fn await_gates(agent: &Agent, expected: &[(&str, &str)]) {
    eventually(&format!("gates {expected:?}"), SOON, || {
        let shown = agent.host().xdp.interfaces;
        let shown: Vec<_> = shown.iter().map(|gate| (gate.interface.as_str(), gate.mode.as_str())).collect();
        if shown == expected { Ok(()) } else { Err(format!("{shown:?}")) }
    });
}

#[test]
fn the_gate_outlives_its_agent_and_is_replaced_in_place() {
    world(|world| {
        let conf = world.conf().xdp(ON_LO).xdp("deny = [\"203.0.113.66\"]");
        let mut agent = world.agent(&conf);
        let (first, pin) = (program_on("lo").expect("a gate"), gate_pin(world));
        agent.process.signal(Signal::SIGKILL);
        agent.process.wait(SOON);
        assert_eq!(program_on("lo"), Some(first));
        assert!(!Gate::on("lo").passes(&syn(from(DENIED), HTTP)), "it stands without an agent");

        let mut agent = world.agent(&conf);
        let second = program_on("lo").expect("a gate");
        assert_ne!(first, second, "the new agent's program");
        assert_eq!(gate_pin(world), pin, "on the same link");
        assert!(!Gate::on("lo").passes(&syn(from(DENIED), HTTP)));
        agent.process.signal(Signal::SIGTERM);
        agent.process.wait(SOON);
        assert_eq!(program_on("lo"), Some(second));
        let mut unload = world.weir("unload", ["agent", "--unload", "--instance", world.instance()]);
        assert!(unload.wait(SOON).success());
        await_no_gate("lo");
    });
}

/// The pin of the one gate, and the number of its file.
fn gate_pin(world: &World) -> (String, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let pins = std::fs::read_dir(world.pins()).expect("pins").flatten();
    let mut gates = pins.filter(|pin| pin.file_name().to_string_lossy().starts_with("xdp_"));
    let pin = gates.next().expect("a gate");
    assert!(gates.next().is_none());
    (pin.file_name().to_string_lossy().into_owned(), pin.metadata().expect("a file").ino())
}
