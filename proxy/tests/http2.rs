//! HTTP/2 towards clients: plain requests, WebSockets by extended CONNECT, and how streams and connections end.

mod support;

use bytes::Bytes;
use http::{Method, Request, header::HOST};
use support::{
    Setup,
    http2::Client,
    origin::{mirror, origin, reflect},
    raw::{Raw, header, status, tls_config},
    soon,
};

const URL: &str = "https://a.test/path?x=1";
const CLEAR: &str = "http://a.test/path?x=1";

async fn secure(origin: std::net::SocketAddr) -> (Setup, weir_proxy::Running, Client) {
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let client = Client::tls(&setup, "a.test").await;
    (setup, proxy, client)
}

fn h2c(setup: Setup) -> Setup {
    setup.setting("h2c = true")
}

#[tokio::test]
async fn a_request_reaches_its_origin_as_one_of_http_1_1() {
    let (_setup, proxy, mut client) = secure(reflect().await.0).await;
    let request = Request::get(URL)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-own", "kept")
        .body(())
        .expect("a request");
    let (head, got) = client.ask(request).await;
    assert_eq!(head.status(), 200);
    assert!(head.headers().contains_key("date"));
    assert!(got.starts_with("GET /path?x=1 HTTP/1.1\r\n"), "{got}");
    assert_eq!(header(&got, "host"), Some("a.test"));
    assert_eq!(header(&got, "cookie"), Some("a=1; b=2"));
    assert_eq!(header(&got, "x-own"), Some("kept"));
    assert_eq!(header(&got, "x-forwarded-proto"), Some("https"));
    assert!(header(&got, "via").is_some_and(|via| via.starts_with("2 weir-")), "{got}");
    assert_eq!(proxy.counters().http2.get(), 1);
}

#[tokio::test]
async fn content_goes_both_ways_with_and_without_a_length() {
    let (_setup, _proxy, client) = secure(reflect().await.0).await;
    let long = "x".repeat(300_000);
    for length in [None, Some(long.len())] {
        let mut request = Request::post(URL);
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
        let (response, mut send) =
            requests.send_request(request.body(()).expect("a request"), false).expect("sent");
        send.send_data(Bytes::from(long.clone()), true).expect("sent");
        let (head, receive) = soon(response).await.expect("an answer").into_parts();
        let mut answer = support::http2::Answer { head: http::Response::from_parts(head, ()), send, receive };
        let got = answer.text().await;
        assert_eq!(answer.head.headers()["content-length"], got.len().to_string());
        assert!(got.ends_with(&long), "{} bytes", got.len());
        assert_eq!(header(&got, "transfer-encoding"), length.is_none().then_some("chunked"));
        assert_eq!(header(&got, "content-length"), length.map(|length| length.to_string()).as_deref());
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let (address, _) = origin(|mut raw| async move {
        let head = raw.head().await;
        assert_eq!(header(&head, "te"), Some("trailers"));
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("x-sum: up\r\n\r\n") {
            seen.extend(raw.some().await.expect("trailers"));
        }
        raw.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: down\r\n\r\n",
        )
        .await;
        raw.rest().await.ok();
    })
    .await;
    let (_setup, _proxy, client) = secure(address).await;
    let request = Request::post(URL).header("te", "trailers").header("trailer", "x-sum").body(());
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let (response, mut send) = requests.send_request(request.expect("a request"), false).expect("sent");
    send.send_data(Bytes::from_static(b"content"), false).expect("sent");
    let sum =
        http::HeaderMap::from_iter([("x-sum".parse().expect("a name"), "up".parse().expect("a value"))]);
    send.send_trailers(sum).expect("sent");
    let (head, receive) = soon(response).await.expect("an answer").into_parts();
    assert!(!head.headers.contains_key("transfer-encoding"));
    let mut answer = support::http2::Answer { head: http::Response::from_parts(head, ()), send, receive };
    assert_eq!(answer.text().await, "ok");
    let trailers = soon(answer.receive.trailers()).await.expect("trailers").expect("some");
    assert_eq!(trailers["x-sum"], "down");
    let _ = client.end.is_finished();
}

