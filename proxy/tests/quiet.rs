//! What the process' own log does not say. Alone in its process: the log is the process' own.

mod support;

use support::{
    Setup, free_port,
    log::Captured,
    origin::{mirror, origin, reflect},
    raw::{Raw, tls_config, upgrade_request},
    soon, until,
};
use tokio::net::{TcpSocket, TcpStream};

/// A client with an address that is nobody else's.
async fn from(client: &str, to: std::net::SocketAddr) -> Raw<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{client}:0").parse().expect("an address")).expect("bound");
    Raw::new(soon(socket.connect(to)).await.expect("connected"))
}

#[tokio::test]
async fn no_address_of_a_client_is_in_the_log_of_the_process() {
    const CLIENT: &str = "127.98.76.54";
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let (broken, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("nonsense\r\n\r\n").await;
    })
    .await;
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .tls_zone("a.test", origin)
        .zone("dead.test", free_port())
        .zone("broken.test", broken)
        .zone("ws.test", mirror().await)
        .setting("header_timeout = \"50ms\"\ntls_handshake_timeout = \"50ms\"\ndrain_timeout = \"1ms\"")
        .setting("close_spread = \"10ms\"");
    setup.write("a.test.pem.ocsp", "garbage");
    let proxy = setup.start();
    let requests = [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: dead.test\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: broken.test\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
        "GET / HTT".to_owned(),
        upgrade_request("dead.test"),
        upgrade_request("broken.test"),
        upgrade_request("nobody.test"),
    ];
    for request in requests {
        let mut client = from(CLIENT, setup.http).await;
        client.send(request).await;
        let _ = client.some().await;
    }
    let mut silent = from(CLIENT, setup.https).await;
    let _ = silent.rest().await;
    let tls = |name: &'static str| {
        let config = tls_config(&setup.roots);
        async move {
            let tcp = from(CLIENT, setup.https).await.into_inner();
            let name = rustls_pki_types::ServerName::try_from(name).expect("a name");
            soon(tokio_rustls::TlsConnector::from(config).connect(name, tcp)).await
        }
    };
    assert!(tls("nobody.test").await.is_err(), "no such zone");
    tls("a.test").await.expect("connected");
    let mut reset = from(CLIENT, setup.http).await;
    reset.upgrade("ws.test").await;
    reset.stream().set_zero_linger().expect("SO_LINGER");
    drop(reset);
    let mut left = from(CLIENT, setup.http).await;
    left.upgrade("ws.test").await;
    let counters = proxy.counters().clone();
    until("a tunnel broke", || counters.tunnels_ended_by("client_failed") == 1).await;
    soon(proxy.drain()).await;

    let log = captured.text();
    assert!(log.contains("an origin failed a request") && log.contains("stopped"), "{log}");
    assert!(!log.contains(CLIENT), "{log}");
    assert!(log.contains("a.test.pem.ocsp is not stapled"), "an operator has to hear of it: {log}");
}
