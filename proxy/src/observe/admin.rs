//! The proxy's own admin address: metrics and health. [`weir_admin::serve`] bounds what its clients can take.
//!
//! Bound before root is dropped. If another process has the address - the proxy that this one takes over from, as a rule -
//! serving begins all the same, and the address is asked for again until it is free. It is answered until the process ends,
//! so that a drain can be watched.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::Response,
    routing::get,
};
use tokio::{net::TcpListener, time::sleep};
use tracing::{info, warn};
use weir_admin::Scrapes;

use crate::{observe::metrics::Metrics, server::Shared};

/// Between two attempts to have an address that another process has.
const RETRY: Duration = Duration::from_secs(1);

/// The admin address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} (`admin` of [proxy]): {source} (name another address of this host, \
         with a port from 1024 on unless root starts the proxy)"
)]
pub struct AdminError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// The address, and its socket if it could be had.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    address: SocketAddr,
    socket: Option<StdListener>,
}

impl AdminSocket {
    /// One that listens already.
    pub fn of(address: SocketAddr, socket: StdListener) -> Self {
        Self { address, socket: Some(socket) }
    }

    pub fn held(&self) -> Option<(SocketAddr, &StdListener)> {
        Some((self.address, self.socket.as_ref()?))
    }

    pub fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        match listen(address) {
            Ok(socket) => Ok(Self { address, socket: Some(socket) }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                warn!(%address, "another process has the admin address: no metrics until it is free");
                Ok(Self { address, socket: None })
            }
            Err(source) => Err(AdminError { address, source }),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = StdListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Serves until it is dropped.
pub(crate) async fn run(admin: AdminSocket, shared: Arc<Shared>) {
    let AdminSocket { address, mut socket } = admin;
    let held = loop {
        match socket.map_or_else(|| listen(address), Ok).and_then(TcpListener::from_std) {
            Ok(listener) => break listener,
            Err(_) => sleep(RETRY).await,
        }
        socket = None;
    };
    info!(%address, "metrics");
    let served = match Metrics::new(shared.clone()) {
        Ok(metrics) => weir_admin::serve(held, router(shared, Arc::new(metrics))).await,
        Err(error) => Err(io::Error::other(error)),
    };
    if let Err(error) = served {
        warn!(%error, "the admin address is not served any more");
    }
}

fn router(shared: Arc<Shared>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/", get(|| async { "weir proxy\n\n/metrics\n/healthz\n/readyz\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(shared))
        .route("/metrics", get(scrape).with_state((metrics, Scrapes::default())))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page; see /\n") })
}

/// For a load balancer in front: a proxy that drains takes no new connections.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if *shared.draining.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn scrape(State((metrics, scrapes)): State<(Arc<Metrics>, Scrapes)>) -> Response {
    let mut answer = scrapes.answer(move || metrics.scrape()).await;
    // A scraper that kept its connection would go on asking a proxy that was replaced.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
