//! Upgrades and tunnels through the proxy, in cleartext and over TLS.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use support::{
    Setup, free_port,
    origin::{SWITCH, echo, mirror, origin, reflect},
    raw::{Raw, header, status, tls_config, upgrade_request},
    soon, until,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_tungstenite::{
    Connector, WebSocketStream, client_async, client_async_tls_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    for message in [
        Message::text(""),
        Message::text("hello"),
        Message::binary(vec![7; 125]),
        Message::binary(vec![7; 126]),
        Message::binary(vec![8; 70_000]),
        Message::binary(vec![9; 3 << 20]),
    ] {
        soon(socket.send(message.clone())).await.expect("sent");
        assert_eq!(soon(socket.next()).await.expect("an answer").expect("a message"), message);
    }
    soon(socket.close(None)).await.expect("closed");
    while let Some(message) = soon(socket.next()).await {
        assert!(message.expect("a clean end").is_close());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_by_ws_and_by_wss() {
    let setup = Setup::new().tls_zone("a.test", echo().await);
    let proxy = setup.start();

    let stream = TcpStream::connect(setup.http).await.expect("connected");
    let (socket, response) = soon(client_async("ws://a.test/", stream)).await.expect("upgraded");
    assert_eq!(response.status(), 101);
    echoes(socket).await;

    let stream = TcpStream::connect(setup.https).await.expect("connected");
    let connector = Connector::Rustls(tls_config(&setup.roots));
    let config = WebSocketConfig::default();
    let connect = client_async_tls_with_config("wss://a.test/", stream, Some(config), Some(connector));
    echoes(soon(connect).await.expect("upgraded").0).await;

    let counters = proxy.counters().clone();
    until("both tunnels ended", || counters.tunnels_live.get() == 0).await;
    assert_eq!((counters.tunnels.get(), counters.upgrades.get()), (2, 2));
}

#[tokio::test]
async fn the_origin_gets_the_handshake_as_it_was_sent() {
    let (sender, mut heads) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            sender.send(raw.head().await).expect("taken");
            raw.send(
                SWITCH.replace("\r\n\r\n", "\r\nX-Origin: 1\r\nKeep-Alive: 1\r\nContent-Length: 3\r\n\r\n"),
            )
            .await;
            raw.rest().await.ok();
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let request = upgrade_request("A.test:80").replace("Upgrade: websocket", "Upgrade: h2c, WebSocket");
    let request = request
        .replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x, y\r\nOrigin: http://o\r\nKeep-Alive: 3\r\n\r\n");
    client.send(request).await;
    let answer = client.head().await;
    assert_eq!(status(&answer), 101);
    assert_eq!(header(&answer, "upgrade"), Some("websocket"));
    assert_eq!(header(&answer, "connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(header(&answer, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&answer, "x-origin"), Some("1"));
    assert_eq!((header(&answer, "keep-alive"), header(&answer, "content-length")), (None, None));

    let head = heads.recv().await.expect("a head");
    assert!(head.starts_with("GET /chat?x=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("A.test:80"));
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("x, y"));
    assert_eq!(header(&head, "origin"), Some("http://o"));
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&head, "keep-alive"), None);
}

#[tokio::test]
async fn bytes_that_come_with_either_handshake_are_not_lost() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(format!("{SWITCH}from the origin, early")).await;
        raw.expect("from the client, early").await;
        raw.send("; done").await;
        raw.half_close().await;
    })
    .await;
    let setup = Setup::new().tls_zone("a.test", address);
    let _proxy = setup.start();
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut client: Raw<S>) {
        client.send(format!("{}from the client, early", upgrade_request("a.test"))).await;
        assert_eq!(status(&client.head().await), 101);
        client.expect("from the origin, early; done").await;
    }
    talk(Raw::connect(setup.http).await).await;
    talk(Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected")).await;
}

#[tokio::test]
async fn a_websocket_survives_half_close_by_the_client() {
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut client: Raw<S>) {
        client.upgrade("a.test").await;
        client.send("question").await;
        client.half_close().await;
        assert_eq!(client.rest().await.expect("a clean end"), b"question, answer");
    }
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        let question = raw.rest().await.expect("a clean end");
        raw.send(question).await;
        raw.send(", answer").await;
    })
    .await;
    let setup = Setup::new().tls_zone("a.test", address);
    let _proxy = setup.start();
    talk(Raw::connect(setup.http).await).await;
    talk(Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected")).await;
}

#[tokio::test]
async fn a_websocket_survives_half_close_by_the_origin() {
    let (sender, mut got) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            raw.head().await;
            raw.send(SWITCH).await;
            raw.send("bye").await;
            raw.half_close().await;
            sender.send(raw.rest().await.expect("a clean end")).expect("taken");
        }
    })
    .await;
    let setup = Setup::new().tls_zone("a.test", address);
    let _proxy = setup.start();
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut client: Raw<S>) {
        client.upgrade("a.test").await;
        assert_eq!(client.rest().await.expect("a clean end"), b"bye");
        client.send("still here").await;
        client.half_close().await;
    }
    talk(Raw::connect(setup.http).await).await;
    assert_eq!(soon(got.recv()).await.expect("bytes"), b"still here");
    talk(Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected")).await;
    assert_eq!(soon(got.recv()).await.expect("bytes"), b"still here");
}

