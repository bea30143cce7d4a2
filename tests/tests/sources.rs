//! Sources: exact live sockets per prefix of the client's address, and caps per source.
#![forbid(unsafe_code)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
};

use nix::{
    errno::Errno,
    sys::socket::{Shutdown, shutdown},
};
use socket2::{Domain, Socket, Type};
use weir_common::{
    listener::{mapped, words},
    sockopt::Op,
    source::SourceKey,
};
use weir_tests::{Agent, HTTP, SOON, World, eventually, http, sockopt, world};

const A: &str = "a.test";
const B: &str = "b.test";

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A connection from an address of this host, both ends.
fn pair_from(from: IpAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let to = listener.local_addr().expect("bound");
    let to = SocketAddr::new(
        if from.is_ipv4() { local(1) } else { "::1".parse().expect("an address") },
        to.port(),
    );
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this host");
    socket.connect(&to.into()).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    (socket.into(), accepted)
}

fn sources(agent: &Agent) -> Vec<(String, u64)> {
    agent.sources("").top.into_iter().map(|source| (source.source, source.sockets)).collect()
}

fn of(source: &str, sockets: u64) -> (String, u64) {
    (source.to_owned(), sockets)
}

fn await_sources(agent: &Agent, expected: &[(String, u64)]) {
    eventually("these sources", SOON, || match sources(agent) {
        seen if seen == expected => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// An agent with two zones and this many lines more of their plan.
fn two_zones(world: &World, lines: &[&str]) -> (Agent, TcpListener) {
    let conf = world.conf().http(&["[::]:8080".parse().expect("an address")]).plan("small", 100, 1000);
    let conf = lines.iter().fold(conf, |conf, line| conf.of_plan(line)).zone(A, "small").zone(B, "small");
    (world.agent(&conf), TcpListener::bind("[::]:8080").expect("a listener"))
}

#[test]
fn live_sockets_are_counted_per_source_from_birth_to_death() {
    world(|world| {
        let (agent, listener) = two_zones(world, &[]);
        let mut three: Vec<_> = (0..3).map(|_| pair_from(local(2), &listener)).collect();
        let one = pair_from(local(3), &listener);
        let two: Vec<_> = (0..2).map(|_| pair_from("::1".parse().expect("an address"), &listener)).collect();
        // IPv4 clients of a dual-stack listener are IPv4 sources.
        assert_eq!(sources(&agent), [of("127.0.0.2/32", 3), of("::/64", 2), of("127.0.0.3/32", 1)]);
        assert_eq!(agent.scrape().value("weir_sources"), 3.0);

        // What becomes of a socket does not matter to its source.
        sockopt::attribute(&three[0].1, A).expect("attributed");
        sockopt::admit(&three[1].1, A).expect("admitted");
        sockopt::admit(&one.1, A).expect("admitted");
        sockopt::admit(&two[0].1, B).expect("admitted");
        assert_eq!(sources(&agent)[0], of("127.0.0.2/32", 3));
        let of_a = agent.sources("&zone=a.test");
        let rows: Vec<_> =
            of_a.top.iter().map(|row| (row.source.as_str(), row.sockets, row.websockets)).collect();
        assert_eq!(rows, [("127.0.0.2/32", 2, Some(1)), ("127.0.0.3/32", 1, Some(1))]);
        assert_eq!((of_a.sources, of_a.sockets, of_a.uncounted), (2, 3, Some(0)));
        assert_eq!(agent.get("/api/sources?zone=nobody.test").status, 404);

        drop(three.pop());
        await_sources(&agent, &[of("127.0.0.2/32", 2), of("::/64", 2), of("127.0.0.3/32", 1)]);
        drop((three, one, two));
        agent.await_no_sources();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_cap_per_source_refuses_exactly_the_sockets_that_came_above_it() {
    world(|world| {
        let (agent, listener) = two_zones(world, &["source_cap = 2"]);
        let pairs: Vec<_> = (0..4).map(|_| pair_from(local(2), &listener)).collect();
        let other = pair_from(local(3), &listener);
        // Whoever is spoken for first.
        let attributed: Vec<_> =
            pairs.iter().rev().map(|(_, accepted)| sockopt::attribute(accepted, A)).collect();
        assert_eq!(attributed, [Err(Errno::ENOSPC), Err(Errno::ENOSPC), Ok(()), Ok(())]);
        assert_eq!(sockopt::admit(&pairs[3].1, B), Err(Errno::ENOSPC), "and by no other way");
        assert_eq!(sockopt::admit(&other.1, A), Ok(()), "another source has a cap of its own");
        assert_eq!(agent.live(A), (3, 1));
        assert_eq!(agent.live(B), (0, 0));
        assert_eq!((agent.zone(A).refused["source_cap"], agent.zone(B).refused["source_cap"]), (2, 1));
        // Those that are refused are sockets all the same.
        assert_eq!(sources(&agent)[0], of("127.0.0.2/32", 4));

        drop(pairs);
        await_sources(&agent, &[of("127.0.0.3/32", 1)]);
        let again = pair_from(local(2), &listener);
        assert_eq!(sockopt::attribute(&again.1, A), Ok(()));
        agent.assert_never_drifted();
    });
}

#[test]
fn the_proxy_answers_503_above_its_cap_per_source() {
    world(|world| {
        let conf = world.conf().proxy("source_cap = 1").plan("small", 10, 100).zone(A, "small");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        agent.await_no_sources();
        let held = TcpStream::connect(HTTP).expect("a connection");
        await_sources(&agent, &[of("127.0.0.1/32", 1)]);
        let answer = http::get(HTTP, A, "/").expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("\"reason\":\"source_cap\""), "{}", answer.text());
        drop(held);
        agent.await_no_sources();
        assert_ne!(http::get(HTTP, A, "/").expect("an answer").status, 503);
    });
}

#[test]
fn a_full_table_of_sources_lets_sockets_pass_and_says_so() {
    world(|world| {
        let conf = world
            .conf()
            .agent("max_sources = 1")
            .plan("small", 2, 3)
            .of_plan("source_cap = 1")
            .zone(A, "small");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let first = pair_from(local(2), &listener);
        let rest: Vec<_> = (0..3).map(|_| pair_from(local(3), &listener)).collect();
        assert_eq!(sources(&agent), [of("127.0.0.2/32", 1)]);
        let uncounted = || agent.scrape().value("weir_sources_uncounted_total{reason=\"table_full\"}");
        assert_eq!(uncounted(), 3.0);
        for (_, accepted) in &rest {
            assert_eq!(sockopt::attribute(accepted, A), Ok(()), "no count, no cap");
        }
        assert_eq!(agent.sources("&zone=a.test").uncounted, Some(3));
        drop(first);
        await_sources(&agent, &[]);
        let again = pair_from(local(3), &listener);
        assert_eq!(sources(&agent), [of("127.0.0.3/32", 1)], "there is room again");
        // Those that were not counted are not subtracted either.
        drop(rest);
        eventually("one socket", SOON, || match agent.sockets() {
            1 => Ok(()),
            sockets => Err(format!("{sockets} sockets")),
        });
        assert_eq!(sources(&agent), [of("127.0.0.3/32", 1)]);
        drop(again);
        agent.await_no_sources();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_leaves_the_row_that_it_joined_whatever_the_prefix_is_by_then() {
    world(|world| {
        let conf = world.conf().plan("small", 2, 3).zone(A, "small");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let old = pair_from(local(2), &listener);
        let reloads = || agent.scrape().value("weir_config_reloads_total{outcome=\"success\"}");
        let before = reloads();
        world.write("weir.toml", &conf.agent("source_prefix_v4 = 24").to_string());
        eventually("a reload", SOON, || if reloads() > before { Ok(()) } else { Err("none".to_owned()) });
        let new: Vec<_> = (3..5).map(|last| pair_from(local(last), &listener)).collect();
        assert_eq!(sources(&agent), [of("127.0.0.0/24", 2), of("127.0.0.2/32", 1)]);
        drop(old);
        await_sources(&agent, &[of("127.0.0.0/24", 2)]);
        drop(new);
        agent.await_no_sources();
        agent.assert_never_drifted();
    });
}

/// Rows are made and deleted while others join them: what a source's last and first sockets do to each other.
#[test]
fn sources_are_exact_while_their_rows_come_and_go() {
    const THREADS: u8 = 8;
    const ROUNDS: usize = 400;
    world(|world| {
        let conf = world.conf().plan("small", 2, 3).zone(A, "small");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let acceptor = listener.try_clone().expect("a listener");
        let stays = pair_from(local(9), &listener);
        // Not by number: what is reset while the queue is full is never accepted.
        let accepting = thread::spawn(move || while acceptor.accept().map(drop).is_ok() {});
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                        // Resets, so that no port is kept.
                        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a linger");
                        socket.bind(&SocketAddr::new(local(2 + thread % 3), 0).into()).expect("an address");
                        socket.connect(&HTTP.into()).expect("a connection");
                    }
                });
            }
        });
        shutdown(listener.as_raw_fd(), Shutdown::Both).expect("a listener that ends");
        accepting.join().expect("nothing more to accept");
        await_sources(&agent, &[of("127.0.0.9/32", 1)]);
        agent.assert_never_drifted();
        drop(stays);
        agent.await_no_sources();
    });
}

fn correction(last: u8, add: i64) -> Vec<u8> {
    let address = mapped(u32::from_ne_bytes([127, 0, 0, last]));
    assert_eq!(address, words(Ipv4Addr::new(127, 0, 0, last).to_ipv6_mapped().octets()));
    let key = SourceKey::of(&address, 32, 64);
    let mut value: Vec<u8> = key.address.iter().flat_map(|word| word.to_ne_bytes()).collect();
    value.extend(key.prefix_len.to_ne_bytes());
    value.extend([0; 4]);
    value.extend(add.to_ne_bytes());
    value
}

#[test]
fn a_wrong_count_of_a_source_is_found_told_and_set_right() {
    world(|world| {
        let conf = world.conf().plan("small", 2, 3).zone(A, "small");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let pairs: Vec<_> = (0..2).map(|_| pair_from(local(2), &listener)).collect();
        let break_it = |last, add| {
            sockopt::raw(&listener, Op::CorrectSource as i32, &correction(last, add)).expect("broken");
        };
        // Too high; a row that counts nobody; too low, until the row is gone.
        for (last, add) in [(2, 5), (7, 3), (2, -1), (2, -2)] {
            break_it(last, add);
            await_sources(&agent, &[of("127.0.0.2/32", 2)]);
        }
        assert!(agent.scrape().value("weir_audit_repairs_total") >= 4.0);
        assert!(!agent.events_of("drift").is_empty());
        drop(pairs);
        agent.await_no_sources();
        let audit = agent.await_audit().audit;
        assert_eq!(audit.source_drift_sockets, 0);
    });
}
