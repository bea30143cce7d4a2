//! The admin address: metrics, health and the read-only API, over HTTP/1.1. The agent's Unix socket serves the same pages.
//! [`weir_admin::serve`] bounds what clients can take.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, Query, State as Shared},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, USER_AGENT},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use weir_admin::Scrapes;
use weir_notices::plot::Plot;
use weir_reachout::contact::NoticeKind;

use crate::{
    api::EventsReply,
    metrics::Metrics,
    operator::{self, ActsReply},
    peaks::ScraperId,
    reachout, sources,
    state::{State, lock},
};

/// What the handlers have.
#[derive(Clone)]
struct Admin {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    scrapes: Scrapes,
}

/// Every page that is read; the agent's Unix socket has the same, and takes acts.
pub fn pages(state: Arc<State>) -> std::io::Result<Router> {
    let metrics = Metrics::new(Arc::clone(&state)).map_err(std::io::Error::other)?;
    let admin = Admin { state, metrics: Arc::new(metrics), scrapes: Scrapes::default() };
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/zones", get(zones))
        .route("/api/zones/{zone}", get(zone))
        .route("/api/zones/{zone}/plot.svg", get(plot_svg))
        .route("/api/zones/{zone}/plot.png", get(plot_png))
        .route("/api/cases/{case}/letter", get(letter))
        .route("/api/events", get(events))
        .route("/api/host", get(host))
        .route("/api/acts", get(acts))
        .route("/api/denied", get(denied))
        .route("/api/cases", get(cases))
        .route("/api/policy", get(policy))
        .route("/api/report/{zone}", get(report))
        .route("/api/sources", get(top_sources))
        .fallback(not_found)
        .with_state(admin);
    Ok(router)
}

/// Serves until the process ends. Nobody is asked who he is here, so nothing is done for him.
pub async fn serve(listener: TcpListener, pages: Router) -> std::io::Result<()> {
    weir_admin::serve(listener, pages.route("/api/acts", post(no_acts)).route("/api/cases", post(no_acts)))
        .await
}

async fn index() -> &'static str {
    "weir agent\n\n/metrics\n/healthz\n/readyz\n/api/zones\n/api/zones/NAME\n/api/zones/NAME/plot.svg\n/api/zones/NAME/plot.png\n/api/cases/ID/letter\n/api/events\n/api/host\n/api/sources\n/api/acts\n/api/denied\n/api/cases\n/api/policy\n/api/report/ZONE\n"
}

async fn scrape(
    Shared(admin): Shared<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let scraper = ScraperId::new(peer.ip().to_canonical(), agent);
    admin.scrapes.answer(move || admin.metrics.scrape(&scraper)).await
}

