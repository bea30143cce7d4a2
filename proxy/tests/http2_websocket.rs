//! WebSockets over HTTP/2, by extended CONNECT: each a stream of its own, and what ends it.

mod support;

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::Reason;
use http::{Method, Request};
use support::{
    Setup,
    http2::{Answer, Client},
    origin::{echo, origin, switch_for},
    raw::header,
    soon, until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

const URL: &str = "https://a.test/path?x=1";

async fn secure(origin: std::net::SocketAddr) -> (Setup, weir_proxy::Running, Client) {
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let client = Client::tls(&setup, "a.test").await;
    (setup, proxy, client)
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
async fn a_websocket_of_another_version_is_426_and_its_origin_is_not_asked() {
    let (address, connections) = origin(|mut raw| async move {
        let head = raw.head().await;
        raw.send(switch_for(&head)).await;
        raw.rest().await.ok();
    })
    .await;
    let (_setup, proxy, mut client) = secure(address).await;
    client.open(URL).await;
    for versions in [&[][..], &["8"], &["13", "8"], &["13, 8"], &["13", "13"], &[",13"], &[""]] {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(URL)
            .extension(h2::ext::Protocol::from_static("websocket"));
        for version in versions {
            request = request.header("sec-websocket-version", *version);
        }
        let mut answer = client.begin(request.body(()).expect("a request"), false).await.expect("an answer");
        assert_eq!(answer.head.status(), 426, "{versions:?}");
        assert_eq!(answer.head.headers()["sec-websocket-version"], "13");
        assert!(answer.text().await.contains("websocket_version_not_supported"));
    }
    assert_eq!((connections.load(Relaxed), proxy.counters().tunnels.get()), (1, 1), "the good one's");
}

#[tokio::test]
async fn an_expectation_of_a_websocket_is_nobodys_to_answer() {
    let (heads, mut asked) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let heads = heads.clone();
        async move {
            let head = raw.head().await;
            raw.send(switch_for(&head)).await;
            heads.send(head).expect("taken");
            raw.rest().await.ok();
        }
    })
    .await;
    let (_setup, _proxy, client) = secure(address).await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(URL)
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .header("expect", "100-continue");
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let (mut response, _send) =
        requests.send_request(request.body(()).expect("a request"), false).expect("sent");
    let informed = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert!(informed.is_none(), "{informed:?}");
    assert_eq!(soon(response).await.expect("an answer").status(), 200);
    let head = soon(asked.recv()).await.expect("a head");
    assert_eq!(header(&head, "expect"), None, "{head}");
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
            request = request
                .method(Method::CONNECT)
                .extension(h2::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13");
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

/// The two ends of a stream of HTTP/2 as one, for a library that wants a socket.
fn as_socket(answer: Answer) -> tokio::io::DuplexStream {
    let Answer { mut send, mut receive, .. } = answer;
    let (ours, theirs) = tokio::io::duplex(4096);
    let (mut from, mut to) = tokio::io::split(theirs);
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            send.send_data(Bytes::copy_from_slice(&chunk[..read]), false).expect("sent");
        }
        let _ = send.send_data(Bytes::new(), true);
    });
    tokio::spawn(async move {
        while let Some(Ok(data)) = receive.data().await {
            receive.flow_control().release_capacity(data.len()).expect("received");
            to.write_all(&data).await.expect("a reader");
        }
        let _ = to.shutdown().await;
    });
    ours
}

#[tokio::test]
async fn tungstenite_converses_over_a_stream() {
    let (_setup, proxy, mut client) = secure(echo().await).await;
    let socket = as_socket(client.open(URL).await);
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        soon(socket.send(message.clone())).await.expect("sent");
        assert_eq!(soon(socket.next()).await.expect("an answer").expect("a message"), message);
    }
    soon(socket.close(None)).await.expect("a close");
    while let Some(message) = soon(socket.next()).await {
        assert!(message.expect("an orderly end").is_close());
    }
    assert_eq!(proxy.counters().tunnels.get(), 1);
}
