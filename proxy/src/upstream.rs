//! Connections to origins: one way to dial, for upgrades (a connection each) and for the pool of plain requests.

mod pooled;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Uri, uri::Authority};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

pub(crate) use pooled::{Pooled, has_answered, mark_answered};

use crate::{
    request::{body::Upload, reason::Reason},
    server::routes::Snapshot,
};

/// How long an idle connection to an origin is kept for the next plain request.
///
/// Shorter than servers commonly keep theirs (5 s), so that a request seldom meets a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one origin.
const POOL_IDLE_PER_ORIGIN: usize = 64;
/// The longest head that an origin may send. Bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Time without traffic after which the kernel asks whether the origin still exists. Seconds.
const KEEPALIVE_S: u32 = 300;

/// Where an origin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    host: OriginHost,
    port: u16,
    /// `host:port`, the pool's key.
    pub authority: Authority,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum OriginHost {
    Ip(IpAddr),
    Name(Arc<str>),
}

/// No connection to an origin came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no connection within the connect timeout")]
    Timeout,
    #[error("cannot resolve the origin's name: {0}")]
    Resolve(#[source] io::Error),
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
}

impl DialError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Timeout => Reason::OriginConnectTimeout,
            Self::Resolve(error) | Self::Connect(error) if is_of_host(error) => Reason::HostExhausted,
            Self::Resolve(_) | Self::Connect(_) => Reason::OriginUnreachable,
        }
    }
}

/// True for want of descriptors, memory or local ports: no fault of the origin.
fn is_of_host(error: &io::Error) -> bool {
    use libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    error
        .raw_os_error()
        .is_some_and(|errno| [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL].contains(&errno))
}

impl Origin {
    /// `None` if the host cannot stand in a URL.
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let (host, text) = match host.parse::<IpAddr>() {
            Ok(ip) => (OriginHost::Ip(ip), SocketAddr::new(ip, port).to_string()),
            Err(_) => (OriginHost::Name(host.into()), format!("{host}:{port}")),
        };
        Some(Self { host, port, authority: Authority::try_from(text).ok()? })
    }

    /// The inverse of `authority`.
    fn of(uri: &Uri) -> Option<Self> {
        let host = uri.host()?;
        Self::new(host.trim_start_matches('[').trim_end_matches(']'), uri.port_u16()?)
    }

    /// Connects to the first address that answers, all within `timeout`.
    pub async fn dial(&self, timeout: Duration) -> Result<TcpStream, DialError> {
        let deadline = Instant::now() + timeout;
        let stream = match &self.host {
            OriginHost::Ip(ip) => connect(SocketAddr::new(*ip, self.port), deadline).await?,
            OriginHost::Name(name) => {
                let found = timeout_at(deadline, lookup_host((&**name, self.port))).await;
                let addresses = found.map_err(|_| DialError::Timeout)?.map_err(DialError::Resolve)?;
                connect_any(addresses, deadline).await?
            }
        };
        // These fail only for a socket that is gone; the next read says so.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_S);
        Ok(stream)
    }
}

async fn connect(address: SocketAddr, deadline: Instant) -> Result<TcpStream, DialError> {
    match timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(DialError::Connect),
        Err(_) => Err(DialError::Timeout),
    }
}

async fn connect_any(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> Result<TcpStream, DialError> {
    let mut last = DialError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match connect(address, deadline).await {
            Err(error @ DialError::Connect(_)) => last = error,
            decided => return decided,
        }
    }
    Err(last)
}

/// The pool of kept-alive connections for plain requests.
pub(crate) type Pool = Client<Connector, Upload>;

/// Builds the pool. `routes` has the connect timeout.
pub(crate) fn pool(routes: Arc<ArcSwap<Snapshot>>) -> Pool {
    build(routes, POOL_IDLE_PER_ORIGIN)
}

/// Builds what has a connection of its own for every request.
pub(crate) fn fresh(routes: Arc<ArcSwap<Snapshot>>) -> Pool {
    build(routes, 0)
}

fn build(routes: Arc<ArcSwap<Snapshot>>, idle_per_origin: usize) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(idle_per_origin)
        .http1_max_buf_size(MAX_HEAD)
        .set_host(false)
        .build(Connector { routes })
}

/// Dials for the pool.
#[derive(Clone)]
pub(crate) struct Connector {
    routes: Arc<ArcSwap<Snapshot>>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let timeout = self.routes.load().settings.connect_timeout;
        Box::pin(async move {
            let unusable =
                || DialError::Resolve(io::Error::new(io::ErrorKind::InvalidInput, "no host and port"));
            Ok(Pooled::new(Origin::of(&uri).ok_or_else(unusable)?.dial(timeout).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_or_ports_is_not_the_origins_fault() {
        for (errno, reason) in [
            (libc::EMFILE, Reason::HostExhausted),
            (libc::EADDRNOTAVAIL, Reason::HostExhausted),
            (libc::ECONNREFUSED, Reason::OriginUnreachable),
        ] {
            assert_eq!(DialError::Connect(io::Error::from_raw_os_error(errno)).reason(), reason);
        }
    }

    #[test]
    fn an_origin_survives_its_authority() {
        for (host, authority) in [
            ("127.0.0.1", "127.0.0.1:9001"),
            ("::1", "[::1]:9001"),
            ("origin.example", "origin.example:9001"),
        ] {
            let origin = Origin::new(host, 9001).expect("a host");
            assert_eq!(origin.authority.as_str(), authority);
            assert_eq!(Origin::of(&format!("http://{authority}/x").parse().expect("a URI")), Some(origin));
        }
    }
}
