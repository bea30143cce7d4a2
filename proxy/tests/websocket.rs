//! Upgrades and tunnels through the proxy, in cleartext and over TLS.

mod support;

use futures_util::{SinkExt, StreamExt};
use support::{
    Setup,
    origin::{SWITCH, echo, origin},
    raw::{Raw, header, status, tls_config, upgrade_request},
    soon, until,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
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