/// Counting is what readiness is about; that the policy stands still is told, and does not take the host out.
async fn ready(Shared(admin): Shared<Admin>) -> (StatusCode, String) {
    let fault = lock(&admin.state.view).fault.clone();
    let detail = fault.map_or_else(String::new, |fault| format!("reach-out stands still: {fault}\n"));
    if admin.state.ready.load(Relaxed) {
        (StatusCode::OK, format!("ready\n{detail}"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: the first audit is not over\n{detail}"))
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

async fn plot_svg(Shared(admin): Shared<Admin>, Path(name): Path<String>) -> Response {
    match plot(&admin, &name).await {
        Ok(plot) => ([(CONTENT_TYPE, "image/svg+xml")], plot.svg()).into_response(),
        Err(problem) => problem,
    }
}

async fn plot_png(Shared(admin): Shared<Admin>, Path(name): Path<String>) -> Response {
    let plot = match plot(&admin, &name).await {
        Ok(plot) => plot,
        Err(problem) => return problem,
    };
    blocking(move || match plot.png() {
        Ok(png) => ([(CONTENT_TYPE, "image/png")], png).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    })
    .await
}

/// A zone's last 30 days, if it is a zone.
async fn plot(admin: &Admin, name: &str) -> Result<Plot, Response> {
    if admin.state.slot_of(name).is_none() {
        return Err(problem(StatusCode::NOT_FOUND, &format!("no zone is called `{name}`")));
    }
    let post = Arc::clone(&lock(&admin.state.post));
    let dossier = post.dossier(&admin.state.ledger, name, admin.state.now()).await;
    let failed =
        |error| problem(StatusCode::SERVICE_UNAVAILABLE, &format!("{:#}", anyhow::Error::from(error)));
    dossier.map(|dossier| dossier.plot).map_err(failed)
}

#[derive(Deserialize)]
struct LetterQuery {
    /// The kind of a notice; default what would be said next.
    kind: Option<NoticeKind>,
    /// As a browser shows it, with the plot; else its subject and text.
    #[serde(default)]
    html: bool,
}

/// A letter of a case as it would be sent now, but for its links, which lead nowhere.
async fn letter(
    Shared(admin): Shared<Admin>,
    Path(case): Path<String>,
    Query(query): Query<LetterQuery>,
) -> Response {
    let post = Arc::clone(&lock(&admin.state.post));
    match post.preview(&admin.state.ledger, &case, query.kind, admin.state.now()).await {
        Ok(Some(letter)) if query.html => {
            ([(CONTENT_TYPE, "text/html; charset=utf-8")], letter.preview_html()).into_response()
        }
        Ok(Some(letter)) => letter.preview_text().into_response(),
        Ok(None) => {
            let why = format!("there is no case {case}, or nothing of this kind to say about it now");
            problem(StatusCode::NOT_FOUND, &why)
        }
        Err(why) => problem(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
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

#[derive(Deserialize)]
struct ActsQuery {
    /// So many of the newest entries of the ledger, instead of what is in force.
    history: Option<u64>,
}

/// Entries of the ledger in one answer.
const MOST_HISTORY: u64 = 10_000;

async fn acts(Shared(admin): Shared<Admin>, Query(query): Query<ActsQuery>) -> Response {
    let state = &admin.state;
    let acts = match query.history {
        None => operator::in_force(state),
        Some(count) => match operator::history(state, count.min(MOST_HISTORY)).await {
            Ok(acts) => acts,
            Err(error) => return problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        },
    };
    Json(ActsReply { acts, ledger_fault: state.ledger.health().fault() }).into_response()
}

async fn denied(Shared(admin): Shared<Admin>) -> Response {
    blocking(move || Json(operator::denied(&admin.state)).into_response()).await
}

async fn cases(Shared(admin): Shared<Admin>) -> Response {
    Json(lock(&admin.state.view).reply()).into_response()
}

async fn policy(Shared(admin): Shared<Admin>) -> Response {
    match lock(&admin.state.view).policy.clone() {
        Some(policy) => Json(policy).into_response(),
        None => problem(StatusCode::SERVICE_UNAVAILABLE, "the policy does not know its past yet"),
    }
}

async fn report(Shared(admin): Shared<Admin>, Path(zone): Path<String>) -> Response {
    match reachout::report(&admin.state, &zone).await {
        Ok(Some(report)) => Json(report).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, &format!("nothing is known of a zone `{zone}`")),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn no_acts() -> Response {
    problem(
        StatusCode::FORBIDDEN,
        "this address is for reading only: acts are taken on the agent's Unix socket (agent.socket)",
    )
}

#[derive(Deserialize)]
struct SourcesQuery {
    /// How many; default 20, at most 10,000.
    top: Option<usize>,
    /// Only of this zone.
    zone: Option<String>,
}

const DEFAULT_TOP: usize = 20;
const MOST_TOP: usize = 10_000;

async fn top_sources(Shared(admin): Shared<Admin>, Query(query): Query<SourcesQuery>) -> Response {
    blocking(move || {
        let state = &admin.state;
        let slot = match query.zone {
            None => None,
            Some(name) => match state.slot_of(&name) {
                Some(slot) => Some(slot),
                None => return problem(StatusCode::NOT_FOUND, &format!("no zone is called `{name}`")),
            },
        };
        match sources::busiest(state, slot, query.top.unwrap_or(DEFAULT_TOP).min(MOST_TOP)) {
            Ok(reply) => Json(reply).into_response(),
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::from(error));
                problem(StatusCode::INTERNAL_SERVER_ERROR, &why)
            }
        }
    })
    .await
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

/// An answer that says what is wrong.
pub fn problem(status: StatusCode, detail: &str) -> Response {
    let body =
        Problem { title: status.canonical_reason().unwrap_or("error"), status: status.as_u16(), detail };
    let mut response = (status, Json(body)).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/problem+json"));
    response
}
