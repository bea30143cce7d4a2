//! A configuration that changes under live traffic: whole or not at all.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use nix::{errno::Errno, sys::signal::Signal};
use socket2::{Domain, Socket, Type};
use weir_tests::{
    Agent, Conf, HTTP, HTTPS, ORIGIN, Proxy, SOON, World, ZoneConf, eventually,
    origin::{self, Manner},
    sockopt, tls, websocket, world,
};

const A: &str = "a.test";
const B: &str = "b.test";
const C: &str = "c.test";

/// Agent, proxy, and an origin that echoes.
struct Host<'a> {
    world: &'a World,
    agent: Agent,
    proxy: Proxy,
}

impl<'a> Host<'a> {
    fn start(world: &'a World, conf: &Conf) -> Self {
        origin::serve(world, ORIGIN, Manner::Echo);
        Self { world, agent: world.agent(conf), proxy: world.proxy(conf, HTTP) }
    }

    /// Changes the files of both.
    fn write(&self, conf: &str) {
        self.world.write("weir.toml", conf);
        self.world.write("proxy.toml", conf);
    }

    fn reloads(&self, outcome: &str) -> f64 {
        self.agent.scrape().value(&format!("weir_config_reloads_total{{outcome=\"{outcome}\"}}"))
    }

    /// Changes the files, and waits until the agent is done with its own.
    fn reload(&self, conf: &Conf, outcome: &str) {
        let before = self.reloads(outcome);
        self.write(&conf.to_string());
        self.await_reload(outcome, before);
    }

    fn await_reload(&self, outcome: &str, before: f64) {
        eventually(&format!("a reload with {outcome}"), SOON, || match self.reloads(outcome) {
            now if now > before => Ok(()),
            now => Err(format!("{now}; {:?}", self.agent.events())),
        });
    }

    /// What the proxy answers to an upgrade.
    fn status(host: &str) -> u16 {
        match websocket::open(HTTP, host).expect("an answer") {
            websocket::Opened::Switched(_) => 101,
            websocket::Opened::Declined(answer) => answer.status,
        }
    }

    fn await_status(host: &str, status: u16) {
        eventually(&format!("{status} for {host}"), SOON, || match Self::status(host) {
            now if now == status => Ok(()),
            now => Err(now.to_string()),
        });
    }

    fn states(&self) -> Vec<(String, String)> {
        self.agent.zones().zones.into_iter().map(|zone| (zone.zone, zone.state)).collect()
    }
}

fn assert_echoes(stream: &mut TcpStream) {
    stream.write_all(b"still there?").expect("sent");
    let mut back = [0; 12];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"still there?");
}

fn configured(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "configured".to_owned())).collect()
}

