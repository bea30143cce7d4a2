//! Connections to origins: one way to dial, for upgrades (a connection each) and for the pool of plain requests.

mod pooled;
mod stream;

use std::{
    convert::Infallible,
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
use tokio::{
    net::lookup_host,
    time::{Instant, timeout_at},
};

pub(crate) use pooled::{Pooled, has_answered, mark_answered};
pub(crate) use stream::Stream;

use stream::Opened;

use crate::{
    downstream::stream::Descriptor,
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

/// Why a caller has no connection.
#[derive(Debug)]
pub(crate) enum Unconnected<E> {
    Dial(DialError),
    /// What the caller's `on_socket` said.
    OnSocket(E),
}

impl<E> From<DialError> for Unconnected<E> {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
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
    ///
    /// `on_socket` is called with each socket before it connects, so that the books can have it from the start. Its result
    /// comes with the connection; with a socket that does not connect it is dropped, and the next socket is asked for anew.
    pub async fn dial<A, E>(
        &self,
        timeout: Duration,
        on_socket: impl Fn(&Arc<Descriptor>) -> Result<A, E>,
    ) -> Result<(Stream, A), Unconnected<E>> {
        let deadline = Instant::now() + timeout;
        match &self.host {
            OriginHost::Ip(ip) => connect(SocketAddr::new(*ip, self.port), deadline, &on_socket).await,
            OriginHost::Name(name) => {
                let found = timeout_at(deadline, lookup_host((&**name, self.port))).await;
                let addresses = found.map_err(|_| DialError::Timeout)?.map_err(DialError::Resolve)?;
                connect_any(addresses, deadline, &on_socket).await
            }
        }
    }
}

async fn connect<A, E>(
    address: SocketAddr,
    deadline: Instant,
    on_socket: &impl Fn(&Arc<Descriptor>) -> Result<A, E>,
) -> Result<(Stream, A), Unconnected<E>> {
    let opened = Opened::new(address).map_err(DialError::Connect)?;
    let given = on_socket(opened.descriptor()).map_err(Unconnected::OnSocket)?;
    match timeout_at(deadline, opened.connect(address)).await {
        Ok(connected) => Ok((connected.map_err(DialError::Connect)?, given)),
        Err(_) => Err(DialError::Timeout.into()),
    }
}

async fn connect_any<A, E>(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
    on_socket: &impl Fn(&Arc<Descriptor>) -> Result<A, E>,
) -> Result<(Stream, A), Unconnected<E>> {
    let mut last = DialError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match connect(address, deadline, on_socket).await {
            Err(Unconnected::Dial(error @ DialError::Connect(_))) => last = error,
            decided => return decided,
        }
    }
    Err(last.into())
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
        let timeout = self.routes.load().settings.timeouts.connect;
        Box::pin(async move {
            let unusable =
                || DialError::Resolve(io::Error::new(io::ErrorKind::InvalidInput, "no host and port"));
            let origin = Origin::of(&uri).ok_or_else(unusable)?;
            let dialled = origin.dial(timeout, |_| Ok::<_, Infallible>(())).await;
            let (stream, ()) = dialled.map_err(|Unconnected::Dial(error)| error)?;
            Ok(Pooled::new(stream))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use nix::sys::socket::{SockaddrStorage, getpeername};
    use tokio::net::TcpListener;

    use super::*;
    use crate::support;

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

    /// One in `live` as long as it lives.
    struct Counted<'a>(&'a AtomicUsize);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn each_socket_is_shown_before_it_connects_and_forgotten_if_it_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let listening = listener.local_addr().expect("bound");
        let closed = support::free_port();
        let (live, shown) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let on_socket = |descriptor: &Arc<Descriptor>| {
            let unconnected = descriptor.with(|fd| getpeername::<SockaddrStorage>(fd).is_err());
            shown.lock().expect("unpoisoned").push((descriptor.clone(), unconnected));
            assert_eq!(live.fetch_add(1, Relaxed), 0, "the one before is dropped first");
            Ok::<_, Infallible>(Counted(&live))
        };
        let deadline = Instant::now() + support::PATIENCE;
        let (stream, counted) = connect_any([closed, listening].into_iter(), deadline, &on_socket)
            .await
            .unwrap_or_else(|_| panic!("the second address listens"));
        let shown = shown.into_inner().expect("unpoisoned");
        let names: Vec<_> = shown.iter().map(|(name, unconnected)| (name.with(drop), *unconnected)).collect();
        assert_eq!(names, [(None, Some(true)), (Some(()), Some(true))]);
        assert_eq!(live.load(Relaxed), 1);
        drop(stream);
        assert_eq!(shown[1].0.with(drop), None, "a closed socket has no number");
        drop(counted);
    }

    #[tokio::test]
    async fn a_socket_that_may_not_be_is_not_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let listening = listener.local_addr().expect("bound");
        let origin = Origin::new("127.0.0.1", listening.port()).expect("a host");
        let turned = origin.dial(support::PATIENCE, |_| Err::<(), _>("no")).await.map(drop);
        assert!(matches!(turned, Err(Unconnected::OnSocket("no"))), "{turned:?}");
        let waiting = timeout_at(Instant::now() + Duration::from_millis(50), listener.accept()).await;
        assert!(waiting.is_err(), "nobody has connected");
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
