//! A proxy that takes over from another one under load, with the kernel's books on both.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use nix::sys::signal::Signal;
use weir_tests::{
    HTTP, ORIGIN, SOON, eventually,
    origin::{self, Manner},
    ss, websocket, world,
};

const A: &str = "a.test";
/// WebSockets that live through every takeover.
const HELD: usize = 50;
const CLIENTS: usize = 4;
const TAKEOVERS: usize = 3;

#[test]
fn a_takeover_under_load_refuses_nobody_and_the_counts_are_right_all_the_time() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let path = world.folder().join("proxy.sock");
        let conf = world.conf().plan("p", 1000, 5000).zone(A, "p");
        let conf = conf.proxy(&format!("takeover = {path:?}")).proxy("drain_timeout = \"5m\"");
        let agent = world.agent(&conf);
        let mut proxies = vec![world.proxy_called("proxy0", &conf, HTTP)];
        let mut held = websocket::connect_many(HTTP, HELD, |_| A.to_owned());
        agent.await_live(A, HELD as u64, HELD as u64);

        let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let storm = || {
                while !stop.load(Relaxed) {
                    let client = websocket::open(HTTP, A);
                    let mut client = client.expect("never refused, never reset").stream();
                    client.write_all(b"!").expect("sent");
                    client.read_exact(&mut [0]).expect("an echo");
                    opened.fetch_add(1, Relaxed);
                }
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(storm)).collect();
            let more = |what: &str| {
                let seen = opened.load(Relaxed) + 100;
                eventually(what, SOON, || match opened.load(Relaxed) {
                    now if now >= seen || clients.iter().any(|client| client.is_finished()) => Ok(()),
                    now => Err(format!("{now} of {seen}")),
                });
            };
            more("traffic before");
            for n in 1..=TAKEOVERS {
                let next = world.proxy_called(&format!("proxy{n}"), &conf, HTTP);
                eventually("the one before drains", SOON, || {
                    let log = proxies[n - 1].process.log();
                    if log.contains("another proxy has taken over") { Ok(()) } else { Err(log) }
                });
                proxies.push(next);
                more("traffic with both");
                // What is held, and what the clients have at the moment, whoever accepted it.
                let (sockets, websockets) = agent.live(A);
                for live in [sockets, websockets] {
                    assert!((HELD as u64..=(HELD + 2 * CLIENTS) as u64).contains(&live), "{live} live");
                }
            }
            stop.store(true, Relaxed);
            for client in clients {
                client.join().expect("no client failed");
            }
        });
        agent.await_live(A, HELD as u64, HELD as u64);
        assert_eq!(ss::accepted_on(HTTP.port()).len(), HELD);
        for client in &mut held {
            client.write_all(b"still there?").expect("sent");
            let mut back = [0; 12];
            client.read_exact(&mut back).expect("an echo");
            assert_eq!(&back, b"still there?");
        }
        proxies[0].process.assert_running();
        drop(held);
        for proxy in &mut proxies[..TAKEOVERS] {
            assert!(proxy.process.wait(SOON).success());
        }
        agent.await_empty();
        agent.assert_never_drifted();
        let last = &mut proxies[TAKEOVERS].process;
        last.assert_running();
        last.signal(Signal::SIGTERM);
        assert!(last.wait(SOON).success());
    });
}
