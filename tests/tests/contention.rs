//! The books under contention: many threads that count and uncount sockets of one zone as fast as the kernel lets them.
#![forbid(unsafe_code)]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use weir_tests::{Agent, HTTP, sockopt, world};

const A: &str = "a.test";
const B: &str = "b.test";
const THREADS: usize = 8;
const CAP: u64 = 12;
const LONG: Duration = Duration::from_secs(4);

/// What the threads saw, all together.
#[derive(Default)]
struct Seen {
    admitted: AtomicU64,
    refused: AtomicU64,
    /// Raised behind an admission and lowered before its end: never more than what is really live.
    live: AtomicU64,
    highest: AtomicU64,
}

impl Seen {
    fn admit(&self, socket: &Socket, zone: &str) -> bool {
        match sockopt::admit(socket, zone) {
            Ok(()) => {
                self.admitted.fetch_add(1, SeqCst);
                let live = self.live.fetch_add(1, SeqCst) + 1;
                self.highest.fetch_max(live, SeqCst);
                true
            }
            Err(Errno::EDQUOT) => {
                self.refused.fetch_add(1, SeqCst);
                false
            }
            Err(other) => panic!("ADMIT: {other}"),
        }
    }

    fn ends(&self) {
        self.live.fetch_sub(1, SeqCst);
    }
}

/// Runs a step again and again on every thread at once, each on sockets of its own.
fn hammer(step: impl Fn(usize) + Sync) {
    let step = &step;
    let end = Instant::now() + LONG;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                while Instant::now() < end {
                    step(thread);
                }
            });
        }
    });
}

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

fn assert_exact(agent: &Agent, seen: &Seen) {
    agent.await_empty();
    let zone = agent.zone(A);
    assert!(seen.refused.load(SeqCst) > 0, "the cap was never met: the test does not test");
    assert!(
        seen.highest.load(SeqCst) <= CAP,
        "more were live than the cap allows: {}",
        seen.highest.load(SeqCst)
    );
    assert_eq!(zone.websockets_peak, CAP, "the kernel's high-water mark");
    assert_eq!(zone.admitted_total, seen.admitted.load(SeqCst));
    assert_eq!(zone.refused["abuse_cap"], seen.refused.load(SeqCst));
    agent.assert_never_drifted();
}

#[test]
fn admissions_and_releases_from_many_threads_never_exceed_the_cap() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, CAP).zone(A, "p"));
        let seen = Seen::default();
        hammer(|_| {
            let sockets: Vec<Socket> = (0..4).map(|_| socket()).collect();
            let admitted: Vec<bool> = sockets.iter().map(|socket| seen.admit(socket, A)).collect();
            for (socket, admitted) in sockets.iter().zip(admitted) {
                if admitted {
                    seen.ends();
                    assert_eq!(sockopt::release(socket, A), Ok(()));
                }
            }
        });
        assert_exact(&agent, &seen);
    });
}

#[test]
fn admissions_and_closes_from_many_threads_never_exceed_the_cap() {
    world(|world| {
        // A listener for each thread, so that both ends of a connection are the same thread's.
        let addresses: Vec<SocketAddr> =
            (0..THREADS as u16).map(|n| SocketAddr::new(HTTP.ip(), HTTP.port() + n)).collect();
        let agent = world.agent(&world.conf().http(&addresses).plan("p", 5, CAP).zone(A, "p"));
        let listeners: Vec<TcpListener> =
            addresses.iter().map(|address| TcpListener::bind(address).expect("a listener")).collect();
        let seen = Seen::default();
        let rounds = AtomicU64::new(0);
        hammer(|thread| {
            let pairs: Vec<(TcpStream, Socket)> = (0..4)
                .map(|_| {
                    let client = TcpStream::connect(addresses[thread]).expect("a connection");
                    let (accepted, _) = listeners[thread].accept().expect("an accepted connection");
                    (client, Socket::from(accepted))
                })
                .collect();
            let admitted = pairs.iter().filter(|(_, accepted)| seen.admit(accepted, A)).count();
            (0..admitted).for_each(|_| seen.ends());
            let with_reset = rounds.fetch_add(1, SeqCst).is_multiple_of(2);
            for (client, accepted) in pairs {
                if with_reset {
                    resets(&client);
                }
                // Half of the threads close the accepted end first.
                if thread % 2 == 0 {
                    drop(accepted);
                    drop(client);
                } else {
                    drop(client);
                    drop(accepted);
                }
            }
        });
        assert_exact(&agent, &seen);
        let zone = agent.zone(A);
        assert_eq!(zone.closed.values().sum::<u64>(), zone.admitted_total, "each WebSocket ended once");
    });
}

fn resets(client: &TcpStream) {
    socket2::SockRef::from(client).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn a_socket_that_many_threads_fight_over_is_counted_once() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, CAP).zone(A, "p").zone(B, "p"));
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let client = TcpStream::connect(HTTP).expect("a connection");
        let (accepted, _) = listener.accept().expect("an accepted connection");
        // All threads speak for one socket: whatever wins, the sums hold at any time.
        hammer(|thread| {
            let zone = if thread % 2 == 0 { A } else { B };
            let _ = sockopt::attribute(&accepted, zone);
            let _ = sockopt::admit(&accepted, zone);
            let reply = agent_sum(thread, &agent);
            assert!(reply <= 2, "one socket is in {reply} places");
            let _ = sockopt::release(&accepted, zone);
        });
        let live = [agent.live(A), agent.live(B)];
        assert_eq!(live.iter().map(|(sockets, _)| sockets).sum::<u64>(), 1, "{live:?}");
        drop((client, accepted));
        agent.await_empty();
        let ended: u64 = [A, B].iter().map(|zone| agent.zone(zone).closed.values().sum::<u64>()).sum();
        assert_eq!(ended, 1, "and ended once");
        agent.assert_never_drifted();
    });
}

/// Sockets in all places, as one of the threads reads them meanwhile: a move may be seen half done.
fn agent_sum(thread: usize, agent: &Agent) -> u64 {
    if thread == 0 { agent.sockets() } else { 0 }
}
