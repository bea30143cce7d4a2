//! At the limit of file descriptors accepting pauses and recovers. A process of its own, for the limit is the process'.

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use support::{
    Setup,
    origin::{mirror, reflect},
    raw::{Raw, status},
    soon, until,
};
use tokio::net::TcpStream;

const CLIENTS: usize = 20;

/// What this process has used so far.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("counted");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000))
        .sum()
}

#[tokio::test]
async fn at_the_limit_of_descriptors_accepting_pauses_and_recovers() {
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address).zone("ws.test", mirror().await);
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;

    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let open = fs::read_dir("/proc/self/fd").expect("listed").count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, open + CLIENTS as u64 + 5, hard).expect("set");

    // The kernel completes them all before the proxy gets to run; their own ends leave it only a few descriptors.
    let connect = |_| {
        let stream = std::net::TcpStream::connect(setup.http).expect("connected");
        stream.set_nonblocking(true).expect("set");
        Raw::new(TcpStream::from_std(stream).expect("registered"))
    };
    let mut clients: Vec<_> = (0..CLIENTS).map(connect).collect();
    until("accepting pauses", || counters.accept_paused.get() >= 3).await;
    let before = (counters.accept_paused.get(), cpu_time());
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(counters.accept_paused.get() - before.0 <= 10, "it does not spin");
    assert!(cpu_time() - before.1 < begun.elapsed() / 4, "nor does anything else");
    tunnel.send("still here").await;
    tunnel.expect("still here").await;

    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("set");
    for client in &mut clients {
        let (head, _) = soon(client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        assert_eq!(status(&head), 200);
    }
    assert_eq!(counters.accepted.get(), CLIENTS as u64 + 1);
}
