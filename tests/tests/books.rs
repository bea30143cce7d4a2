//! The books: what `setsockopt` does to the counts of a zone, and what it refuses, on plain sockets without a proxy.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
};

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use weir_common::{ABI_VERSION, sockopt::Op};
use weir_tests::{ADMIN, Agent, HTTP, ORIGIN, SOON, World, eventually, sockopt, ss, websocket, world};

const A: &str = "a.test";
const B: &str = "b.test";

/// An agent with two zones that have room for three WebSockets each, and the listening socket of a proxy.
fn two_zones(world: &World) -> (Agent, TcpListener) {
    let conf = world.conf().plan("small", 2, 3).zone(A, "small").zone(B, "small");
    (world.agent(&conf), TcpListener::bind(HTTP).expect("a listener"))
}

/// Both ends of a connection: the client's, and the accepted one.
fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    (client, accepted)
}

fn unconnected() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

/// Everything of the books that an operation could change, in words.
fn all_counts(agent: &Agent) -> String {
    let reply = agent.zones();
    let of_zone = |zone: &weir_agent::ZoneRecord| {
        format!(
            "{}: {} sockets, {} WebSockets, peak {}, admitted {}",
            zone.zone, zone.sockets, zone.websockets, zone.websockets_peak, zone.admitted_total
        )
    };
    let zones: Vec<String> = reply.zones.iter().map(of_zone).collect();
    format!("unattributed {}; {}", reply.unattributed_sockets, zones.join("; "))
}

#[test]
fn a_socket_is_counted_from_birth_to_death_in_one_place_at_a_time() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let (client, accepted) = pair(&listener);
        assert_eq!(
            agent.zones().unattributed_sockets,
            1,
            "an accepted socket counts before anybody speaks for it"
        );

        assert_eq!(sockopt::attribute(&accepted, A), Ok(()));
        assert_eq!((agent.live(A), agent.zones().unattributed_sockets), ((1, 0), 0));
        assert_eq!(sockopt::attribute(&accepted, A), Ok(()), "once more is the same");
        assert_eq!(agent.live(A), (1, 0));
        assert_eq!(
            sockopt::attribute(&accepted, B),
            Ok(()),
            "a keep-alive connection may go on to another zone"
        );
        assert_eq!((agent.live(A), agent.live(B)), ((0, 0), (1, 0)));

        assert_eq!(sockopt::admit(&accepted, B), Ok(()));
        assert_eq!(agent.live(B), (1, 1));
        assert_eq!(sockopt::release(&accepted, B), Ok(()));
        assert_eq!(agent.live(B), (1, 0));
        assert_eq!(sockopt::admit(&accepted, A), Ok(()), "an admission attributes as well");
        assert_eq!((agent.live(A), agent.live(B)), ((1, 1), (0, 0)));

        drop((client, accepted));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn bytes_and_the_way_to_end_are_kept_when_a_socket_is_gone() {
    // TCP counts a FIN as a byte, and so does weir.
    const FIN: u64 = 1;
    world(|world| {
        let (agent, listener) = two_zones(world);
        let admitted = |zone: &str| {
            let (client, accepted) = pair(&listener);
            sockopt::admit(&accepted, zone).expect("admitted");
            (client, accepted)
        };

        let (mut client, mut accepted) = admitted(A);
        client.write_all(b"hello").expect("sent");
        accepted.read_exact(&mut [0; 5]).expect("received");
        accepted.write_all(b"goodbye").expect("sent");
        client.read_exact(&mut [0; 7]).expect("received");
        drop(client);
        drop(accepted);
        agent.await_empty();
        let zone = agent.zone(A);
        assert_eq!((zone.received_bytes_total, zone.sent_bytes_total), (5 + FIN, 7 + FIN));
        assert_eq!(zone.closed, [("peer".to_owned(), 1)].into(), "the client said goodbye first");

        let (client, accepted) = admitted(A);
        drop(accepted);
        drop(client);
        agent.await_empty();
        assert_eq!(agent.zone(A).closed["local"], 1);

        let (client, accepted) = admitted(A);
        websocket::reset(client);
        agent.await_empty();
        assert_eq!(agent.zone(A).closed["abort"], 1);
        drop(accepted);
        let zone = agent.zone(A);
        assert_eq!(zone.closed.values().sum::<u64>(), 3, "each socket ended once: {:?}", zone.closed);
        assert_eq!((zone.received_bytes_total, zone.sent_bytes_total), (5 + 2 * FIN, 7 + 2 * FIN));
    });
}

