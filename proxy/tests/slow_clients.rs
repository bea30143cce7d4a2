//! Ten thousand clients that are slow on purpose, against one proxy in a process of its own: each costs a bounded amount of
//! memory, and others are served.

mod support;

use std::{
    env, fs,
    io::Read,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering::Relaxed,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::{
    Setup,
    origin::{mirror, origin, reflect},
    raw::{Raw, status},
    until,
};
use tokio::net::TcpStream;
use weir_config::Config;

const CONFIG: &str = "WEIR_TEST_SLOW_CLIENTS";
/// Of each kind.
const CLIENTS: u64 = 5_000;
/// What an origin would send to a client that reads nothing.
const ANSWER: usize = 256 * 1024;
/// KiB of the process' memory that a slow client may cost: one that sends no head, and one that takes no answer, for which
/// buffers of hyper's on both sides of the proxy are full.
const HEAD_KIB: u64 = 24;
const ANSWER_KIB: u64 = 212;

/// The other process. Ends with its parent, by the end of its stdin.
#[test]
#[ignore = "the test below starts it as a process"]
fn a_proxy() {
    let Ok(text) = env::var(CONFIG) else { return };
    let config = Config::parse(&text, &env::temp_dir()).expect("valid");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _proxy =
        runtime.block_on(async { weir_proxy::bind(&config).expect("bound").start().expect("started") });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

struct Process(Child);

impl Process {
    fn start(setup: &Setup) -> Self {
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "a_proxy", "--ignored", "--nocapture"])
            .env(CONFIG, setup.text())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("started"))
    }

    fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client whose kernel takes as little as it can, in segments as small as on the internet.
async fn small(address: std::net::SocketAddr) -> Raw<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(2048).expect("set");
    socket.set_tcp_mss(1400).expect("set");
    socket.connect(&address.into()).expect("connected");
    socket.set_nonblocking(true).expect("set");
    Raw::new(TcpStream::from_std(socket.into()).expect("registered"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_slow_clients_cost_a_bounded_amount_and_others_are_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("set");
    assert!(hard >= 18_000, "the hard limit of open files is {hard}: 18,000 are needed");
    let (endless, connections) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n{}", "x".repeat(ANSWER))).await;
        std::future::pending::<()>().await;
    })
    .await;
    let setup = Setup::new()
        .setting("header_timeout = \"1h\"")
        .setting("stall_timeout = \"1h\"")
        .zone("endless.test", endless)
        .zone("a.test", reflect().await.0)
        .zone("ws.test", mirror().await);
    let process = Process::start(&setup);
    until("it serves", || std::net::TcpStream::connect(setup.http).is_ok()).await;
    let others = async || {
        let (head, _) = Raw::connect(setup.http).await.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(status(&head), 200);
        let mut tunnel = Raw::connect(setup.http).await;
        tunnel.upgrade("ws.test").await;
        tunnel.send("still here").await;
        tunnel.expect("still here").await;
    };
    others().await;

    let before = process.rss_kib();
    let mut clients = Vec::new();
    for i in 0..CLIENTS {
        let mut client = small(setup.http).await;
        client.send(format!("GET /{i} HTTP/1.1\r\nHost: a.test\r\nX-Slow: {}", "x".repeat(1000))).await;
        clients.push(client);
    }
    others().await;
    let heads = process.rss_kib().saturating_sub(before) / CLIENTS;

    let before = process.rss_kib();
    for i in 0..CLIENTS {
        let mut client = small(setup.http).await;
        client.send(format!("GET /{i} HTTP/1.1\r\nHost: endless.test\r\n\r\n")).await;
        clients.push(client);
    }
    until("all are being answered", || connections.load(Relaxed) as u64 == CLIENTS).await;
    others().await;
    let answers = process.rss_kib().saturating_sub(before) / CLIENTS;
    println!("{heads} KiB for a slow head, {answers} KiB for a client that does not read");
    assert!(heads <= HEAD_KIB && answers <= ANSWER_KIB, "{heads} KiB, {answers} KiB");
}
