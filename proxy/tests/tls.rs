//! TLS: the zone is the ClientHello's, and every request on the connection has to be for it.

mod support;

use std::{io, time::Duration};

use support::{
    Setup,
    origin::{mirror, reflect},
    raw::{Raw, header, status, tls_config},
    until,
};

fn alert(error: &io::Error) -> rustls::AlertDescription {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match error {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_on_a_connection_are_for_the_zone_of_its_handshake() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).tls_zone("b.test", origin);
    let proxy = setup.start();
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    let (head, got) = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(status(&head), 200);
    assert_eq!(header(&got, "x-forwarded-proto"), Some("https"));
    let (head, body) = client.ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(status(&head), 421);
    assert!(body.contains("host_not_of_connection"), "{body}");
    assert_eq!(proxy.counters().refused_for("host_not_of_connection"), 1);
}

#[tokio::test]
async fn a_name_without_a_certificate_gets_the_alert_unrecognized_name() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).zone("plain.test", origin);
    let proxy = setup.start();
    // An IP address is not sent as SNI.
    for name in ["other.test", "plain.test", "127.0.0.1"] {
        let error =
            Raw::tls(setup.https, name, tls_config(&setup.roots)).await.map(drop).expect_err("refused");
        assert_eq!(alert(&error), rustls::AlertDescription::UnrecognisedName, "{name}");
    }
    let counters = proxy.counters().clone();
    until("all are counted", || counters.tls_failed.get() == 3).await;
}

#[tokio::test]
async fn without_http2_only_http_1_1_is_offered_and_sessions_are_resumed() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).setting("http2 = false");
    let _proxy = setup.start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(setup.roots[0].clone()).expect("a certificate");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let mut config = config.expect("a version").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = std::sync::Arc::new(config);
        for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
            let mut client = Raw::tls(setup.https, "a.test", config.clone()).await.expect("connected");
            let (head, _) = client.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            assert_eq!(status(&head), 200);
            let session = client.session();
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(session.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).setting("tls_handshake_timeout = \"100ms\"");
    let proxy = setup.start();
    let mut silent = Raw::connect(setup.https).await;
    let mut slow = Raw::connect(setup.https).await;
    slow.send([22, 3, 1]).await;
    let mut wrong = Raw::connect(setup.https).await;
    wrong.send("GET / HTTP/1.1\r\n\r\n").await;
    let _ = silent.rest().await;
    let _ = slow.rest().await;
    assert_eq!(wrong.rest().await.expect("a clean end").first(), Some(&21), "an alert");
    let counters = proxy.counters().clone();
    until("all are counted", || counters.tls_failed.get() == 3).await;
}

#[tokio::test]
async fn an_idle_tunnel_ends_with_close_notify_when_its_origin_ends() {
    let setup = Setup::new().tls_zone("a.test", mirror().await);
    let proxy = setup.start();
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    client.upgrade("a.test").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.half_close().await;
    assert_eq!(client.rest().await.expect("close_notify, not a bare FIN"), b"");
    let counters = proxy.counters().clone();
    until("the tunnel has ended", || counters.tunnels_live.get() == 0).await;
}
