//! Denied prefixes: recorded, dropped by the gate, ended by the kernel, and kept through the agent's deaths.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, TcpListener, TcpStream},
    time::Duration,
};

use weir_common::names;
use weir_tests::{
    Agent, HTTP, SOON, World, eventually,
    gate::{Gate, packets, syn},
    net::{Elsewhere, this_end},
    world,
};

const ON_LO: &str = "interfaces = [{ name = \"lo\", mode = \"generic\" }]";
const NET: &str = "203.0.113.0/24";
const IN_NET: &str = "203.0.113.66";

fn from(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn kill(agent: Agent) {
    let Agent { mut process, .. } = agent;
    process.kill();
}

fn denied(world: &World) -> Vec<(String, String)> {
    let reply = world.hand(&["deny", "list", "--json"]).done().json();
    let rows = reply["denied"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row["prefix"]), text(&row["act"]["reason"]))).collect()
}

fn add(world: &World, prefix: &str, time: &str) -> String {
    world.hand(&["deny", "add", prefix, "--for", time, "--reason", "SYN flood, INC-42"]).done().stdout
}

#[test]
fn a_denied_prefix_is_dropped_told_and_let_in_again_by_itself() {
    world(|world| {
        let elsewhere = Elsewhere::new();
        let conf =
            world.conf().http(&[this_end()]).xdp("interfaces = [{ name = \"here\", mode = \"generic\" }]");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(this_end()).expect("a listener");
        let first = elsewhere.run(|| TcpStream::connect(this_end()).expect("nobody is denied yet"));
        let _first = (first, listener.accept().expect("accepted"));

        let said = add(world, "10.9.8.0/24", "8s");
        assert!(said.contains("new connections from 10.9.8.0/24 are dropped until"), "{said}");
        assert!(!said.contains("warning"), "{said}");
        let client = elsewhere.start(|| TcpStream::connect(this_end()).expect("a connection at last"));
        eventually("a dropped SYN", SOON, || match packets(&agent.host(), "drop", "deny_operator") {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        });
        listener.set_nonblocking(true).expect("a mode");
        assert!(listener.accept().is_err(), "the network stack saw nothing");
        let dropped =
            agent.scrape().value("weir_xdp_packets_total{verdict=\"drop\",reason=\"deny_operator\"}");
        assert!(dropped >= 1.0, "{dropped}");

        let acts = world.hand(&["acts", "--json"]).done().json();
        let act = &acts["acts"][0];
        assert_eq!((&act["act"], &act["prefix"]), (&"deny_add".into(), &"10.9.8.0/24".into()));
        assert_eq!((&act["who"], &act["reason"]), (&"root".into(), &"SYN flood, INC-42".into()));
        assert_eq!(denied(world), [("10.9.8.0/24".to_owned(), "SYN flood, INC-42".to_owned())]);
        let table = world.hand(&["deny", "list"]).done().stdout;
        assert!(table.contains("root") && table.contains("INC-42") && table.contains("s left"), "{table}");
        assert_eq!(agent.sockets(), 1, "whoever was connected stays");

        let _second = client.recv_timeout(SOON).expect("the client's kernel tries again after the end");
        assert_eq!(denied(world), [], "what has ended is in no list");
        assert_eq!(world.hand(&["acts", "--json"]).done().json()["acts"].as_array().map(Vec::len), Some(0));
        let history = world.hand(&["acts", "--history", "--json"]).done().json();
        assert_eq!(history["acts"][0]["reason"], "SYN flood, INC-42", "and stays in the ledger");
        world.hand(&["deny", "remove", "10.9.8.0/24", "--reason", "over"]).failed(1, "not in force");
    });
}

