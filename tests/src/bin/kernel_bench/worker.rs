//! A process in a cgroup of its own that does kernel work and says what it cost: for the same work with weir's programs in the way and
//! without them, at the same time on the same host.
//!
//! It obeys lines: `connect N`, `speak N ZONE`, `serve N`, `admit N ZONE`, `option N`, `hold N ZONE`. It answers with nanoseconds of
//! CPU a piece, in the kernel and here, or with a count.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockRef, Socket, Type};
use weir_tests::sockopt;

pub fn obey(cgroup: &str, elsewhere: &str, port: u16) {
    enter(cgroup);
    // Made here, so that what it accepts is of this cgroup.
    let listener = TcpListener::bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
    let (one, _) = listener.accept().expect("an accepted connection");
    let mut held: Vec<Socket> = Vec::new();
    println!("ready");
    for line in io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let count = words.get(1).map_or(0, |count| count.parse().expect("a number"));
        match words.as_slice() {
            ["connect", _] => println!("{}", cost(count, || connection(socket(), &listener, None))),
            ["speak", _, zone] => println!("{}", cost(count, || connection(socket(), &listener, Some(zone)))),
            ["serve", _] => {
                // A socket is of the cgroup in which it was made; one that is accepted, of its listener's.
                enter(elsewhere);
                let mut clients: Vec<Socket> = (0..count).map(|_| socket()).collect();
                enter(cgroup);
                let one = || connection(clients.pop().expect("one each"), &listener, None);
                println!("{}", cost(count, one));
            }
            ["admit", _, zone] => println!(
                "{}",
                cost(count, || {
                    sockopt::admit(&one, zone).expect("admitted");
                    sockopt::release(&one, zone).expect("released");
                })
            ),
            ["option", _] => println!(
                "{}",
                cost(count, || {
                    let one = SockRef::from(&one);
                    one.set_keepalive(true).expect("an option");
                    one.set_keepalive(false).expect("an option");
                })
            ),
            ["hold", _, zone] => {
                held.extend((0..count).map_while(|_| backing(zone)));
                println!("{}", held.len());
            }
            other => panic!("no such order: {other:?}"),
        }
    }
    drop(client);
}

fn enter(cgroup: &str) {
    fs::write(Path::new(cgroup).join("cgroup.procs"), process::id().to_string()).expect("a cgroup");
}

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

/// From its birth to its death.
fn connection(client: Socket, listener: &TcpListener, zone: Option<&str>) {
    client.connect(&listener.local_addr().expect("bound").into()).expect("a connection");
    let (accepted, _) = listener.accept().expect("an accepted connection");
    if let Some(zone) = zone {
        sockopt::attribute(&accepted, zone).expect("attributed");
        sockopt::admit(&accepted, zone).expect("admitted");
    }
    // With a RST, so that no port is kept.
    client.set_linger(Some(Duration::ZERO)).expect("a linger");
}

/// A socket that counts as a WebSocket and is not connected: the cheapest that the kernel's books know.
fn backing(zone: &str) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    sockopt::admit(&socket, zone).ok().map(|()| socket)
}

/// Nanoseconds of this process' CPU time that one takes.
fn cost(count: u32, mut one: impl FnMut()) -> u64 {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock"));
    let before = now();
    (0..count).for_each(|_| one());
    (now() - before).as_nanos() as u64 / u64::from(count.max(1))
}
