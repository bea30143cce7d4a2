//! Origins: small servers that do exactly what a test needs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{
    Message, handshake::derive_accept_key, protocol::frame::coding::CloseCode,
};

use super::raw::{Raw, header};

/// An origin whose every connection is handled by `handle`; its address and how many connections it got.
pub async fn origin<F, Fut>(handle: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(Raw<TcpStream>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            tokio::spawn(handle(Raw::new(stream)));
        }
    });
    (address, connections)
}

/// An origin that answers `ok` when it is told to: its address, what says that it was asked, and what lets it answer.
pub async fn when_told() -> (SocketAddr, mpsc::UnboundedReceiver<()>, mpsc::UnboundedSender<()>) {
    let (go, wait) = mpsc::unbounded_channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let (asked, was_asked) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
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
    (address, was_asked, go)
}

/// Echoes WebSocket messages; closing handshakes are tungstenite's.
pub async fn echo() -> SocketAddr {
    origin(|raw| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(raw.into_inner()).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                break;
            }
        }
    })
    .await
    .0
}

pub const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The 101 that is right for a request.
pub fn switch_for(head: &str) -> String {
    let key = header(head, "sec-websocket-key").expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    SWITCH.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept)
}

/// Answers 101, then sends back whatever comes, then closes as it is closed.
pub async fn mirror() -> SocketAddr {
    origin(|mut raw| async move {
        let head = raw.head().await;
        raw.send(switch_for(&head)).await;
        while let Some(bytes) = raw.some().await {
            raw.send(bytes).await;
        }
        raw.half_close().await;
    })
    .await
    .0
}

/// Answers every request on a connection with 200 and, as its body, the head and the body that it got.
pub async fn reflect() -> (SocketAddr, Arc<AtomicUsize>) {
    origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let body = raw.body_of(&head).await;
            let text = format!("{head}{body}");
            raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).await;
        }
    })
    .await
}

/// An origin that speaks WebSocket, and tells with which code it was closed.
pub async fn told() -> (SocketAddr, mpsc::UnboundedReceiver<Option<CloseCode>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let (address, _) = origin(move |raw| {
        let tell = tell.clone();
        async move {
            let mut socket = tokio_tungstenite::accept_async(raw.into_inner()).await.expect("a WebSocket");
            let mut code = None;
            while let Some(Ok(message)) = socket.next().await {
                match message {
                    Message::Close(frame) => code = frame.map(|frame| frame.code),
                    message => socket.send(message).await.expect("sent"),
                }
            }
            tell.send(code).expect("taken");
        }
    })
    .await;
    (address, told)
}