#[test]
fn what_is_refused_has_its_errno_and_changes_no_count() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let (_client, accepted) = pair(&listener);
        let (_other_client, other) = pair(&listener);
        sockopt::admit(&accepted, A).expect("admitted");
        sockopt::attribute(&other, A).expect("attributed");
        let (reset_client, reset) = pair(&listener);
        websocket::reset(reset_client);
        let (closed_client, mut closed) = pair(&listener);
        drop(closed_client);
        assert_eq!(closed.read(&mut [0]).expect("the end"), 0);
        closed.shutdown(Shutdown::Both).expect("closed");
        eventually("the end of two sockets", SOON, || match agent.sockets() {
            2 => Ok(()),
            sockets => Err(format!("{sockets} sockets")),
        });
        let before = all_counts(&agent);
        let key = weir_common::zone::ZoneKey::of(A).to_raw().to_ne_bytes();

        let refusals = [
            ("a second ADMIT", sockopt::admit(&accepted, A), Errno::EALREADY),
            ("ADMIT for a second zone", sockopt::admit(&accepted, B), Errno::EBUSY),
            ("ATTRIBUTE of another zone's WebSocket", sockopt::attribute(&accepted, B), Errno::EBUSY),
            ("RELEASE for a zone that it is not of", sockopt::release(&accepted, B), Errno::EBUSY),
            ("RELEASE of what is not admitted", sockopt::release(&other, A), Errno::EINVAL),
            ("ATTRIBUTE to an unknown zone", sockopt::attribute(&other, "unknown.test"), Errno::ENOENT),
            ("ADMIT to an unknown zone", sockopt::admit(&other, "unknown.test"), Errno::ENOENT),
            ("RELEASE from an unknown zone", sockopt::release(&other, "unknown.test"), Errno::ENOENT),
            ("ATTRIBUTE of a closed socket", sockopt::attribute(&closed, A), Errno::ENOTCONN),
            ("ADMIT of a closed socket", sockopt::admit(&closed, A), Errno::ENOTCONN),
            ("ATTRIBUTE of a socket that was reset", sockopt::attribute(&reset, A), Errno::ENOTCONN),
            ("ADMIT of a socket that was reset", sockopt::admit(&reset, A), Errno::ENOTCONN),
            ("ATTRIBUTE of a listening socket", sockopt::attribute(&listener, A), Errno::ENOTCONN),
            ("ADMIT of a listening socket", sockopt::admit(&listener, A), Errno::ENOTCONN),
            (
                "ATTRIBUTE of a socket before it is connected",
                sockopt::attribute(unconnected(), A),
                Errno::ENOTCONN,
            ),
            (
                "an option value that is too short",
                sockopt::raw(&other, Op::Admit as i32, &key[..4]),
                Errno::EINVAL,
            ),
            ("one that is too long", sockopt::raw(&other, Op::Admit as i32, &[0; 16]), Errno::EINVAL),
            ("an operation that does not exist", sockopt::raw(&other, 5, &key), Errno::EINVAL),
            ("another ABI version", sockopt::probe(&other, u64::from(ABI_VERSION) + 1), Errno::EPROTO),
        ];
        for (what, result, errno) in refusals {
            assert_eq!(result, Err(errno), "{what}");
        }
        assert_eq!(all_counts(&agent), before);
        assert_eq!(agent.zone(A).refused["already_admitted"], 1);
        assert_eq!(agent.zone(A).refused["socket_closed"], 7);
        assert_eq!(agent.host().refused["zone_unknown"], 3);
        assert_eq!(agent.host().refused["bad_length"], 2);
        assert_eq!(agent.zone(A).refused_total, 0, "nobody was turned away at a cap");
        agent.assert_never_drifted();
    });
}