#[test]
fn a_faulty_configuration_changes_nothing_and_names_its_place() {
    world(|world| {
        let good = world.conf().plan("p", 2, 3).zone(A, "p").zone(B, "p");
        let mut host = Host::start(world, &good);
        let mut client = websocket::connect(HTTP, A);
        let zones_before: Vec<_> =
            host.agent.zones().zones.iter().map(|zone| (zone.slot, zone.abuse_cap)).collect();

        // Two sound changes, and one fault: none of the three may have an effect.
        let faulty = world.conf().plan("p", 2, 300).zone(A, "p").zone(C, "nope").to_string();
        let line = faulty.lines().position(|line| line == "plan = \"nope\"").expect("the fault") + 1;
        host.write(&faulty);
        let place = |file: &str| format!("{}/{file}:{line}:8:", world.folder().display());
        let message = eventually("the agent's complaint", SOON, || {
            let failed = host.agent.events_of("reload_failed");
            failed.first().and_then(|event| event.message.clone()).ok_or_else(|| "no event".to_owned())
        });
        assert!(message.contains(&place("weir.toml")), "{message}");
        assert!(message.contains("there is no plan \"nope\""), "{message}");
        eventually("the proxy's complaint", SOON, || {
            let log = host.proxy.process.log();
            if log.contains(&place("proxy.toml")) && log.contains("nothing changed") {
                Ok(())
            } else {
                Err(log)
            }
        });
        let log = host.agent.process.log();
        assert!(log.contains(&place("weir.toml")) && log.contains("nothing changed"), "{log}");
        assert_eq!(
            (host.reloads("failure"), host.reloads("success")),
            (1.0, 1.0),
            "the start was the success"
        );

        assert_eq!(host.states(), configured(&[A, B]));
        let zones: Vec<_> = host.agent.zones().zones.iter().map(|zone| (zone.slot, zone.abuse_cap)).collect();
        assert_eq!(zones, zones_before);
        assert_echoes(&mut client);
        let _more = [websocket::connect(HTTP, A), websocket::connect(HTTP, A)];
        assert_eq!(
            (Host::status(A), Host::status(B), Host::status(C)),
            (503, 101, 421),
            "the old cap, the old zones"
        );

        // Both are asked by a signal too, and find the same fault.
        host.agent.process.signal(Signal::SIGHUP);
        host.await_reload("failure", 1.0);
        // And a file that is no TOML at all.
        host.write("instance = ");
        host.await_reload("failure", 2.0);
        let last =
            host.agent.events_of("reload_failed").pop().and_then(|event| event.message).unwrap_or_default();
        assert!(last.contains("weir.toml:1:12:"), "{last}");
        assert_echoes(&mut client);
        host.proxy.process.assert_running();
        host.agent.process.assert_running();

        host.reload(&good.clone().zone(C, "p"), "success");
        Host::await_status(C, 101);
        assert_echoes(&mut client);
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_certificate_that_cannot_be_served_changes_nothing_in_agent_and_proxy() {
    world(|world| {
        tls::certify(world, A);
        let pem = |host: &str| (format!("{host}.pem"), format!("{host}.key"));
        let zone = |host: &str, (cert, key): (String, String)| ZoneConf::new(host, "p").tls(&cert, &key);
        let good = world.conf().https(&[HTTPS]).plan("p", 2, 3).with_zone(zone(A, pem(A)));
        let host = Host::start(world, &good);
        world.write("b.test.pem", "no certificate\n");
        world.write("b.test.key", "no key\n");

        let failures = host.reloads("failure");
        host.write(&good.clone().with_zone(zone(B, pem(B))).to_string());
        host.await_reload("failure", failures);
        let message = host.agent.events_of("reload_failed").pop().and_then(|event| event.message);
        assert!(message.as_deref().is_some_and(|text| text.contains("b.test.pem")), "{message:?}");
        eventually("the proxy's complaint", SOON, || {
            let log = host.proxy.process.log();
            if log.contains("b.test.pem") && log.contains("nothing changed") { Ok(()) } else { Err(log) }
        });
        assert_eq!(host.states(), configured(&[A]));
        assert_eq!((Host::status(A), Host::status(B)), (101, 421));

        tls::certify(world, B);
        host.reload(&good.with_zone(zone(B, pem(B))).plan("unused", 1, 1), "success");
        Host::await_status(B, 101);
        assert_eq!(host.states(), configured(&[A, B]));
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_signal_reloads_without_a_change_of_any_file() {
    world(|world| {
        let host = Host::start(world, &world.conf().plan("p", 2, 3).zone(A, "p"));
        host.agent.process.signal(Signal::SIGHUP);
        host.await_reload("success", 1.0);
        host.proxy.process.signal(Signal::SIGHUP);
        eventually("the proxy's reload", SOON, || {
            let log = host.proxy.process.log();
            if log.contains("routes reloaded") { Ok(()) } else { Err(log) }
        });
        Host::await_status(A, 101);
    });
}

#[test]
fn a_zone_that_is_added_is_served_and_capped() {
    world(|world| {
        let conf = world.conf().plan("p", 1, 2).zone(A, "p");
        let host = Host::start(world, &conf);
        let mut client = websocket::connect(HTTP, A);
        assert_eq!(Host::status(B), 421);
        host.reload(&conf.zone(B, "p"), "success");
        assert_eq!(host.states(), configured(&[A, B]));
        Host::await_status(B, 101);
        host.agent.await_live(B, 0, 0);
        let _two = [websocket::connect(HTTP, B), websocket::connect(HTTP, B)];
        assert_eq!(Host::status(B), 503);
        assert_eq!(host.agent.live(B).1, 2);
        assert_echoes(&mut client);
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_changed_plan_is_in_force_at_once_and_cuts_nobody_off() {
    world(|world| {
        let with_cap = |cap| world.conf().plan("p", 1, cap).zone(A, "p");
        let host = Host::start(world, &with_cap(5));
        let mut clients: Vec<TcpStream> = (0..5).map(|_| websocket::connect(HTTP, A)).collect();
        assert_eq!(Host::status(A), 503);

        host.reload(&with_cap(2), "success");
        assert_eq!(host.agent.zone(A).abuse_cap, 2);
        clients.iter_mut().for_each(assert_echoes);
        clients.truncate(3);
        host.agent.await_live(A, 3, 3);
        assert_eq!(Host::status(A), 503, "three live, and a cap of two");
        clients.truncate(1);
        host.agent.await_live(A, 1, 1);
        clients.push(websocket::connect(HTTP, A));
        assert_eq!(Host::status(A), 503);

        host.reload(&with_cap(3), "success");
        clients.push(websocket::connect(HTTP, A));
        assert_eq!(Host::status(A), 503);
        clients.iter_mut().for_each(assert_echoes);
        assert_eq!(host.agent.scrape().of_zone("weir_zone_abuse_cap", A), 3.0);
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_zone_that_is_removed_drains_and_its_slot_inherits_nothing() {
    world(|world| {
        // Room for two: the third has to get the slot of the one that leaves.
        let conf = || world.conf().agent("max_zones = 2").plan("p", 1, 5);
        let host = Host::start(world, &conf().zone(A, "p").zone(B, "p"));
        let mut clients: Vec<TcpStream> = (0..4).map(|_| websocket::connect(HTTP, A)).collect();
        host.agent.await_live(A, 4, 4);
        let slot = host.agent.zone(A).slot;

        host.reload(&conf().zone(B, "p"), "success");
        assert_eq!(host.states(), [(A.into(), "draining".into()), (B.into(), "configured".into())]);
        Host::await_status(A, 421);
        assert_eq!(sockopt::admit(&clients[0], A), Err(Errno::ENOENT), "the kernel knows it no more");
        clients.iter_mut().for_each(assert_echoes);
        assert_eq!(host.agent.live(A), (4, 4), "what lives of it goes on being counted");
        assert_eq!(host.agent.scrape().of_zone("weir_zone_websockets", A), 4.0);
        clients.truncate(2);
        host.agent.await_live(A, 2, 2);

        let failures = host.reloads("failure");
        host.write(&conf().zone(B, "p").zone(C, "p").to_string());
        host.await_reload("failure", failures);
        let message = host.agent.events_of("reload_failed").pop().and_then(|event| event.message);
        assert!(message.as_deref().is_some_and(|text| text.contains("max_zones")), "{message:?}");
        assert_eq!(host.states(), [(A.into(), "draining".into()), (B.into(), "configured".into())]);

        clients.clear();
        eventually("the end of the drained zone", SOON, || match host.states() {
            states if states == configured(&[B]) => Ok(()),
            states => Err(format!("{states:?}")),
        });
        host.agent.process.signal(Signal::SIGHUP);
        eventually("the zone that had no room", SOON, || match host.states() {
            states if states == configured(&[B, C]) => Ok(()),
            states => Err(format!("{states:?}")),
        });
        let zone = host.agent.zone(C);
        assert_eq!(zone.slot, slot, "the slot of the zone that left");
        let inherited = (zone.sockets, zone.websockets, zone.websockets_peak, zone.websockets_peak_recent);
        assert_eq!(inherited, (0, 0, 0, 0));
        let totals = (zone.admitted_total, zone.refused_total, zone.received_bytes_total, zone.closed.len());
        assert_eq!(totals, (0, 0, 0, 0));
        assert_eq!(host.agent.scrape().of_zone("weir_zone_websockets_peak", C), 0.0);
        Host::await_status(C, 101);
        host.agent.assert_never_drifted();
    });
}

#[test]
fn what_was_admitted_can_be_released_when_its_zone_has_gone() {
    world(|world| {
        let conf = || world.conf().plan("p", 1, 3).zone(B, "p");
        let host = Host::start(world, &conf().zone(A, "p"));
        let admitted = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        sockopt::admit(&admitted, A).expect("admitted");
        host.reload(&conf(), "success");
        assert_eq!(sockopt::admit(&admitted, A), Err(Errno::ENOENT));
        assert_eq!(host.agent.live(A), (1, 1));
        assert_eq!(sockopt::release(&admitted, A), Ok(()));
        assert_eq!(host.agent.live(A), (1, 0));
        assert_eq!(sockopt::attribute(&admitted, B), Err(Errno::ENOTCONN), "not before it is connected");
        admitted.connect(&ORIGIN.into()).expect("connected");
        assert_eq!(sockopt::attribute(&admitted, B), Ok(()));
        assert_eq!(host.agent.live(B), (1, 0));
        eventually("the end of the drained zone", SOON, || match host.states() {
            states if states == configured(&[B]) => Ok(()),
            states => Err(format!("{states:?}")),
        });
        drop(admitted);
        host.agent.await_empty();
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_zone_that_comes_back_while_it_drains_keeps_its_counts() {
    world(|world| {
        let conf = || world.conf().plan("p", 1, 3).zone(B, "p");
        let host = Host::start(world, &conf().zone(A, "p"));
        let clients: Vec<TcpStream> = (0..3).map(|_| websocket::connect(HTTP, A)).collect();
        let slot = host.agent.zone(A).slot;
        host.reload(&conf(), "success");
        Host::await_status(A, 421);
        host.reload(&conf().zone(A, "p"), "success");
        Host::await_status(A, 503);
        let zone = host.agent.zone(A);
        assert_eq!((zone.websockets, zone.slot, zone.state.as_str()), (3, slot, "configured"));
        drop(clients);
        host.agent.await_live(A, 0, 0);
        Host::await_status(A, 101);
        host.agent.assert_never_drifted();
    });
}

#[test]
fn a_zone_that_was_removed_while_no_agent_ran_drains_too() {
    world(|world| {
        let conf = || world.conf().plan("p", 1, 3).zone(B, "p");
        let Host { mut agent, proxy, .. } = Host::start(world, &conf().zone(A, "p"));
        let mut clients: Vec<TcpStream> = (0..3).map(|_| websocket::connect(HTTP, A)).collect();
        agent.process.kill();
        let agent = world.agent(&conf());
        assert_eq!(agent.scrape().value("weir_zones{state=\"draining\"}"), 1.0);
        assert_eq!(agent.sockets(), 3);
        assert_eq!(agent.zones().zones.iter().filter(|zone| zone.state == "draining").count(), 1);
        clients.iter_mut().for_each(assert_echoes);
        drop(clients);
        eventually("the end of the drained zone", Duration::from_secs(10), || {
            match agent.scrape().value("weir_zones{state=\"draining\"}") {
                0.0 => Ok(()),
                other => Err(other.to_string()),
            }
        });
        drop(proxy);
        agent.assert_never_drifted();
    });
}
