//! The admin address: metrics, health and the read-only API, over HTTP/1.1.
//!
//! Bounded against clients that are slow or many: at most [`CONNECTIONS`] at once (further ones wait in the kernel), each
//! with [`HEAD_TIMEOUT`] for the head of its next request and [`ANSWER_TIMEOUT`] to take an answer.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, Path, Query, State as Shared},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, USER_AGENT},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_io_timeout::TimeoutStream;

use crate::{
    api::EventsReply,
    metrics::Metrics,
    peaks::ScraperId,
    state::{State, lock},
};

/// What the handlers have.
#[derive(Clone)]
struct Admin {
    state: Arc<State>,
    metrics: Arc<Metrics>,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, state: Arc<State>) -> std::io::Result<()> {
    let metrics = Metrics::new(Arc::clone(&state)).map_err(std::io::Error::other)?;
    let admin = Admin { state, metrics: Arc::new(metrics) };
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/zones", get(zones))
        .route("/api/zones/{zone}", get(zone))
        .route("/api/events", get(events))
        .route("/api/host", get(host))
        .fallback(not_found)
        .with_state(admin);
    accept(listener, router).await
}

/// Connections at once.
const CONNECTIONS: usize = 256;
/// From the accept, or the end of the last answer, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection on which nothing moves for so long while an answer is due is closed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, for want of descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn accept(listener: TcpListener, router: Router) -> std::io::Result<()> {
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
        let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo(peer))));
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(ANSWER_TIMEOUT));
        tokio::spawn(async move {
            let _place = place;
            let io = TokioIo::new(Box::pin(stream));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(io, service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection ended early");
            }
        });
    }
}

async fn index() -> &'static str {
    "weir agent\n\n/metrics\n/healthz\n/readyz\n/api/zones\n/api/zones/NAME\n/api/events\n/api/host\n"
}

async fn scrape(
    Shared(admin): Shared<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let scraper = ScraperId::new(peer.ip().to_canonical(), agent);
    blocking(move || match admin.metrics.scrape(scraper) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot encode the metrics: {error}"))
        }
    })
    .await
}

async fn ready(Shared(admin): Shared<Admin>) -> (StatusCode, &'static str) {
    if admin.state.ready.load(Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the first audit is not over\n")
    }
}

#[derive(Deserialize)]
struct ZonesQuery {
    /// Part of a zone's name.
    search: Option<String>,
}

async fn zones(Shared(admin): Shared<Admin>, Query(query): Query<ZonesQuery>) -> Response {
    blocking(move || Json(admin.state.zones_reply(query.search.as_deref())).into_response()).await
}

async fn zone(Shared(admin): Shared<Admin>, Path(name): Path<String>) -> Response {
    blocking(move || {
        let reply = admin.state.zones_reply(Some(&name));
        match reply.zones.into_iter().find(|zone| zone.zone == name) {
            Some(zone) => Json(zone).into_response(),
            None => problem(StatusCode::NOT_FOUND, &format!("no zone is called `{name}`")),
        }
    })
    .await
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Number of the first event to return; default all that are kept.
    #[serde(default)]
    since: u64,
}

async fn events(Shared(admin): Shared<Admin>, Query(query): Query<EventsQuery>) -> Json<EventsReply> {
    let log = lock(&admin.state.events);
    Json(EventsReply { events: log.since(query.since), next: log.next_id() })
}

async fn host(Shared(admin): Shared<Admin>) -> Response {
    blocking(move || Json(admin.state.host_reply()).into_response()).await
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "no such page; see /")
}

/// Reading 100,000 zones takes milliseconds: not on the threads that serve others.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the request failed: {error}"))
    })
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body =
        Problem { title: status.canonical_reason().unwrap_or("error"), status: status.as_u16(), detail };
    let mut response = (status, Json(body)).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/problem+json"));
    response
}
