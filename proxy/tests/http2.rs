//! HTTP/2 towards clients: plain requests, WebSockets by extended CONNECT, and how streams and connections end.

mod support;

use bytes::Bytes;
use h2::{Reason, client::Builder};
use http::{Method, Request, header::HOST};
use support::{
    Setup,
    http2::Client,
    origin::{mirror, origin, reflect, switch_for},
    raw::{Raw, header, status, tls_config},
    soon, until,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};

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
async fn a_websocket_is_an_upgrade_at_its_origin() {
    let (heads, mut asked) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let heads = heads.clone();
        async move {
            let head = raw.head().await;
            let switch = switch_for(&head).replace(
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: x\r\n\r\n",
            );
            heads.send(head).expect("taken");
            raw.send(switch + "early").await;
            while let Some(bytes) = raw.some().await {
                raw.send(bytes).await;
            }
            raw.half_close().await;
        }
    })
    .await;
    let (_setup, proxy, mut client) = secure(address).await;
    let fields = [
        ("sec-websocket-protocol", "chat, other"),
        ("sec-websocket-extensions", "x"),
        ("sec-websocket-key", "the client's"),
        ("origin", "https://a.test"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut socket = client.connect(URL, &fields).await.expect("an answer");
        assert_eq!(socket.head.status(), 200);
        let fields = socket.head.headers();
        assert_eq!(fields["sec-websocket-protocol"], "chat");
        assert_eq!(fields["sec-websocket-extensions"], "x");
        for gone in ["sec-websocket-accept", "connection", "upgrade"] {
            assert!(!fields.contains_key(gone), "{gone}");
        }
        let head = soon(asked.recv()).await.expect("a head");
        assert!(head.starts_with("GET /path?x=1 HTTP/1.1\r\n"), "{head}");
        for (name, value) in [
            ("host", "a.test"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat, other"),
            ("origin", "https://a.test"),
            ("cookie", "a=1; b=2"),
        ] {
            assert_eq!(header(&head, name), Some(value), "{name}");
        }
        keys.push(header(&head, "sec-websocket-key").expect("a key").to_owned());
        socket.expect(b"early").await;
        socket.say("hello");
        socket.expect(b"hello").await;
        assert_eq!(proxy.counters().tunnels_live.get(), 1);
        socket.finish();
        assert!(socket.some().await.is_none(), "the end goes round");
        until("the tunnel has ended", || proxy.counters().tunnels_live.get() == 0).await;
    }
    assert_ne!(keys[0], keys[1]);
    assert!(!keys.contains(&"the client's".to_owned()));
}

#[tokio::test]
async fn only_an_origin_that_knows_the_key_opens_a_websocket() {
    for (answer, code) in [
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502),
        (support::origin::SWITCH, 502),
        ("HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nx-own: 1\r\n\r\nno", 404),
        ("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n", 426),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302),
    ] {
        let (address, _) = origin(move |mut raw| async move {
            raw.head().await;
            raw.send(answer).await;
            assert_eq!(raw.rest().await.unwrap_or_default(), b"", "nothing of the client's");
        })
        .await;
        let (_setup, proxy, mut client) = secure(address).await;
        let mut answered = client.connect(URL, &[]).await.expect("an answer");
        // What a client sends ahead of the answer is nobody's.
        let _ = answered.send.send_data(Bytes::from_static(b"early"), false);
        assert_eq!(answered.head.status(), code, "{answer}");
        if code == 404 {
            assert_eq!(answered.head.headers()["x-own"], "1");
            assert_eq!(answered.text().await, "no");
        }
        if code == 502 {
            assert!(answered.text().await.contains("origin_bad_upgrade"));
        }
        assert_eq!(proxy.counters().tunnels.get(), 0);
    }
}

