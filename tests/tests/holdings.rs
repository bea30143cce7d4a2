//! What sockets carry and hold while they live: bytes, counted once each, and what the audit adds up.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use weir_tests::{
    Agent, HTTP, SOON, World, eventually,
    net::{Elsewhere, this_end},
    sockopt, world,
};

const A: &str = "a.test";
const B: &str = "b.test";
/// TCP counts a FIN as a byte, and so does weir.
const FIN: u64 = 1;

fn pair(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(to).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    (client, accepted)
}

fn two_zones(world: &World) -> (Agent, TcpListener) {
    let conf = world.conf().plan("p", 1000, 2000).zone(A, "p").zone(B, "p");
    (world.agent(&conf), TcpListener::bind(HTTP).expect("a listener"))
}

fn bytes(agent: &Agent, zone: &str) -> (u64, u64) {
    let zone = agent.zone(zone);
    (zone.received_bytes_total, zone.sent_bytes_total)
}

fn await_bytes(agent: &Agent, zone: &str, received: u64, sent: u64) {
    eventually(&format!("{received} and {sent} bytes"), SOON, || match bytes(agent, zone) {
        seen if seen == (received, sent) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

fn say(from: &mut TcpStream, to: &mut TcpStream, count: usize) {
    from.write_all(&vec![b'x'; count]).expect("sent");
    to.read_exact(&mut vec![0; count]).expect("received");
}

#[test]
fn bytes_show_while_a_socket_lives_and_are_exact_when_it_has_ended() {
    world(|world| {
        let (agent, listener) = two_zones(world);
        let (mut client, mut accepted) = pair(&listener, HTTP);
        // Before its zone is known: they are the zone's all the same.
        say(&mut client, &mut accepted, 100);
        agent.await_audit();
        sockopt::attribute(&accepted, A).expect("attributed");
        say(&mut accepted, &mut client, 7);
        await_bytes(&agent, A, 100, 7);
        say(&mut client, &mut accepted, 5000);
        await_bytes(&agent, A, 5100, 7);
        agent.await_audit();
        assert_eq!(bytes(&agent, A), (5100, 7), "an audit that finds nothing new adds nothing");
        let labels = format!("{{zone=\"{A}\",plan=\"p\"}}");
        assert_eq!(agent.scrape().value(&format!("weir_zone_received_bytes_total{labels}")), 5100.0);

        // The next agent goes on where the last one stopped.
        let Agent { mut process, .. } = agent;
        process.kill();
        say(&mut client, &mut accepted, 11);
        let agent = world.agent(&world.conf().plan("p", 1000, 2000).zone(A, "p").zone(B, "p"));
        await_bytes(&agent, A, 5111, 7);

        // In another zone it begins anew: what was one's is not another's.
        sockopt::attribute(&accepted, B).expect("attributed");
        say(&mut client, &mut accepted, 30);
        await_bytes(&agent, B, 30, 0);
        say(&mut client, &mut accepted, 2);
        drop((client, accepted));
        agent.await_empty();
        assert_eq!(bytes(&agent, A), (5111, 7));
        assert_eq!(bytes(&agent, B), (32 + FIN, FIN));

        // Shorter than an audit's interval.
        let (mut client, mut accepted) = pair(&listener, HTTP);
        sockopt::attribute(&accepted, A).expect("attributed");
        say(&mut client, &mut accepted, 9);
        drop((client, accepted));
        agent.await_empty();
        assert_eq!(bytes(&agent, A), (5111 + 9 + FIN, 7 + FIN));
        agent.assert_never_drifted();
    });
}

#[test]
fn bytes_of_both_families_and_of_dual_stack_listeners_show() {
    world(|world| {
        let any: SocketAddr = "[::]:8443".parse().expect("an address");
        let conf = world.conf().http(&[HTTP, any]).plan("p", 1000, 2000).zone(A, "p");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(any).expect("a listener");
        let mut total = 0;
        let mut held = Vec::new();
        for (to, count) in [("[::1]:8443", 10), ("127.0.0.1:8443", 200)] {
            let (mut client, mut accepted) = pair(&listener, to.parse().expect("an address"));
            sockopt::admit(&accepted, A).expect("admitted");
            say(&mut client, &mut accepted, count);
            total += count as u64;
            await_bytes(&agent, A, total, 0);
            held.push((client, accepted));
        }
        drop(held);
        agent.await_empty();
        assert_eq!(bytes(&agent, A), (total + 2 * FIN, 2 * FIN));
    });
}

#[test]
fn each_byte_is_counted_once_while_sockets_come_and_go_and_no_count_goes_back() {
    const CLIENTS: usize = 4;
    world(|world| {
        let (agent, listener) = two_zones(world);
        let listener = &listener;
        let (stop, said, born) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let seen = thread::scope(|scope| {
            for n in 0..CLIENTS {
                let (stop, said, born) = (&stop, &said, &born);
                scope.spawn(move || {
                    for round in (n..).step_by(CLIENTS) {
                        if stop.load(Relaxed) {
                            return;
                        }
                        // Each accepts some other's connection; all are alike.
                        let (mut client, mut accepted) = pair(listener, HTTP);
                        sockopt::attribute(&accepted, A).expect("attributed");
                        let count = 1 + round % 3000;
                        client.write_all(&vec![b'x'; count]).expect("sent");
                        said.fetch_add(count as u64, Relaxed);
                        born.fetch_add(1, Relaxed);
                        client.shutdown(std::net::Shutdown::Write).expect("said all");
                        accepted.read_to_end(&mut Vec::new()).expect("received");
                        drop((accepted, client));
                    }
                });
            }
            let audits = agent.scrape().value("weir_audits_total");
            let mut last = (0, 0);
            eventually("five audits of a busy host", SOON, || {
                let now = bytes(&agent, A);
                assert!(now.0 >= last.0 && now.1 >= last.1, "it went back: {last:?}, then {now:?}");
                last = now;
                match agent.scrape().value("weir_audits_total") - audits {
                    more if more >= 5.0 && born.load(Relaxed) > 200 => Ok(()),
                    more => Err(format!("{more} audits, {} sockets", born.load(Relaxed))),
                }
            });
            stop.store(true, Relaxed);
            last
        });
        agent.await_empty();
        let (said, born) = (said.load(Relaxed), born.load(Relaxed));
        assert_eq!(bytes(&agent, A), (said + born * FIN, born * FIN));
        assert!(seen.0 > 0);
        agent.assert_never_drifted();
    });
}

#[test]
fn an_audit_tells_what_a_zones_sockets_hold() {
    world(|world| {
        let elsewhere = Elsewhere::new();
        let conf = world.conf().http(&[HTTP, this_end()]).plan("p", 1000, 2000).zone(A, "p").zone(B, "p");
        let agent = world.agent(&conf);
        let listener = TcpListener::bind(HTTP).expect("a listener");
        assert_eq!(agent.zone(A).held, None);
        let (mut client, accepted) = pair(&listener, HTTP);
        sockopt::admit(&accepted, A).expect("admitted");
        client.write_all(&[b'x'; 1234]).expect("sent");
        let held = eventually("a full receive queue", SOON, || match agent.zone(A).held {
            Some(held) if held.receive_queue_bytes == 1234 => Ok(held),
            other => Err(format!("{other:?}")),
        });
        assert_eq!((held.sockets, held.send_queue_bytes, held.retransmits), (1, 0, 0));
        assert!(held.memory_bytes > 0, "{held:?}");
        assert!(held.rtt_median_seconds.is_some_and(|rtt| rtt > 0.0 && rtt < 5.0), "{held:?}");
        assert_eq!(held.rtt_median_seconds, held.rtt_p95_seconds, "of one socket");
        eventually("a socket that grows old", SOON, || match agent.zone(A).held {
            Some(held) if held.oldest_seconds > 1.0 && held.oldest_seconds < 60.0 => Ok(()),
            other => Err(format!("{other:?}")),
        });

        // A client on a cable that is pulled: what it does not acknowledge is held, and sent again.
        let far = TcpListener::bind(this_end()).expect("a listener");
        let _client = elsewhere.run(|| TcpStream::connect(this_end()).expect("a connection"));
        let (mut accepted_b, _) = far.accept().expect("an accepted connection");
        sockopt::admit(&accepted_b, B).expect("admitted");
        elsewhere.pull_the_cable();
        accepted_b.write_all(&[b'y'; 4321]).expect("queued");
        let held = eventually("segments sent again", SOON, || match agent.zone(B).held {
            Some(held) if held.retransmits > 0 => Ok(held),
            other => Err(format!("{other:?}")),
        });
        assert_eq!((held.sockets, held.send_queue_bytes, held.receive_queue_bytes), (1, 4321, 0));

        let scrape = agent.scrape();
        let of = |name: &str, zone: &str| scrape.get(&format!("{name}{{zone=\"{zone}\",plan=\"p\"}}"));
        assert_eq!(of("weir_zone_send_queue_bytes", B), Some(4321.0));
        assert_eq!(of("weir_zone_send_queue_bytes", A), Some(0.0));
        assert!(of("weir_zone_socket_memory_bytes", B) > Some(4321.0));
        assert_eq!(scrape.value("weir_send_queue_bytes"), 4321.0);
        assert_eq!(scrape.value("weir_receive_queue_bytes"), 1234.0);
        let all = agent.host().held.expect("an audit");
        assert_eq!((all.sockets, all.send_queue_bytes, all.receive_queue_bytes), (2, 4321, 1234));
        let told = world.hand(&["zone", "show", B]).done().stdout;
        assert!(told.contains("4321 not acknowledged") && told.contains("1 socket"), "{told}");
        world.hand(&["zone", "show", "z.test"]).failed(1, "z.test");

        drop((client, accepted));
        eventually("a zone without sockets", SOON, || match agent.zone(A).held {
            None => Ok(()),
            Some(held) => Err(format!("{held:?}")),
        });
        assert_eq!(
            agent.scrape().get(&format!("weir_zone_send_queue_bytes{{zone=\"{A}\",plan=\"p\"}}")),
            None
        );
    });
}
