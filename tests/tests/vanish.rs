//! Clients and origins that behave badly: while it lasts the books equal what `ss` shows, and at the end they are empty.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use weir_tests::{
    Agent, HTTP, ORIGIN, Proxy, SOON, World, ZoneConf, eventually, host,
    net::{self, Elsewhere},
    origin::{self, Manner},
    ss, websocket, world,
};

const A: &str = "a.test";
const MANY: usize = 200;

fn agent_and_proxy(world: &World) -> (Agent, Proxy) {
    let conf = world.conf().plan("p", 100, 1000).zone(A, "p");
    (world.agent(&conf), world.proxy(&conf, HTTP))
}

fn open(count: usize) -> Vec<TcpStream> {
    websocket::connect_many(HTTP, count, |_| A.to_owned())
}

/// Waits until `ss` shows this many sockets in these states and no others, and the books say the same.
fn await_seen(agent: &Agent, count: usize, states: &[&str]) {
    eventually(&format!("{count} sockets in {states:?}, in `ss` and in the books"), SOON, || {
        let seen = ss::accepted_on(HTTP.port());
        let (right, counted) =
            (seen.iter().all(|seen| states.contains(&seen.state.as_str())), agent.sockets());
        if right && seen.len() == count && counted == count as u64 {
            Ok(())
        } else {
            Err(format!("`ss` shows {}, the books say {counted}", summary(&seen)))
        }
    });
}

fn summary(seen: &[ss::Seen]) -> String {
    let mut states: Vec<&str> = seen.iter().map(|seen| seen.state.as_str()).collect();
    states.sort_unstable();
    let count = |state: &[&str]| format!("{} {}", state.len(), state[0]);
    states.chunk_by(|a, b| a == b).map(count).collect::<Vec<_>>().join(", ")
}

#[test]
fn clients_that_reset_are_gone_at_once() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let (agent, _proxy) = agent_and_proxy(world);
        let mut clients = open(MANY);
        await_seen(&agent, MANY, &["ESTAB"]);
        clients.drain(..MANY / 2).for_each(websocket::reset);
        await_seen(&agent, MANY / 2, &["ESTAB"]);
        assert_eq!(agent.zone(A).closed["abort"], MANY as u64 / 2);
        clients.into_iter().for_each(websocket::reset);
        agent.await_empty();
        assert_eq!(agent.zone(A).closed, [("abort".to_owned(), MANY as u64)].into());
        agent.assert_never_drifted();
    });
}

#[test]
fn clients_that_reset_before_they_are_answered_are_counted_nowhere() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let (agent, _proxy) = agent_and_proxy(world);
        for n in 0..MANY {
            let mut client = TcpStream::connect(HTTP).expect("a connection");
            let request = websocket::request(A);
            // Nothing, a part, and all of a request.
            client.write_all(&request.as_bytes()[..request.len() * (n % 3) / 2]).expect("sent");
            websocket::reset(client);
        }
        agent.await_empty();
        assert_eq!(ss::accepted_on(HTTP.port()).len(), 0);
        agent.assert_never_drifted();
    });
}

#[test]
fn clients_that_say_goodbye_and_stay_count_until_the_origin_has_said_it_too() {
    world(|world| {
        let mut origin = origin::process(world, ORIGIN, Manner::Mute);
        let (agent, _proxy) = agent_and_proxy(world);
        let clients = open(MANY);
        clients.iter().for_each(|client| client.shutdown(Shutdown::Write).expect("a FIN"));
        // A half-closed connection is a live kernel socket, and the origin may still have something to say.
        await_seen(&agent, MANY, &["CLOSE-WAIT"]);
        assert_eq!(agent.live(A), (MANY as u64, MANY as u64));
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);

        origin.kill();
        agent.await_empty();
        assert_eq!(agent.zone(A).closed["peer"], MANY as u64);
        drop(clients);
        agent.assert_never_drifted();
    });
}