#[tokio::test]
async fn a_reset_stream_is_a_reset_at_the_origin_and_the_other_way_round() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let ends = ends.clone();
        async move {
            let head = raw.head().await;
            raw.send(switch_for(&head)).await;
            if head.contains("/abort") {
                raw.exactly(1).await;
                raw.stream().set_zero_linger().expect("set");
                return;
            }
            ends.send(raw.rest().await).expect("taken");
        }
    })
    .await;
    let (_setup, proxy, mut client) = secure(address).await;
    let mut socket = client.open(URL).await;
    socket.say("x");
    socket.send.send_reset(Reason::CANCEL);
    assert!(soon(ended.recv()).await.expect("an end").is_err(), "the origin sees no clean end");

    let mut socket = client.open("https://a.test/abort").await;
    socket.say("x");
    assert_eq!(socket.reset().await, Reason::CANCEL);

    let socket = client.open(URL).await;
    client.end.abort();
    assert!(soon(ended.recv()).await.expect("an end").is_err(), "a lost connection is no clean end either");
    until("all have ended", || proxy.counters().tunnels_live.get() == 0).await;
    drop(socket);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_back() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let ends = ends.clone();
        async move {
            raw.head().await;
            ends.send(()).expect("taken");
            raw.rest().await.ok();
            ends.send(()).expect("taken");
        }
    })
    .await;
    let (_setup, _proxy, client) = secure(address).await;
    for connect in [false, true] {
        let mut request = Request::builder().uri(URL);
        if connect {
            request = request.method(Method::CONNECT).extension(h2::ext::Protocol::from_static("websocket"));
        }
        let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
        let (_response, mut send) =
            requests.send_request(request.body(()).expect("a request"), !connect).expect("sent");
        soon(ended.recv()).await.expect("asked");
        send.send_reset(Reason::CANCEL);
        soon(ended.recv()).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_leaves_the_others_theirs() {
    let (address, _) = origin(|mut raw| async move {
        let head = raw.head().await;
        raw.send(switch_for(&head)).await;
        if head.contains("/endless") {
            let block = vec![7; 64 * 1024];
            let mut stream = raw.into_inner();
            while stream.write_all(&block).await.is_ok() {}
            return;
        }
        while let Some(bytes) = raw.some().await {
            raw.send(bytes).await;
        }
    })
    .await;
    let setup = Setup::new().tls_zone("a.test", address);
    let proxy = setup.start();
    let mut client = Client::tls(&setup, "a.test").await;
    // Streams whose content nobody takes, up to their windows; the connection's is taken out of the way.
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(client.open("https://a.test/endless").await);
    }
    let mut bulk = client.open(URL).await;
    let part = Bytes::from(vec![1; 16 * 1024]);
    for _ in 0..64 {
        bulk.send.reserve_capacity(part.len());
        while bulk.send.capacity() < part.len() {
            soon(std::future::poll_fn(|cx| bulk.send.poll_capacity(cx))).await.expect("open").expect("sound");
        }
        bulk.say(part.clone());
        bulk.expect(&part).await;
    }
    assert_eq!(proxy.counters().tunnels_live.get(), 21);
    for stream in &mut stalled {
        let got = stream.some().await.expect("open").expect("bytes");
        assert!(!got.is_empty());
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

#[tokio::test]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = std::sync::Arc::new(tokio::sync::Mutex::new(wait));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (slow, _) = origin(move |mut raw| {
        let (wait, asked) = (wait.clone(), asked.clone());
        async move {
            raw.head().await;
            asked.send(()).expect("taken");
            wait.lock().await.recv().await;
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            raw.rest().await.ok();
        }
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", slow).zone("ws.test", mirror().await));
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut idle = Client::cleartext(setup.http).await;
    assert_eq!(idle.get("http://none.test/").await.0.status(), 421);
    let mut client = Client::cleartext(setup.http).await;
    let mut socket = client.open("http://ws.test/").await;
    let request = Request::get(CLEAR).body(()).expect("a request");
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let (response, _) = requests.send_request(request, true).expect("sent");
    soon(was_asked.recv()).await.expect("asked");

    let drained = tokio::spawn(proxy.drain());
    soon(idle.end).await.expect("joined").expect("GOAWAY with no error");
    while soon(TcpStream::connect(setup.http)).await.is_ok() {}
    socket.say("still here");
    socket.expect(b"still here").await;
    go.send(()).expect("taken");
    assert_eq!(soon(response).await.expect("an answer").status(), 200);
    assert!(!drained.is_finished());
    socket.finish();
    assert!(socket.some().await.is_none());
    soon(client.end).await.expect("joined").expect("GOAWAY with no error");
    assert_eq!(soon(drained).await.expect("joined").closed, 0);
    assert_eq!(counters.tunnels_live.get(), 0);
}

#[tokio::test]
async fn a_connection_without_streams_ends_in_time_and_one_with_a_websocket_does_not() {
    let setup = h2c(Setup::new().zone("ws.test", mirror().await))
        .setting("header_timeout = \"150ms\"")
        .setting("keep_alive_timeout = \"300ms\"");
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut kept = Client::cleartext(setup.http).await;
    let mut socket = kept.open("http://ws.test/").await;

    // Nothing, half a preface, a preface, and a request.
    let mut silent = Raw::connect(setup.http).await;
    let mut half = Raw::connect(setup.http).await;
    half.send("PRI * HTTP/2.0\r\n").await;
    let prefaced = Client::cleartext(setup.http).await;
    let mut idle = Client::cleartext(setup.http).await;
    assert_eq!(idle.get("http://none.test/").await.0.status(), 421);
    assert_eq!(silent.rest().await.unwrap_or_default(), b"");
    assert_eq!(half.rest().await.unwrap_or_default(), b"");
    soon(prefaced.end).await.expect("joined").expect("GOAWAY with no error");
    soon(idle.end).await.expect("joined").expect("GOAWAY with no error");
    until("all are counted", || counters.timed_out.get() == 4).await;

    socket.say("still here");
    socket.expect(b"still here").await;
    socket.finish();
    assert!(socket.some().await.is_none());
    soon(kept.end).await.expect("joined").expect("GOAWAY with no error");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_reset_and_the_connection_goes_on() {
    let (address, _) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let length = if head.contains("/long") { 10_000_000 } else { 2 };
            raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
            raw.send(vec![b'x'; length]).await;
        }
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", address)).setting("stall_timeout = \"200ms\"");
    let proxy = setup.start();
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let stream = soon(TcpStream::connect(setup.http)).await.expect("connected");
    let mut client = Client::on(stream, &builder).await;
    for path in ["/long", "/short"] {
        let request = Request::get(format!("http://a.test{path}")).body(()).expect("a request");
        let mut answer = client.begin(request, true).await.expect("a head");
        assert_eq!(answer.reset().await, Reason::CANCEL, "{path}");
    }
    assert_eq!(proxy.counters().timed_out.get(), 2);
    let request = Request::get("http://none.test/").body(()).expect("a request");
    assert_eq!(client.begin(request, true).await.expect("a head").head.status(), 421);
}
