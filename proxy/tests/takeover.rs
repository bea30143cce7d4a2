//! A proxy that takes over from another one.

mod support;

use std::{
    fs,
    io::Read,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use support::{
    Setup,
    origin::{mirror, reflect},
    raw::{Raw, status},
    soon, until,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

async fn with_takeover() -> (Setup, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("proxy.sock");
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).zone("ws.test", mirror().await);
    (setup.setting(&format!("takeover = {path:?}")), path, folder)
}

/// Asks until it is told to stop, a connection for each request; every one has to be answered.
fn ask_on(
    http: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while !stop.load(Relaxed) {
            let mut client = Raw::new(soon(TcpStream::connect(http)).await.expect("never refused"));
            client.send(GET).await;
            let answer = client.rest().await.expect("never reset");
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            asked.fetch_add(1, Relaxed);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_refused_while_one_proxy_follows_another() {
    let (setup, _path, _folder) = with_takeover().await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut proxy = setup.start();
    let clients: Vec<_> = (0..8).map(|_| ask_on(setup.http, stop.clone(), asked.clone())).collect();
    for _ in 0..5 {
        let mut tunnel = Raw::connect(setup.http).await;
        tunnel.upgrade("ws.test").await;
        let counters = proxy.counters().clone();
        until("the tunnel is open", || counters.tunnels_live.get() == 1).await;
        let config = setup.config();
        // Blocks while it is answered.
        let bound = tokio::task::spawn_blocking(move || weir_proxy::bind(&config).expect("bound"));
        let next = bound.await.expect("joined").start().expect("started");
        soon(proxy.replaced()).await;
        let drained = tokio::spawn(proxy.drain());
        let seen = asked.load(Relaxed) + 50;
        until("the next one serves", || asked.load(Relaxed) >= seen).await;
        tunnel.send("still here").await;
        tunnel.expect("still here").await;
        assert!(!drained.is_finished());
        let (_, metrics) =
            Raw::connect(setup.admin).await.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(metrics.contains("\nweir_proxy_tunnels 0\n"), "the next one has no tunnel: {metrics}");
        drop(tunnel);
        assert_eq!(soon(drained).await.expect("joined").closed, 0);
        proxy = next;
    }
    stop.store(true, Relaxed);
    for client in clients {
        client.await.expect("no connection failed");
    }
    soon(proxy.drain()).await;
    assert!(TcpStream::connect(setup.http).await.is_err(), "nobody holds the socket any more");
}

#[tokio::test]
async fn one_that_does_not_come_to_serve_changes_nothing() {
    let (setup, path, _folder) = with_takeover().await;
    let proxy = setup.start();
    // One that is started and ends at once, one that asks and goes, and one that talks nonsense.
    let config = setup.config();
    let bound = tokio::task::spawn_blocking(move || weir_proxy::bind(&config).expect("bound"));
    drop(bound.await.expect("joined"));
    drop(UnixStream::connect(&path).expect("it listens"));
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    stream.write_all(b"nonsense").await.expect("sent");
    drop(stream);
    let ask =
        async || status(&Raw::connect(setup.http).await.ask(&GET.replace("close", "keep-alive")).await.0);
    assert_eq!(ask().await, 200);
    assert!(futures_util::FutureExt::now_or_never(proxy.replaced()).is_none());

    let config = setup.config();
    let bound = tokio::task::spawn_blocking(move || weir_proxy::bind(&config).expect("bound"));
    let next = bound.await.expect("joined").start().expect("started");
    soon(proxy.replaced()).await;
    soon(proxy.drain()).await;
    assert_eq!(ask().await, 200);
    soon(next.drain()).await;
}

#[tokio::test]
async fn a_socket_that_was_left_is_replaced_and_a_file_is_not() {
    let (setup, path, _folder) = with_takeover().await;
    // A listener that is dropped leaves its path.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let proxy = setup.start();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut list = UnixStream::connect(&path).expect("it listens");
    let mut text = [0; 17];
    tokio::task::spawn_blocking(move || {
        list.read_exact(&mut text).expect("a list");
        assert_eq!(&text, b"weir-listeners 1\n");
    })
    .await
    .expect("joined");
    soon(proxy.drain()).await;
    assert!(!path.exists());

    fs::write(&path, "precious").expect("written");
    let error = weir_proxy::bind(&setup.config()).expect_err("no socket").to_string();
    assert!(error.contains("proxy.sock") && error.contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
}

#[tokio::test]
async fn what_is_not_configured_any_more_is_let_go() {
    let (setup, _path, _folder) = with_takeover().await;
    let proxy = setup.start();
    let text = format!("takeover = {_path:?}");
    let (origin, _) = reflect().await;
    let other = Setup::new().zone("a.test", origin).setting(&text);
    let config = other.config();
    let bound = tokio::task::spawn_blocking(move || weir_proxy::bind(&config).expect("bound"));
    let next = bound.await.expect("joined").start().expect("started");
    soon(proxy.replaced()).await;
    soon(proxy.drain()).await;
    assert!(TcpStream::connect(setup.http).await.is_err());
    assert_eq!(status(&Raw::connect(other.http).await.ask(GET).await.0), 200);
    soon(next.drain()).await;
}