#[test]
fn clients_that_say_goodbye_and_fall_silent_are_ended_after_a_time() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Mute);
        let conf = world.conf().proxy("half_closed_timeout = \"500ms\"").plan("p", 100, 1000).zone(A, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let (stay, mut leave) = (open(10), open(20));
        leave.iter().for_each(|client| client.shutdown(Shutdown::Write).expect("a FIN"));
        // Neither the client nor the origin does anything more.
        await_seen(&agent, 10, &["ESTAB"]);
        assert_eq!(agent.live(A), (10, 10), "who is merely quiet stays");
        for client in &mut leave {
            let _ended = client.read(&mut [0]);
        }
        drop(stay);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn clients_whose_cable_is_pulled_count_until_the_kernel_gives_them_up() {
    world(|world| {
        // The kernel gives up on unacknowledged data after three retransmissions instead of fifteen.
        host::set_sysctl("net/ipv4/tcp_retries2", "3");
        let elsewhere = Elsewhere::new();
        origin::serve(world, ORIGIN, Manner::Pour);
        let any: SocketAddr = SocketAddr::new([0, 0, 0, 0].into(), HTTP.port());
        let conf = world.conf().http(&[any]).plan("p", 100, 1000).zone(A, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        agent.await_empty();
        let clients = elsewhere.run(|| websocket::connect_many(net::this_end(), 20, |_| A.to_owned()));
        agent.await_live(A, 20, 20);
        await_seen(&agent, 20, &["ESTAB"]);

        elsewhere.pull_the_cable();
        // They read, so that the origin's data would go on; and then they die, and their RSTs get nowhere.
        drop(clients);
        await_seen(&agent, 20, &["ESTAB"]);
        agent.await_empty();
        assert_eq!(agent.zone(A).closed["abort"], 20);
        agent.assert_never_drifted();
    });
}

#[test]
fn orphans_with_unsent_data_count_until_the_kernel_is_rid_of_them() {
    world(|world| {
        let mut origin = origin::process(world, ORIGIN, Manner::Pour);
        let (agent, mut proxy) = agent_and_proxy(world);
        let mut clients = open(50);
        // Nobody reads: every buffer on the way fills up.
        eventually("data that waits in all of the proxy's sockets", SOON, || {
            let waiting = ss::accepted_on(HTTP.port()).iter().filter(|seen| seen.unsent_bytes > 0).count();
            if waiting == 50 { Ok(()) } else { Err(format!("in {waiting}")) }
        });
        proxy.process.kill();
        await_seen(&agent, 50, &["FIN-WAIT-1"]);
        assert_eq!(agent.live(A), (50, 50), "no process has them, and they are there");
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);

        let mut rest = Vec::new();
        for client in clients.drain(..25) {
            rest.clear();
            (&client).read_to_end(&mut rest).expect("what was under way, and the end");
            assert!(!rest.is_empty());
        }
        await_seen(&agent, 25, &["FIN-WAIT-1"]);
        clients.into_iter().for_each(websocket::reset);
        agent.await_empty();
        origin.kill();
        agent.assert_never_drifted();
    });
}

#[test]
fn upgrades_that_come_to_nothing_are_taken_back() {
    world(|world| {
        let at = |port| SocketAddr::new(ORIGIN.ip(), port);
        origin::serve(world, at(9002), Manner::Ok200);
        origin::serve(world, at(9003), Manner::Forbid403);
        origin::serve(world, at(9004), Manner::HangUp);
        origin::serve(world, at(9005), Manner::Echo);
        // What the client gets, and whether its connection lives on.
        let zones = [
            ("refuses.test", 9001, 502, "origin_unreachable"),
            ("says-200.test", 9002, 200, "no WebSocket here"),
            ("says-403.test", 9003, 403, "no WebSocket here"),
            ("hangs-up.test", 9004, 502, "origin_failed"),
        ];
        let conf = zones.iter().fold(world.conf().plan("p", 1, 1), |conf, (name, port, _, _)| {
            conf.with_zone(ZoneConf::new(name, "p").origin(at(*port)))
        });
        let conf = conf.with_zone(ZoneConf::new("fine.test", "p").origin(at(9005)));
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);

        // With a cap of one, a place that is not given back is seen at the second try.
        for (name, _, status, word) in zones {
            for _ in 0..5 {
                let answer = websocket::open(HTTP, name).expect("an answer").declined();
                assert_eq!(answer.status, status, "{name}: {}", answer.text());
                assert!(answer.text().contains(word), "{name}: {}", answer.text());
                eventually("a place that is free again", SOON, || match agent.zone(name).websockets {
                    0 => Ok(()),
                    other => Err(format!("{other} WebSockets of {name}")),
                });
            }
            let zone = agent.zone(name);
            assert_eq!((zone.admitted_total, zone.refused_total, zone.websockets_peak), (5, 0, 1), "{name}");
        }
        agent.await_empty();

        // A connection whose upgrade was declined stays its zone's socket, and may get one that is granted.
        let mut client = TcpStream::connect(HTTP).expect("a connection");
        for _ in 0..3 {
            client.write_all(websocket::request("says-200.test").as_bytes()).expect("sent");
            let answer = weir_tests::http::Answer::read(&mut client).expect("an answer");
            assert_eq!(answer.status, 200);
            agent.await_live("says-200.test", 1, 0);
        }
        client.write_all(websocket::request("fine.test").as_bytes()).expect("sent");
        assert_eq!(weir_tests::http::Answer::read(&mut client).expect("an answer").status, 101);
        assert_eq!((agent.live("says-200.test"), agent.live("fine.test")), ((0, 0), (1, 1)));
        drop(client);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_client_that_gives_up_while_its_origin_thinks_is_gone() {
    world(|world| {
        // A listening socket that nobody accepts on: connects, and never answers.
        let silent = world.block_on(async { origin::listen(ORIGIN) });
        let (agent, _proxy) = agent_and_proxy(world);
        let waiting: Vec<TcpStream> = (0..MANY)
            .map(|_| {
                let mut client = TcpStream::connect(HTTP).expect("a connection");
                client.write_all(websocket::request(A).as_bytes()).expect("sent");
                client
            })
            .collect();
        agent.await_live(A, MANY as u64, MANY as u64);
        await_seen(&agent, MANY, &["ESTAB"]);
        let mut half = waiting;
        half.drain(..MANY / 2).for_each(websocket::reset);
        await_seen(&agent, MANY / 2, &["ESTAB"]);
        drop(half);
        agent.await_empty();
        drop(silent);
        agent.assert_never_drifted();
    });
}
