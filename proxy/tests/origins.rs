//! Several origins of a zone, and origins over TLS.

mod support;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{HandshakeKind, ServerConfig};
use support::{
    Setup, free_port,
    origin::{SWITCH, origin, reflect},
    raw::{Raw, header, status},
    until,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What an origin over TLS saw of a handshake.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    name: Option<String>,
    alpn: Option<Vec<u8>>,
    resumed: bool,
}

/// An origin over TLS for `name` that answers 101 to upgrades and the head it got to everything else, and its authority's file.
async fn secure(name: &str) -> (SocketAddr, TempDir, PathBuf, mpsc::UnboundedReceiver<Seen>) {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new([name.to_owned()]).expect("parameters").signed_by(&key, &issuer);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    fs::write(&file, root.pem()).expect("written");

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.expect("signed").der().clone()],
            key.serialize_der().try_into().expect("a key"),
        )
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let _ = tell.send(Seen {
                    name: session.server_name().map(str::to_owned),
                    alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                    resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                });
                let mut raw = Raw::new(stream);
                while let Some(head) = raw.try_head().await {
                    if header(&head, "upgrade").is_some() {
                        raw.send(SWITCH).await;
                        while let Some(bytes) = raw.some().await {
                            raw.send(bytes).await;
                        }
                        return;
                    }
                    raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()))
                        .await;
                }
            });
        }
    });
    (address, folder, file, told)
}

#[tokio::test]
async fn an_origin_over_tls_serves_requests_and_websockets() {
    let (address, _folder, ca, mut seen) = secure("app.internal").await;
    let setup = Setup::new().origins(
        "a.test",
        &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?}, server_name = \"app.internal\" }}\norigin_host = \"app.internal:8443\""),
    );
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let (head, got) = client.ask(GET).await;
    assert_eq!((status(&head), header(&got, "host")), (200, Some("app.internal:8443")));
    assert_eq!(header(&got, "x-forwarded-host"), Some("a.test"), "the client's own goes on where it belongs");
    let expected =
        |resumed| Seen { name: Some("app.internal".into()), alpn: Some(b"http/1.1".to_vec()), resumed };
    assert_eq!(seen.recv().await, Some(expected(false)));

    let mut socket = Raw::connect(setup.http).await;
    socket.upgrade("a.test").await;
    socket.send("through TLS and back").await;
    socket.expect("through TLS and back").await;
    assert_eq!(seen.recv().await, Some(expected(true)), "a session is resumed");
    socket.half_close().await;
    assert_eq!(socket.rest().await.expect("a clean end"), b"");
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_a_reason_of_its_own() {
    let (address, _folder, ca, _seen) = secure("app.internal").await;
    let (_, _other_folder, other, _) = secure("app.internal").await;
    let (plain, _) = origin(|mut raw| async move {
        raw.some().await;
        raw.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let setup = Setup::new()
        .origins("name.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?}, server_name = \"b\" }}"))
        .origins("own.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?} }}"))
        .origins("ca.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {other:?}, server_name = \"app.internal\" }}"))
        .origins("plain.test", &format!("origin = \"wss://{plain}\"\norigin_tls = {{ ca = {ca:?} }}"));
    let proxy = setup.start();
    for host in ["name.test", "own.test", "ca.test", "plain.test"] {
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&GET.replace("a.test", host)).await;
        assert_eq!(status(&head), 502, "{host}");
        assert!(body.contains("origin_tls_failed"), "{host}: {body}");
        let (head, _) = Raw::connect(setup.http).await.ask(&support::raw::upgrade_request(host)).await;
        assert_eq!(status(&head), 502, "{host}");
    }
    assert_eq!(proxy.counters().refused_for("origin_tls_failed"), 8);
}

#[tokio::test]
async fn requests_take_the_origins_in_turn() {
    let (first, one) = reflect().await;
    let (second, two) = reflect().await;
    let setup = Setup::new().origins(
        "a.test",
        &format!("origins = [\"ws://{first}\", \"ws://{second}\"]\nsend_proxy_protocol = false"),
    );
    let _proxy = setup.start();
    for _ in 0..4 {
        let mut client = Raw::connect(setup.http).await;
        assert_eq!(status(&client.ask(GET).await.0), 200);
        assert_eq!(status(&client.ask(GET).await.0), 200);
    }
    assert!(one.load(Relaxed) >= 1 && two.load(Relaxed) >= 1);
}

#[tokio::test]
async fn a_refused_connection_is_tried_at_another_origin_with_the_content() {
    let (live, _) = reflect().await;
    let (mirror, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
    })
    .await;
    let dead = free_port();
    let setup = Setup::new()
        .setting("origin_max_fails = 0")
        .origins("a.test", &format!("origins = [\"ws://{dead}\", \"ws://{live}\"]"))
        .origins("ws.test", &format!("origins = [\"ws://{dead}\", \"ws://{mirror}\"]"));
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for _ in 0..4 {
        let (head, got) =
            client.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(status(&head), 200);
        assert!(got.ends_with("hello"), "{got}");
        Raw::connect(setup.http).await.upgrade("ws.test").await;
    }
    let counters = proxy.counters();
    assert_eq!(counters.refused().map(|(_, count)| count).sum::<u64>(), 0);
    // Of eight requests that take turns: those that began with the one that refuses.
    assert_eq!(counters.origin_errors_of("unreachable"), 4, "what another origin saved counts as well");
}

#[tokio::test]
async fn an_origin_that_fails_in_a_row_is_left_out_also_after_a_reload_and_never_the_last() {
    let (rude, asked) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (live, _) = reflect().await;
    let setup = Setup::new()
        .setting("origin_fail_timeout = \"1h\"")
        .origins("a.test", &format!("origins = [\"ws://{rude}\", \"ws://{live}\"]"))
        .origins("b.test", &format!("origin = \"ws://{rude}\""));
    let proxy = setup.start();
    let mut failed = 0;
    for n in 0..20 {
        if n == 10 {
            proxy.reload(setup.config()).await.expect("reloaded");
        }
        let mut client = Raw::connect(setup.http).await;
        failed += usize::from(status(&client.ask(GET).await.0) == 502);
    }
    assert_eq!((failed, asked.load(Relaxed)), (3, 3));
    for _ in 0..5 {
        let mut client = Raw::connect(setup.http).await;
        assert_eq!(status(&client.ask(&GET.replace("a.test", "b.test")).await.0), 502);
    }
    until("an only origin is asked every time", || asked.load(Relaxed) == 8).await;
}
