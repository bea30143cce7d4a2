//! Bounded against clients that are slow or many: at most [`CONNECTIONS`] at once (further ones wait in the kernel), each
//! with [`HEAD_TIMEOUT`] for the head of its next request and [`ANSWER_TIMEOUT`] to take an answer.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;

/// Connections at once.
const CONNECTIONS: usize = 256;
/// From the accept, or the end of the last answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection on which nothing moves for so long while an answer is due is closed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, for want of descriptors as a rule.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the future is dropped; connections that are being answered then go on. Handlers find their client's address
/// as [`ConnectInfo`]. Returns only if the address cannot be served any more.
pub async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        tokio::spawn(async move {
            let _place = place;
            serve_connection(stream, router).await;
        });
    }
}

/// Serves one connection to its end, as bounded in time as [`serve`]'s.
pub async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Send + 'static, router: Router) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(ANSWER_TIMEOUT));
    // For the content of a request; between requests the limit for heads is the shorter one.
    stream.set_read_timeout(Some(ANSWER_TIMEOUT));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}