#[test]
fn a_removed_denial_ends_at_once_and_leaves_the_configurations_alone() {
    world(|world| {
        let conf = world.conf().xdp(ON_LO).xdp("deny = [\"198.51.100.0/24\"]");
        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let passes = |source: &str| gate.passes(&syn(from(source), HTTP));
        assert!(passes(IN_NET));
        add(world, NET, "1h");
        add(world, "198.51.100.0/24", "1h");
        add(world, "2001:db8:bad::/48", "1h");
        assert!(!passes(IN_NET) && !passes("198.51.100.1"));
        // Another end takes the place of the first, and the list has one entry.
        add(world, NET, "2h");
        assert_eq!(agent.scrape().value("weir_acts_in_force"), 3.0);
        assert_eq!(agent.scrape().value("weir_map_entries{map=\"WEIR_DENY\"}"), 3.0);

        world.hand(&["deny", "remove", NET, "--reason", "over"]).done();
        assert!(passes(IN_NET));
        world.hand(&["deny", "remove", "198.51.100.0/24", "--reason", "over"]).done();
        assert!(!passes("198.51.100.1"), "the configuration's part goes on");
        let left = [("198.51.100.0/24", ""), ("2001:db8:bad::/48", "SYN flood, INC-42")];
        assert_eq!(denied(world), left.map(|(prefix, why)| (prefix.to_owned(), why.to_owned())));
        world.hand(&["ledger", "verify"]).done();

        // Slips are refused before anything is recorded.
        let before = agent.scrape().value("weir_ledger_events");
        for slip in ["0.0.0.0/0", "203.0.113.7/24", "::/0", "::/80", "nobody"] {
            let said = world.hand(&["deny", "add", slip, "--for", "1h", "--reason", "x"]);
            assert_eq!(said.code, Some(1), "{slip}: {said:?}");
        }
        world.hand(&["deny", "remove", NET, "--reason", "again"]).failed(1, "not in force");
        assert_eq!(agent.scrape().value("weir_ledger_events"), before);
    });
}

#[test]
fn denials_are_kept_by_the_ledger_through_the_agents_deaths() {
    world(|world| {
        let conf = world.conf().xdp(ON_LO);
        let agent = world.agent(&conf);
        add(world, NET, "1h");
        add(world, "198.51.100.9", "9s");
        kill(agent);
        let gate = Gate::on("lo");
        let passes = |source: &str| gate.passes(&syn(from(source), HTTP));
        assert!(!passes(IN_NET), "without an agent, too");
        // Somebody has taken one out and put another in, behind everybody's back.
        let mut list = world.pinned_list(names::MAP_DENY);
        list.take(from(NET.trim_end_matches("/24")), 120);
        list.put(from("192.0.2.1"), 128, Duration::from_secs(3600));
        assert!(passes(IN_NET) && !passes("192.0.2.1"));

        let agent = world.agent(&conf);
        let gate = Gate::on("lo");
        let passes = |source: &str| gate.passes(&syn(from(source), HTTP));
        assert!(!passes(IN_NET), "the ledger says so");
        assert!(passes("192.0.2.1"), "and nothing of this one");
        eventually("the end of the short one, with the time that was left", SOON, || {
            if passes("198.51.100.9") { Ok(()) } else { Err("denied".to_owned()) }
        });
        assert_eq!(denied(world).len(), 1);
        assert!(!passes(IN_NET));
        kill(agent);

        // Recorded, and dead before the list was changed.
        let dying = world.agent_to_die(&conf, "recorded");
        world.hand(&["deny", "add", "192.0.2.0/24", "--for", "1h", "--reason", "x"]).failed(1, "went away");
        drop(dying);
        let _agent = world.agent(&conf);
        assert!(!Gate::on("lo").passes(&syn(from("192.0.2.77"), HTTP)));
        assert_eq!(denied(world).len(), 2);
    });
}

#[test]
fn a_denial_that_drops_nothing_says_why() {
    world(|world| {
        let agent = world.agent(&world.conf());
        let said = add(world, NET, "1h");
        assert!(
            said.contains("warning: nothing is dropped so far") && said.contains("[xdp] interfaces"),
            "{said}"
        );
        let list = world.hand(&["deny", "list"]).done().stdout;
        assert!(list.contains(NET) && list.contains("[xdp] interfaces"), "{list}");
        kill(agent);

        // As soon as there is a gate it holds.
        let agent =
            world.agent(&world.conf().xdp(ON_LO).xdp("dry_run = [\"deny\"]\nallow = [\"198.51.100.7\"]"));
        let said = add(world, "192.0.2.1", "1h");
        assert!(said.contains("xdp.dry_run"), "{said}");
        assert!(Gate::on("lo").passes(&syn(from(IN_NET), HTTP)));
        assert_eq!(packets(&agent.host(), "would_drop", "deny_operator"), 1);
        kill(agent);

        let _agent = world.agent(&world.conf().xdp(ON_LO).xdp("allow = [\"198.51.100.7\"]"));
        assert!(!Gate::on("lo").passes(&syn(from(IN_NET), HTTP)));
        let said = add(world, "198.51.100.0/24", "1h");
        assert!(said.contains("198.51.100.7/32 is on the allow list"), "{said}");
        assert!(!add(world, "192.0.2.2", "1h").contains("warning"));
    });
}