#[test]
fn only_tcp_sockets_can_be_tagged() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        let before = all_counts(&agent);
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert_eq!(sockopt::attribute(&udp, A), Err(Errno::EOPNOTSUPP));
        assert_eq!(sockopt::admit(&udp, A), Err(Errno::EOPNOTSUPP));
        let (unix, _peer) = UnixStream::pair().expect("sockets");
        let unix = sockopt::admit(&unix, A);
        assert!(unix == Err(Errno::EOPNOTSUPP) || unix == Err(Errno::ENOPROTOOPT), "{unix:?}");
        assert_eq!(all_counts(&agent), before);
    });
}

#[test]
fn a_probe_answers_and_does_nothing() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let before = all_counts(&agent);
        assert_eq!(sockopt::probe(&listener, ABI_VERSION.into()), Ok(()));
        assert_eq!(sockopt::probe(unconnected(), ABI_VERSION.into()), Ok(()));
        assert_eq!(all_counts(&agent), before);
    });
}

#[test]
fn a_user_that_the_agent_does_not_allow_cannot_tag() {
    world(|world| {
        let conf = world.conf().plan("small", 2, 3).zone(A, "small").agent("tag_users = [\"daemon\"]");
        let agent = world.agent(&conf);
        let tags = |uid: &str| {
            let mut helper = world.helper(&format!("tag-{uid}"), ["tag", uid, &HTTP.to_string(), A]);
            let errnos = helper.hear();
            (helper, errnos)
        };
        let denied = Errno::EPERM as i32;

        let (helper, errnos) = tags("65533");
        assert_eq!(errnos, format!("[{denied},{denied},{denied},{denied}]"));
        assert_eq!((agent.live(A), agent.zones().unattributed_sockets), ((0, 0), 1));
        assert_eq!(agent.host().refused["caller_not_allowed"], 4);
        drop(helper);
        agent.await_empty();

        for allowed in ["nobody", "daemon"] {
            let user = nix::unistd::User::from_name(allowed).expect("users").expect("a user");
            let (helper, errnos) = tags(&user.uid.to_string());
            assert_eq!(errnos, "[0,0,0,0]", "{allowed} may");
            assert_eq!(agent.live(A), (1, 0));
            drop(helper);
            agent.await_empty();
        }
        agent.assert_never_drifted();
    });
}

