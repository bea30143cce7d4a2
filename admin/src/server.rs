//! Bounded against clients that are slow or many: at most [`CONNECTIONS`] at once, each with [`HEAD_TIMEOUT`] for the head of its
//! next request and [`ANSWER_TIMEOUT`] to take an answer. A further one takes the [place](places) of the one that has waited
//! longest for a head; while all are being answered it waits in the kernel.

use std::time::Duration;

use axum::{Extension, Router, extract::ConnectInfo, middleware};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_io_timeout::TimeoutStream;

use crate::places::{self, Places};

/// Connections at once.
const CONNECTIONS: usize = 256;
/// From the accept, or the end of the last answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing moves for so long while an answer is due is closed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, for want of descriptors as a rule.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the future is dropped; connections that are being answered then go on. Handlers find their client's address
/// as [`ConnectInfo`]. Returns only if the address cannot be served any more.
pub async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    serve_some(listener, router, CONNECTIONS, HEAD_TIMEOUT).await
}

async fn serve_some(
    listener: TcpListener,
    router: Router,
    connections: usize,
    head_timeout: Duration,
) -> std::io::Result<()> {
    let places = Places::new(connections);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = places.take().await.map_err(std::io::Error::other)?;
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        tokio::spawn(async move {
            let of = place.clone();
            let router = router
                .layer(middleware::from_fn(move |request, next| places::answer(of.clone(), request, next)));
            tokio::select! {
                () = serve_within(stream, router, head_timeout) => {}
                () = place.evicted() => tracing::debug!(%peer, "an admin connection made room for another"),
            }
        });
    }
}

/// Serves one connection to its end, as bounded in time as [`serve`]'s.
pub async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Send + 'static, router: Router) {
    serve_within(stream, router, HEAD_TIMEOUT).await;
}

async fn serve_within(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    head_timeout: Duration,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(ANSWER_TIMEOUT));
    // For the content of a request; between requests the limit for heads is the shorter one.
    stream.set_read_timeout(Some(ANSWER_TIMEOUT));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::Notify,
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// Longer than any test: whoever goes does not go for its time.
    const FOREVER: Duration = Duration::from_secs(3600);
    const PLACES: usize = 4;

    /// Serves `/healthz`, and `/slow`, which is answered when the test says so.
    async fn served() -> (SocketAddr, Arc<Notify>, Arc<Notify>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (was_asked, wait) = (asked.clone(), go.clone());
        let slow = move || async move {
            was_asked.notify_one();
            wait.notified().await;
            "slow"
        };
        let router = Router::new().route("/healthz", get(|| async { "ok" })).route("/slow", get(slow));
        tokio::spawn(serve_some(listener, router, PLACES, FOREVER));
        (address, asked, go)
    }

    async fn connect(address: SocketAddr, send: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(send.as_bytes()).await.expect("sent");
        stream
    }

    /// Everything up to the end, or to this.
    async fn read(stream: &mut TcpStream, to: &str) -> String {
        let mut all = Vec::new();
        let reading = async {
            while !to.is_empty() && !String::from_utf8_lossy(&all).ends_with(to) {
                if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            if to.is_empty() {
                let _ = stream.read_to_end(&mut all).await;
            }
        };
        timeout(PATIENCE, reading).await.expect("it hangs");
        String::from_utf8(all).expect("text")
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[tokio::test]
    async fn half_heads_and_idle_connections_keep_nobody_out() {
        let (address, _, _) = served().await;
        let mut idle = connect(address, &request("/healthz")).await;
        assert!(read(&mut idle, "ok").await.starts_with("HTTP/1.1 200 "));
        let mut halves = Vec::new();
        for _ in 0..3 * PLACES {
            halves.push(connect(address, "GET /healthz HT").await);
        }
        let mut whole = connect(address, &request("/healthz")).await;
        assert!(read(&mut whole, "ok").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(read(&mut idle, "").await, "", "it made room");
        assert_eq!(read(&mut halves[0], "").await, "", "the first that waited as well");
        let last = halves.last_mut().expect("some");
        last.write_all(b"TP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        assert!(read(last, "ok").await.starts_with("HTTP/1.1 200 "), "and the last that waits has its place");
    }

    #[tokio::test]
    async fn who_is_being_answered_keeps_the_place() {
        let (address, asked, go) = served().await;
        let mut slow = connect(address, &request("/slow")).await;
        timeout(PATIENCE, asked.notified()).await.expect("asked");
        for _ in 0..3 * PLACES {
            let mut quick = connect(address, &request("/healthz")).await;
            assert!(read(&mut quick, "ok").await.starts_with("HTTP/1.1 200 "));
            let mut half = connect(address, "GET /healthz HT").await;
            half.write_all(b"T").await.expect("sent");
        }
        // With all places taken it is the last answer on its connection.
        let mut halves = Vec::new();
        for _ in 0..PLACES {
            halves.push(connect(address, "GET /healthz HT").await);
        }
        assert_eq!(read(&mut halves[0], "").await, "");
        go.notify_one();
        let answer = read(&mut slow, "").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("slow"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
