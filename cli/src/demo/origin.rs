//! The zones' origins: one small server a zone, which echoes WebSockets and answers plain requests with a page to try it.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::client::small;

/// An origin that runs until its runtime ends.
pub struct Origin {
    pub address: SocketAddr,
    pub visits: Arc<Visits>,
}

/// What came through.
#[derive(Default)]
pub struct Visits {
    /// WebSockets that were opened.
    pub opened: AtomicU64,
    /// WebSockets that are open.
    pub open: AtomicU64,
}

/// Pause in accepting when there are no descriptors left.
const BACK_OFF: Duration = Duration::from_millis(50);

const PAGE: &str = include_str!("page.html");

impl Origin {
    /// Serves on a free port of the loopback address.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for an origin")?;
        let address = listener.local_addr()?;
        let visits = Arc::<Visits>::default();
        tokio::spawn(serve(listener, visits.clone()));
        Ok(Self { address, visits })
    }
}

async fn serve(listener: TcpListener, visits: Arc<Visits>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, visits.clone()))),
            // Out of descriptors: there is nothing to wait for but that some become free.
            Err(_) => sleep(BACK_OFF).await,
        }
    }
}

async fn connection(stream: TcpStream, visits: Arc<Visits>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let response = answer(request, &visits);
        async { Ok::<_, Infallible>(response) }
    });
    // How a connection ends is its client's to say.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn answer(mut request: Request<Incoming>, visits: &Arc<Visits>) -> Response<Full<Bytes>> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let Some(accept) = key.map(|key| derive_accept_key(key.as_bytes())) else {
        let mut page = Response::new(Full::from(PAGE));
        page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        return page;
    };
    visits.opened.fetch_add(1, Relaxed);
    tokio::spawn(echo(hyper::upgrade::on(&mut request), visits.clone()));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 is ASCII.
    headers.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        HeaderValue::try_from(accept).unwrap_or_else(|_| HeaderValue::from_static("")),
    );
    response
}

async fn echo(upgrade: OnUpgrade, visits: Arc<Visits>) {
    let Ok(upgraded) = upgrade.await else { return };
    visits.open.fetch_add(1, Relaxed);
    // A tunnel that breaks is seen, and told, by its client.
    let _ = repeat(upgraded).await;
    visits.open.fetch_sub(1, Relaxed);
}

async fn repeat(upgraded: Upgraded) -> io::Result<()> {
    let stream = TokioIo::new(upgraded);
    let mut stream = WebSocketStream::from_raw_socket(stream, Role::Server, Some(small())).await;
    while let Some(message) = stream.next().await {
        let message = message.map_err(io::Error::other)?;
        if message.is_text() || message.is_binary() {
            stream.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}
