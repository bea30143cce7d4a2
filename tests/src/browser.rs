//! A real browser: headless Chromium, and the site that it visits.
//!
//! The site serves one page, echoes WebSockets, and hands on what the page reports. Its answer to a report is held back until the
//! test says so, which is how a test looks at the books while the page's WebSockets are open.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, UPGRADE, VIA,
    },
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::{Process, SOON, World, origin};

/// Where Debian's package puts it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// What the page said.
pub struct Report {
    pub path: String,
    pub content: serde_json::Value,
    answer: oneshot::Sender<()>,
}

impl Report {
    /// Lets the page go on.
    pub fn answer(self) {
        // A page that has gone needs no answer.
        let _ = self.answer.send(());
    }
}

/// The origin of a page.
pub struct Site {
    reports: Receiver<Report>,
    upgrades: Arc<Mutex<Vec<String>>>,
}

struct Served {
    page: &'static str,
    reports: Mutex<Sender<Report>>,
    upgrades: Arc<Mutex<Vec<String>>>,
}

/// Serves `page` under every path, until the test is through.
pub fn site(world: &World, address: SocketAddr, page: &'static str) -> Site {
    let (sender, reports) = channel();
    let upgrades = Arc::<Mutex<Vec<String>>>::default();
    let served = Arc::new(Served { page, reports: Mutex::new(sender), upgrades: upgrades.clone() });
    let listener = world.block_on(async { origin::listen(address) });
    world.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = served.clone();
            let service = service_fn(move |request| answer(served.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            // A browser that is killed is no fault.
            tokio::spawn(async move { connection.await.unwrap_or_default() });
        }
    });
    Site { reports, upgrades }
}

impl Site {
    /// The next report, which has to be of this path.
    pub fn report(&self, path: &str) -> Report {
        let report =
            self.reports.recv_timeout(SOON).unwrap_or_else(|error| panic!("no report of {path}: {error}"));
        assert_eq!(report.path, path, "the page said {}", report.content);
        report
    }

    /// The `Via` of each upgrade request so far: it says how the browser spoke with weir.
    pub fn vias(&self) -> Vec<String> {
        self.upgrades.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(served: Arc<Served>, mut request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    if request.headers().contains_key(UPGRADE) {
        let via = request.headers().get(VIA).and_then(|via| via.to_str().ok()).unwrap_or_default().to_owned();
        served.upgrades.lock().unwrap_or_else(PoisonError::into_inner).push(via);
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            echo(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await).await;
        });
        return Ok(switch(&request));
    }
    let mut response = Response::new(Full::default());
    if request.method() == Method::POST {
        let path = request.uri().path().to_owned();
        let content = request.collect().await?.to_bytes();
        let content = serde_json::from_slice(&content).expect("a report in JSON");
        let (sender, answered) = oneshot::channel();
        let report = Report { path, content, answer: sender };
        // A test that has failed takes no more reports.
        let _ = served.reports.lock().unwrap_or_else(PoisonError::into_inner).send(report);
        let _ = answered.await;
        *response.status_mut() = StatusCode::NO_CONTENT;
    } else {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        *response.body_mut() = Full::new(served.page.into());
    }
    Ok(response)
}

fn switch(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key))
        .header(SEC_WEBSOCKET_PROTOCOL, "chat")
        .body(Full::default())
        .expect("a response")
}

async fn echo(mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>) {
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Headless Chromium at a page; every name leads to loopback, and every certificate will do.
pub fn visit(world: &World, url: &str) -> Process {
    assert!(Path::new(CHROMIUM).is_file(), "there is no {CHROMIUM}: install the package chromium");
    let profile = format!("--user-data-dir={}", world.folder().join("chromium").display());
    let args = [
        "--headless=new",
        // The sandbox needs a user other than root.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP * 127.0.0.1",
        &profile,
        url,
    ];
    Process::start(world.folder(), "chromium", &PathBuf::from(CHROMIUM), args)
}