#[tokio::test]
async fn an_origin_that_resets_is_seen_as_a_reset_and_so_is_a_client() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            raw.head().await;
            raw.send(SWITCH).await;
            if raw.exactly(1).await == b"r" {
                raw.stream().set_zero_linger().expect("set");
            } else {
                sender.send(raw.rest().await.map_err(|error| error.kind())).expect("taken");
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();

    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.send("r").await;
    assert_eq!(client.rest().await.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);

    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.send("x").await;
    client.stream().set_zero_linger().expect("set");
    drop(client);
    assert_eq!(soon(ends.recv()).await.expect("an end"), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_its_client_back_and_not_others() {
    let reading = Arc::new(Semaphore::new(0));
    let taken = Arc::new(AtomicUsize::new(0));
    let (address, _) = origin({
        let (reading, taken) = (reading.clone(), taken.clone());
        move |mut raw| {
            let (reading, taken) = (reading.clone(), taken.clone());
            async move {
                raw.head().await;
                raw.send(SWITCH).await;
                let _permit = reading.acquire().await.expect("open");
                while let Some(bytes) = raw.some().await {
                    taken.fetch_add(bytes.len(), Relaxed);
                }
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address).zone("b.test", mirror().await);
    let _proxy = setup.start();

    // The smallest buffers that the kernel gives, so that most of what is stuck is stuck in the client.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(4096).expect("set");
    let mut client = Raw::new(socket.connect(setup.http).await.expect("connected"));
    client.upgrade("a.test").await;

    let mut client = client.into_inner();
    let mut pushed = 0;
    let chunk = [3; 64 * 1024];
    // Until nothing has moved for a while.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), tokio::io::AsyncWriteExt::write(&mut client, &chunk))
            .await
    {
        pushed += written.expect("open");
        assert!(pushed < 64 << 20, "it takes everything");
    }
    let mut other = Raw::connect(setup.http).await;
    other.upgrade("b.test").await;
    other.send("hello").await;
    other.expect("hello").await;

    reading.add_permits(1);
    tokio::io::AsyncWriteExt::shutdown(&mut client).await.expect("closed");
    until("every byte has arrived", || taken.load(Relaxed) == pushed).await;
}

/// An origin that answers 101 and then keeps its connection without reading or closing it.
async fn stalling() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_dead_client_ends_its_tunnel_although_the_origin_keeps_it() {
    const TUNNELS: u64 = 100;
    let (address, _) = stalling().await;
    let setup = Setup::new().tls_zone("a.test", address);
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let half_closed = |live| {
        let counters = counters.clone();
        async move { until("the tunnels are open", || counters.tunnels_live.get() == live).await }
    };
    let mut clients = Vec::new();
    for _ in 0..TUNNELS {
        let mut client = Raw::connect(setup.http).await;
        client.upgrade("a.test").await;
        client.half_close().await;
        clients.push(client.into_inner());
    }
    half_closed(TUNNELS).await;
    // The proxy has passed the ends on and reads these clients no more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for client in clients.drain(..) {
        client.set_zero_linger().expect("set");
    }
    until("the tunnels are gone", || counters.tunnels_live.get() == 0).await;

    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    client.upgrade("a.test").await;
    client.half_close().await;
    half_closed(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.tcp().set_zero_linger().expect("set");
    drop(client);
    until("the tunnel by TLS is gone", || counters.tunnels_live.get() == 0).await;
}

#[tokio::test]
async fn a_client_that_dies_behind_a_stalled_origin_ends_its_tunnel() {
    let (address, _) = stalling().await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    let mut client = client.into_inner();
    let chunk = [3; 64 * 1024];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), tokio::io::AsyncWriteExt::write(&mut client, &chunk))
            .await
    {
        written.expect("open");
    }
    assert_eq!(proxy.counters().tunnels_live.get(), 1);
    client.set_zero_linger().expect("set");
    drop(client);
    until("the tunnel is gone", || proxy.counters().tunnels_live.get() == 0).await;
}

#[tokio::test]
async fn a_half_closed_tunnel_in_which_nothing_moves_has_its_time() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            raw.send("x").await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let setup = Setup::new().zone("a.test", address).setting("half_closed_timeout = \"300ms\"");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.half_close().await;
    assert_eq!(client.exactly(8).await, b"xxxxxxxx", "it lives while something moves");
    assert!(client.rest().await.is_err(), "cut off, not ended");
    until("the tunnel is gone", || proxy.counters().tunnels_live.get() == 0).await;
}

#[tokio::test]
async fn an_answer_that_is_no_101_is_forwarded_and_the_connection_goes_on() {
    let (address, connections) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let answer = match head.split(' ').nth(1) {
                Some("/200") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Some("/401") => "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\r\nuntil the end",
                _ => "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            };
            raw.send(answer).await;
            if answer.contains("close") {
                return;
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for (path, code, text) in [("/200", 200, "ok"), ("/403", 403, "abc"), ("/401", 401, "until the end")] {
        let (head, body) = client.ask(&upgrade_request("a.test").replace("/chat?x=1", path)).await;
        assert_eq!((status(&head), body.as_str()), (code, text), "{head}");
        assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (None, None), "{head}");
    }
    assert_eq!(connections.load(Relaxed), 3, "each upgrade has a connection of its own");
    assert_eq!((proxy.counters().upgrades.get(), proxy.counters().tunnels.get()), (3, 0));
}

#[tokio::test]
async fn an_answer_that_came_before_the_origin_broke_off_is_forwarded() {
    for behind in ["", "more than was announced"] {
        let (address, _) = origin(move |mut raw| async move {
            raw.head().await;
            raw.send(format!("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno{behind}")).await;
            raw.stream().set_zero_linger().expect("set");
        })
        .await;
        let setup = Setup::new().zone("a.test", address);
        let _proxy = setup.start();
        for _ in 0..50 {
            let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request("a.test")).await;
            assert_eq!((status(&head), body.as_str()), (403, "no"), "{behind}");
        }
    }
}

#[tokio::test]
async fn bytes_behind_a_declined_upgrade_never_reach_the_origin() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            let head = raw.head().await;
            if head.starts_with("GET /smuggled") {
                raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                return;
            }
            raw.send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
            sender.send(raw.rest().await.unwrap_or_default()).expect("taken");
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();

    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{}\x01\x02tunnel bytes\r\n\r\n", upgrade_request("a.test"))).await;
    let answers = String::from_utf8(client.rest().await.expect("a clean end")).expect("text");
    assert!(answers.starts_with("HTTP/1.1 403 "), "{answers}");
    assert!(answers.contains("HTTP/1.1 400 "), "what is no request is refused: {answers}");
    assert_eq!(soon(seen.recv()).await.expect("bytes"), b"");

    // A request behind it is the client's next one and goes the way of every request.
    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{}GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n", upgrade_request("a.test"))).await;
    assert_eq!(status(&client.head().await), 403);
    assert_eq!(status(&client.head().await), 421);
    assert_eq!(soon(seen.recv()).await.expect("bytes"), b"");
    assert_eq!(proxy.counters().refused_for("host_unknown"), 1);
}

#[tokio::test]
async fn only_a_proper_101_opens_a_tunnel() {
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ];
    for answer in answers {
        let (address, _) = origin(move |mut raw| async move {
            raw.head().await;
            raw.send(answer).await;
            assert_eq!(raw.rest().await.unwrap_or_default(), b"");
        })
        .await;
        let setup = Setup::new().zone("a.test", address);
        let proxy = setup.start();
        let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request("a.test")).await;
        assert_eq!(status(&head), 502, "{answer}");
        assert!(body.contains("\"origin_bad_upgrade\""), "{body}");
        assert_eq!(proxy.counters().tunnels.get(), 0);
    }
}

