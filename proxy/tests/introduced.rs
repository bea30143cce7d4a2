//! Who the client is: as PROXY protocol and the headers of proxies say, if they are believed, and as the origin is told.

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use h2::client::Builder;
use rustls_pki_types::ServerName;
use support::{
    Setup,
    http2::Client,
    origin::{origin, reflect},
    raw::{Raw, header, status, tls_config},
    soon,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Both versions, from 192.0.2.1:5000 to 192.0.2.2:443.
fn headers() -> [Vec<u8>; 2] {
    let ends = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 187];
    let v2 = [SIGNATURE, &[0x21, 0x11, 0, 12], &ends].concat();
    [b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n".to_vec(), v2]
}

/// `first`, then a TLS handshake.
async fn tls_behind(setup: &Setup, first: &[u8], alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = soon(TcpStream::connect(setup.https)).await.expect("connected");
    soon(stream.write_all(first)).await.expect("sent");
    let mut config = (*tls_config(&setup.roots)).clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("a.test").expect("a name");
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn an_introduced_client_has_connections_of_its_own() {
    let (address, connections) = origin(|mut raw| async move {
        let header = raw.exactly(28).await;
        assert_eq!(&header[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
        while let Some(_head) = raw.try_head().await {
            let port = u16::from_be_bytes([header[24], header[25]]).to_string();
            raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{port}", port.len())).await;
        }
    })
    .await;
    let setup =
        Setup::new().origins("a.test", &format!("origin = \"ws://{address}\"\nsend_proxy_protocol = true"));
    let _proxy = setup.start();
    for n in 1..=3 {
        let mut client = Raw::connect(setup.http).await;
        let own = client.stream().local_addr().expect("connected").port().to_string();
        assert_eq!(client.ask(GET).await.1, own);
        assert_eq!(connections.load(Relaxed), n);
    }
}
#[tokio::test]
async fn a_proxy_protocol_header_says_who_the_client_is_where_it_is_due() {
    let (address, _) = reflect().await;
    let line = "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n";
    let setup = Setup::new().setting("proxy_protocol_from = [\"127.0.0.0/8\"]").zone("a.test", address);
    let proxy = setup.start();
    let (head, got) = Raw::connect(setup.http).await.ask(&format!("{line}{GET}")).await;
    assert_eq!((status(&head), header(&got, "x-forwarded-for")), (200, Some("192.0.2.1")));
    let mut without = Raw::connect(setup.http).await;
    without.send(GET).await;
    assert_eq!(without.try_head().await, None);
    assert_eq!(proxy.counters().proxy_protocol_failed.get(), 1);

    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    let (head, _) = Raw::connect(setup.http).await.ask(&format!("{line}{GET}")).await;
    assert_eq!(status(&head), 400, "from others it is bytes");
}
#[tokio::test]
async fn a_header_of_either_version_names_the_client_in_front_of_tls_too() {
    let (address, _) = reflect().await;
    let setup = Setup::new().setting("proxy_protocol_from = [\"127.0.0.0/8\"]").tls_zone("a.test", address);
    let proxy = setup.start();
    for first in headers() {
        let mut client = Raw::connect(setup.http).await;
        client.send(&first).await;
        let (head, got) = client.ask(GET).await;
        assert_eq!((status(&head), header(&got, "x-forwarded-for")), (200, Some("192.0.2.1")), "cleartext");
        let stream = tls_behind(&setup, &first, b"http/1.1").await.expect("a handshake");
        let (head, got) = Raw::new(stream).ask(GET).await;
        assert_eq!((status(&head), header(&got, "x-forwarded-for")), (200, Some("192.0.2.1")), "TLS");
        let stream = tls_behind(&setup, &first, b"h2").await.expect("a handshake");
        let (head, got) = Client::on(stream, &Builder::new()).await.get("https://a.test/").await;
        assert_eq!(
            (head.status().as_u16(), header(&got, "x-forwarded-for")),
            (200, Some("192.0.2.1")),
            "HTTP/2"
        );
    }
    // A health check of the load balancer's own is from the load balancer.
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    let stream = tls_behind(&setup, &local, b"http/1.1").await.expect("a handshake");
    let (_, got) = Raw::new(stream).ask(GET).await;
    assert_eq!(header(&got, "x-forwarded-for"), Some("127.0.0.1"));
    // Without one there is no handshake.
    assert!(tls_behind(&setup, b"", b"http/1.1").await.is_err());
    assert_eq!(proxy.counters().proxy_protocol_failed.get(), 1);
}

#[tokio::test]
async fn a_peer_that_is_not_named_cannot_say_who_it_is() {
    let (address, origins) = reflect().await;
    let setup =
        Setup::new().setting("proxy_protocol_from = [\"203.0.113.0/24\"]").tls_zone("a.test", address);
    let proxy = setup.start();
    for (n, first) in (1..).zip(headers()) {
        assert!(tls_behind(&setup, &first, b"http/1.1").await.is_err());
        assert_eq!(proxy.counters().tls_failed.get(), n);
        let mut client = Raw::connect(setup.http).await;
        client.send([&first, GET.as_bytes()].concat()).await;
        assert_eq!(status(&client.head().await), 400);
    }
    assert_eq!(origins.load(Relaxed), 0);
    let stream = tls_behind(&setup, b"", b"http/1.1").await.expect("a handshake");
    assert_eq!(status(&Raw::new(stream).ask(GET).await.0), 200);
}

/// What an origin is told of a client behind 127.0.0.1, which says these things.
async fn told(setup: &Setup, said: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{said}\r\n\r\n");
    let (head, got) = Raw::connect(setup.http).await.ask(&request).await;
    assert_eq!(status(&head), 200, "{head}");
    got
}

const CLAIMS: &str = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n\
                      Forwarded: for=6.6.6.6, for=192.0.2.1;proto=https\r\nX-Real-IP: 6.6.6.6";

#[tokio::test]
async fn what_a_trusted_proxy_says_is_added_to_and_what_others_say_is_replaced() {
    let (address, _) = reflect().await;
    let x_forwarded = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-real-ip"];
    for (style, trusted, expected) in [
        (
            "x-forwarded",
            true,
            [Some("6.6.6.6, 192.0.2.1, 127.0.0.1"), Some("https"), Some("shop.test"), None, None],
        ),
        ("x-forwarded", false, [Some("127.0.0.1"), Some("http"), Some("a.test"), None, None]),
        (
            "forwarded",
            true,
            [
                None,
                None,
                None,
                Some("for=6.6.6.6, for=192.0.2.1;proto=https, for=127.0.0.1;host=a.test;proto=http"),
                None,
            ],
        ),
        ("forwarded", false, [None, None, None, Some("for=127.0.0.1;host=a.test;proto=http"), None]),
        ("none", true, [None; 5]),
    ] {
        let mut setup = Setup::new().setting(&format!("forwarded = \"{style}\"")).zone("a.test", address);
        if trusted {
            setup = setup.setting("trusted_proxies = [\"127.0.0.0/8\"]");
        }
        let _proxy = setup.start();
        let got = told(&setup, CLAIMS).await;
        assert_eq!(x_forwarded.map(|name| header(&got, name)), expected, "{style}, trusted: {trusted}");
        assert!(trusted || !got.contains("6.6.6.6"), "{got}");
    }
}

#[tokio::test]
async fn an_upgrade_tells_its_origin_the_same_and_proxy_protocol_goes_from_end_to_end() {
    let (address, _) = origin(|mut raw| async move {
        let ends = raw.exactly(28).await;
        let head = raw.head().await;
        let client = SocketAddr::from((
            <[u8; 4]>::try_from(&ends[16..20]).expect("four"),
            u16::from_be_bytes([ends[24], ends[25]]),
        ));
        raw.send(support::origin::switch_for(&head)).await;
        raw.send(format!("{client} {}", header(&head, "x-forwarded-for").unwrap_or("-"))).await;
        raw.rest().await.ok();
    })
    .await;
    let setup = Setup::new()
        .setting("proxy_protocol_from = [\"127.0.0.0/8\"]")
        .origins("a.test", &format!("origin = \"ws://{address}\"\nsend_proxy_protocol = true"));
    let _proxy = setup.start();
    for first in headers() {
        let mut client = Raw::connect(setup.http).await;
        client.send(first).await;
        client.upgrade("a.test").await;
        client.expect("192.0.2.1:5000 192.0.2.1").await;
    }
}