#[test]
fn the_cap_refuses_the_one_above_it_and_frees_with_each_that_ends() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let mut pairs: Vec<_> = (0..5).map(|_| pair(&listener)).collect();
        let admitted: Vec<_> = pairs.iter().map(|(_, accepted)| sockopt::admit(accepted, A)).collect();
        assert_eq!(admitted, [Ok(()), Ok(()), Ok(()), Err(Errno::EDQUOT), Err(Errno::EDQUOT)]);
        let zone = agent.zone(A);
        assert_eq!((zone.sockets, zone.websockets, zone.websockets_peak), (3, 3, 3));
        assert_eq!((zone.admitted_total, zone.refused_total, zone.refused["abuse_cap"]), (3, 2, 2));
        assert_eq!(agent.zones().unattributed_sockets, 2, "who is refused stays where it was");
        assert_eq!(sockopt::admit(&pairs[3].1, B), Ok(()), "another zone has its own cap");

        drop(pairs.remove(0));
        agent.await_live(A, 2, 2);
        assert_eq!(sockopt::admit(&pairs[3].1, A), Ok(()));
        assert_eq!(agent.live(A), (3, 3));

        let refused = agent.events_of("refused");
        assert_eq!(refused[0].zone.as_deref(), Some(A));
        assert_eq!((refused[0].reason.as_deref(), refused[0].bound), (Some("abuse_cap"), Some(3)));
        let above = agent.events_of("above_guideline");
        assert_eq!(
            (above[0].websockets, above[0].bound),
            (Some(3), Some(2)),
            "the third is the first above two"
        );
        drop(pairs);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_cap_refuses_sockets() {
    world(|world| {
        let conf = world.conf().plan("few", 10, 10).of_plan("socket_cap = 2").zone(A, "few");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let pairs: Vec<_> = (0..4).map(|_| pair(&listener)).collect();
        assert_eq!(sockopt::attribute(&pairs[0].1, A), Ok(()));
        assert_eq!(sockopt::admit(&pairs[1].1, A), Ok(()));
        assert_eq!(sockopt::attribute(&pairs[2].1, A), Err(Errno::EMFILE));
        assert_eq!(
            sockopt::admit(&pairs[3].1, A),
            Err(Errno::EMFILE),
            "an admission needs a socket's place too"
        );
        assert_eq!(sockopt::admit(&pairs[0].1, A), Ok(()), "but not a second one");
        let zone = agent.zone(A);
        assert_eq!((zone.sockets, zone.websockets, zone.admitted_total), (2, 2, 2));
        assert_eq!((zone.refused["socket_cap"], zone.refused_total, zone.websockets_peak), (2, 2, 2));
        assert_eq!(agent.zones().unattributed_sockets, 2);
        drop(pairs);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_that_is_admitted_before_it_is_connected_counts_until_it_ends() {
    world(|world| {
        let (agent, _listener) = two_zones(world);

        let socket = unconnected();
        assert_eq!(sockopt::admit(&socket, A), Ok(()));
        assert_eq!(agent.live(A), (1, 1));
        assert_eq!(
            agent.await_audit().audit.drift_sockets,
            0,
            "the audit knows what the socket list cannot show"
        );
        socket.connect(&ADMIN.into()).expect("connected");
        assert_eq!(agent.live(A), (1, 1));
        drop(socket);
        agent.await_empty();

        let never = unconnected();
        assert_eq!(sockopt::admit(&never, A), Ok(()));
        drop(never);
        agent.await_empty();

        let refused = unconnected();
        assert_eq!(sockopt::admit(&refused, A), Ok(()));
        refused.connect(&ORIGIN.into()).expect_err("nobody listens there");
        agent.await_empty();
        drop(refused);

        let released = unconnected();
        assert_eq!(sockopt::admit(&released, A), Ok(()));
        assert_eq!(sockopt::release(&released, A), Ok(()));
        assert_eq!(agent.live(A), (1, 0));
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);
        drop(released);
        agent.await_empty();

        let zone = agent.zone(A);
        assert_eq!(zone.admitted_total, 4);
        assert_eq!(zone.closed.values().sum::<u64>(), 4, "{:?}", zone.closed);
        assert_eq!(
            zone.received_bytes_total, 0,
            "an origin's bytes are its client's, and are not counted twice"
        );
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_that_is_not_connected_yet_can_change_its_zone() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        let socket = unconnected();
        assert_eq!(sockopt::admit(&socket, A), Ok(()));
        assert_eq!(sockopt::release(&socket, A), Ok(()));
        assert_eq!(sockopt::admit(&socket, B), Ok(()));
        assert_eq!((agent.live(A), agent.live(B)), ((0, 0), (1, 1)));
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);
        socket.connect(&ADMIN.into()).expect("connected");
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);
        assert_eq!((agent.live(A), agent.live(B)), ((0, 0), (1, 1)));
        drop(socket);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_that_is_still_connecting_counts_and_is_no_drift() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        // A server that does not accept: once its queue is full it does not answer any more.
        let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        deaf.bind(&ORIGIN.into()).expect("bound");
        deaf.listen(0).expect("listening");
        let sockets: Vec<Socket> = (0..3)
            .map(|_| {
                let socket = unconnected();
                sockopt::admit(&socket, A).expect("admitted");
                socket.set_nonblocking(true).expect("O_NONBLOCK");
                let _in_progress = socket.connect(&ORIGIN.into());
                socket
            })
            .collect();
        eventually("a connection that is under way", SOON, || {
            let states: Vec<_> = ss::connected_to(ORIGIN.port()).into_iter().map(|seen| seen.state).collect();
            if states.iter().any(|state| state == "SYN-SENT") { Ok(()) } else { Err(format!("{states:?}")) }
        });
        assert_eq!(agent.live(A), (3, 3));
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);
        drop(sockets);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn an_admitted_socket_that_listens_instead_counts_until_it_is_closed() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        let socket = unconnected();
        assert_eq!(sockopt::admit(&socket, A), Ok(()));
        socket.bind(&ORIGIN.into()).expect("bound");
        socket.listen(8).expect("listening");
        let clients: Vec<_> = (0..2).map(|_| TcpStream::connect(ORIGIN).expect("a connection")).collect();
        assert_eq!(agent.live(A), (1, 1), "who connects to it is nobody's");
        assert_eq!(agent.await_audit().audit.drift_sockets, 0);
        drop((clients, socket));
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn sockets_of_ipv6_and_dual_stack_listeners_are_counted_from_birth() {
    world(|world| {
        let exact: SocketAddr = "[::1]:8081".parse().expect("an address");
        let dual: SocketAddr = "[::]:8082".parse().expect("an address");
        let any: SocketAddr = "0.0.0.0:8083".parse().expect("an address");
        let conf = world.conf().http(&[exact, dual, any]).plan("p", 10, 100).zone(A, "p");
        let agent = world.agent(&conf);
        let listeners: Vec<_> = [exact, dual, any]
            .iter()
            .map(|address| TcpListener::bind(address).expect("a listener"))
            .collect();
        let to = |address: &str, listener: &TcpListener| {
            let client = TcpStream::connect(address).expect("a connection");
            (client, listener.accept().expect("an accepted connection").0)
        };
        let pairs = [
            to("[::1]:8081", &listeners[0]),
            to("[::1]:8082", &listeners[1]),
            to("127.0.0.1:8082", &listeners[1]),
            to("127.0.0.1:8083", &listeners[2]),
            to("127.0.0.77:8083", &listeners[2]),
        ];
        assert_eq!(agent.zones().unattributed_sockets, 5);
        for (_, accepted) in &pairs {
            assert_eq!(sockopt::admit(accepted, A), Ok(()));
        }
        assert_eq!(agent.live(A), (5, 5));
        assert_eq!(agent.await_audit().audit.sockets, 5, "the audit finds all of them in the kernel's list");
        drop(pairs);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn sockets_of_other_listeners_and_clients_are_left_alone() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        let stranger = TcpListener::bind(ORIGIN).expect("a listener");
        let connection = pair(&stranger);
        assert_eq!(agent.sockets(), 0, "a port that is not ours");
        assert_eq!(sockopt::attribute(&connection.1, A), Ok(()), "until somebody who may speaks for it");
        assert_eq!(agent.live(A), (1, 0));
        drop(connection);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_socket_whose_client_never_closes_leaves_the_books_when_the_kernel_gives_it_up() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let (client, accepted) = pair(&listener);
        sockopt::admit(&accepted, A).expect("admitted");
        drop(accepted);
        // FIN-WAIT-2, and nobody's socket any more: the kernel keeps a stub of it for a minute.
        agent.await_empty();
        assert_eq!(ss::accepted_on(HTTP.port()).len(), 0);
        let audit = agent.await_audit().audit;
        assert_eq!(audit.untracked_sockets, 0, "a stub is no socket that was accepted before the agent came");
        assert_eq!(agent.zone(A).closed["local"], 1);
        drop(client);
        agent.assert_never_drifted();
    });
}

#[test]
fn sockets_of_another_network_namespace_are_not_ours() {
    world(|world| {
        let (agent, _listener) = two_zones(world);
        let before = all_counts(&agent);
        let elsewhere = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("another namespace");
            weir_tests::ip("link set lo up");
            let listener = TcpListener::bind(HTTP).expect("the same address");
            let connection = pair(&listener);
            let asked = [
                sockopt::probe(&connection.1, ABI_VERSION.into()),
                sockopt::attribute(&connection.1, A),
                sockopt::admit(&connection.1, A),
            ];
            (asked, ss::accepted_on(HTTP.port()).len(), connection)
        });
        let (asked, seen, _connection) = elsewhere.join().expect("what happened elsewhere");
        assert_eq!(asked, [Err(Errno::ENOPROTOOPT); 3], "as if no agent had ever been there");
        assert_eq!(seen, 1);
        assert_eq!(all_counts(&agent), before);
    });
}