#[tokio::test]
async fn an_upgrade_fails_as_its_origin_fails() {
    let (slow, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.rest().await.ok();
    })
    .await;
    let (rude, _) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (garbage, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let setup = Setup::new()
        .zone("down.test", free_port())
        .zone("slow.test", slow)
        .zone("rude.test", rude)
        .zone("garbage.test", garbage)
        .setting("response_timeout = \"100ms\"");
    let proxy = setup.start();
    for (host, code, reason) in [
        ("down.test", 502, "origin_unreachable"),
        ("slow.test", 504, "origin_response_timeout"),
        ("rude.test", 502, "origin_failed"),
        ("garbage.test", 502, "origin_failed"),
    ] {
        let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request(host)).await;
        assert_eq!(status(&head), code, "{host}: {head}");
        assert!(body.contains(reason) && body.contains(host), "{body}");
    }
    assert_eq!(proxy.counters().tunnels.get(), 0);
}

#[tokio::test]
async fn an_upgrade_to_anything_else_is_a_plain_request() {
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let h2c = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let post = upgrade_request("a.test").replace("GET ", "POST ");
    for request in [h2c, &post] {
        let (head, got) = client.ask(request).await;
        assert_eq!(status(&head), 200);
        assert_eq!((header(&got, "upgrade"), header(&got, "http2-settings")), (None, None), "{got}");
    }
    let with_content = upgrade_request("a.test").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
    let (head, body) = client.ask(&with_content).await;
    assert_eq!(status(&head), 400);
    assert!(body.contains("upgrade_with_content"), "{body}");
    assert_eq!(proxy.counters().tunnels.get(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_origin_thinks_takes_the_origins_connection_along() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            raw.head().await;
            sender.send("asked").expect("taken");
            raw.rest().await.ok();
            sender.send("left").expect("taken");
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    for behind in ["", "bytes of a tunnel to be"] {
        for reset in [false, true] {
            let mut client = Raw::connect(setup.http).await;
            client.send(format!("{}{behind}", upgrade_request("a.test"))).await;
            assert_eq!(soon(ends.recv()).await, Some("asked"));
            if reset {
                client.stream().set_zero_linger().expect("set");
            }
            drop(client);
            assert_eq!(soon(ends.recv()).await, Some("left"), "{behind} {reset}");
        }
    }
}