#[tokio::test]
async fn answers_without_content_end_with_their_head() {
    let (address, _) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            if head.starts_with("HEAD") {
                raw.send("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await;
            } else {
                raw.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    let (_setup, _proxy, mut client) = secure(address).await;
    for (method, code, length) in [(Method::HEAD, 200, Some("77")), (Method::GET, 204, None)] {
        let request = Request::builder().method(method).uri(URL).body(()).expect("a request");
        let answer = client.begin(request, true).await.expect("an answer");
        assert_eq!(answer.head.status(), code);
        let field = answer.head.headers().get("content-length").map(|value| value.to_str().expect("text"));
        assert_eq!(field, length);
        assert!(answer.receive.is_end_stream());
    }
    // Its own answers, too.
    let request = Request::head("https://other.test/").body(()).expect("a request");
    let answer = client.begin(request, true).await.expect("an answer");
    assert_eq!(answer.head.status(), 421);
    assert!(answer.receive.is_end_stream());
}

#[tokio::test]
async fn an_answer_with_a_field_that_http2_has_not_is_an_answer_without_it() {
    let (address, _) = origin(|mut raw| async move {
        while raw.try_head().await.is_some() {
            raw.send("HTTP/1.1 200 OK\r\nTE: gzip\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let (_setup, _proxy, mut client) = secure(address).await;
    let (head, got) = client.get(URL).await;
    assert_eq!((head.status().as_u16(), got.as_str()), (200, "ok"));
    assert!(!head.headers().contains_key("te") && !head.headers().contains_key("keep-alive"));
    assert_eq!(head.headers()["x-own"], "1");
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it() {
    let (_setup, _proxy, client) = secure(reflect().await.0).await;
    let request = Request::post(URL).header("expect", "100-continue").body(()).expect("a request");
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let (mut response, mut send) = requests.send_request(request, false).expect("sent");
    let informed = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert_eq!(informed.expect("one").expect("sound").status(), 100);
    send.send_data(Bytes::from_static(b"hello"), true).expect("sent");
    let (head, receive) = soon(response).await.expect("an answer").into_parts();
    let mut answer = support::http2::Answer { head: http::Response::from_parts(head, ()), send, receive };
    let got = answer.text().await;
    assert!(got.ends_with("hello") && header(&got, "expect").is_none(), "{got}");
}

#[tokio::test]
async fn a_host_of_another_zone_is_misdirected_and_the_connection_goes_on() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).tls_zone("b.test", origin);
    let _proxy = setup.start();
    let mut client = Client::tls(&setup, "a.test").await;
    for (url, code, reason) in [
        ("https://b.test/", 421, "host_not_of_connection"),
        ("https://c.test/", 421, "host_unknown"),
        ("http://a.test/", 400, "target_host_mismatch"),
    ] {
        let (head, body) = client.get(url).await;
        assert_eq!(head.status(), code, "{url}");
        assert!(body.contains(reason), "{body}");
        assert_eq!(head.headers()["content-type"], "application/problem+json");
        assert!(!head.headers().contains_key("connection"));
    }
    for (host, code) in [("b.test", 400), ("a.test:444", 400), ("a.test", 200), ("a.test:443", 200)] {
        let request = Request::get("https://a.test/").header(HOST, host).body(()).expect("a request");
        assert_eq!(client.ask(request).await.0.status(), code, "{host}");
    }
}

#[tokio::test]
async fn cleartext_is_http_1_unless_h2c_is_on() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let got = String::from_utf8_lossy(&client.rest().await.unwrap_or_default()).into_owned();
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 4") || got.starts_with("HTTP/1.1 5"), "{got}");
    assert_eq!(proxy.counters().http2.get(), 0);
    drop(proxy);

    let setup = h2c(Setup::new().zone("a.test", origin).zone("ws.test", mirror().await));
    let proxy = setup.start();
    let mut client = Client::cleartext(setup.http).await;
    let (head, got) = client.get(CLEAR).await;
    assert_eq!(head.status(), 200);
    assert_eq!(header(&got, "x-forwarded-proto"), Some("http"));
    let mut socket = client.open("http://ws.test/").await;
    socket.say("hello");
    socket.expect(b"hello").await;
    assert_eq!(proxy.counters().http2.get(), 1);

    // HTTP/1.1 goes on, also for whom sends byte by byte what begins like HTTP/2.
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = Raw::connect(setup.http).await;
        client.stream().set_nodelay(true).expect("set");
        for byte in request.as_bytes() {
            client.send([*byte]).await;
        }
        assert_eq!(status(&client.head().await), 200);
    }
    let mut socket = Raw::connect(setup.http).await;
    socket.upgrade("ws.test").await;
    socket.send("x").await;
    socket.expect("x").await;
    let mut slow = Raw::connect(setup.http).await;
    slow.stream().set_nodelay(true).expect("set");
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        slow.send([*byte]).await;
    }
    slow.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    assert_eq!(slow.exactly(9).await[3], 4, "SETTINGS");
}

#[tokio::test]
async fn a_reload_switches_http2() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let chosen = async |setup: &Setup| {
        let mut config = (*tls_config(&setup.roots)).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = Raw::tls(setup.https, "a.test", std::sync::Arc::new(config)).await.expect("connected");
        client.session().alpn_protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(chosen(&setup).await.as_deref(), Some(&b"h2"[..]));
    let setup = setup.setting("http2 = false");
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(chosen(&setup).await.as_deref(), Some(&b"http/1.1"[..]));
}
