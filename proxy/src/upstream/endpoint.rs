//! An origin and how it is reached: what connections have to have in common to be each other's substitute.
//!
//! Zones whose origins are reached in the same way have the same endpoint, and with it the same pool of idle connections and
//! the same answers of the DNS. Connections by another name or another set of authorities are another endpoint's.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::uri::Authority;
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    DialError, Stream, Unconnected,
    introduction::Introduction,
    names::{Known, Names},
    stream::Opened,
    tls::Trust,
};
use crate::downstream::stream::Descriptor;

/// What an endpoint is told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Spec {
    host: Box<str>,
    port: u16,
    /// The set of authorities and the name.
    tls: Option<(u64, ServerName<'static>)>,
    introduces: bool,
}

pub(crate) struct Endpoint {
    spec: Spec,
    place: Place,
    tls: Option<TlsConnector>,
    /// The key of its connections in the pool, in the form of an authority.
    pub key: Authority,
}

enum Place {
    Ip(IpAddr),
    Name(Arc<Known>),
}

/// Everything that a dial needs to know but for the endpoint.
#[derive(Clone)]
pub(crate) struct Call {
    pub names: Arc<Names>,
    /// Whom a PROXY protocol header names.
    pub client: Introduction,
    pub deadline: Instant,
}

/// Every endpoint that somebody has.
#[derive(Default)]
pub(crate) struct Endpoints(Mutex<HashMap<Spec, Weak<Endpoint>>>);

impl Endpoints {
    /// The endpoint of an origin; the one that there is already, if there is one.
    pub(super) fn get(
        &self,
        host: &str,
        port: u16,
        tls: Option<(Trust, ServerName<'static>)>,
        introduces: bool,
    ) -> Arc<Endpoint> {
        let (connector, tls) = match tls {
            Some((trust, name)) => (Some(trust.connector), Some((trust.id, name))),
            None => (None, None),
        };
        let spec = Spec { host: host.into(), port, tls, introduces };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&spec).and_then(Weak::upgrade) {
            return known;
        }
        let made = Arc::new(Endpoint::new(spec.clone(), connector));
        all.insert(spec, Arc::downgrade(&made));
        made
    }

    /// Forgets those that nobody has any more.
    pub fn tidy(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, known| known.strong_count() > 0);
    }
}

impl Endpoint {
    fn new(spec: Spec, tls: Option<TlsConnector>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let place = match spec.host.parse() {
            Ok(ip) => Place::Ip(ip),
            Err(_) => Place::Name(Known::new(&spec.host)),
        };
        let key = Authority::try_from(format!("origin-{}", NEXT.fetch_add(1, Relaxed)));
        // Letters, digits and a hyphen always make an authority.
        Self { spec, place, tls, key: key.unwrap_or_else(|_| Authority::from_static("origin")) }
    }

    /// Its connections begin with a PROXY protocol header, so that each is one client's.
    pub fn introduces(&self) -> bool {
        self.spec.introduces
    }

    /// Connects to the first address that answers, up to where a request can be sent.
    ///
    /// The time is shared out: an address that does not answer leaves those behind it their part. `on_socket` is called with
    /// each socket before it connects, so that the books can have it from the start. Its result comes with the connection;
    /// with a socket that does not connect it is dropped, and the next socket is asked for anew.
    pub async fn dial<A, E>(
        &self,
        call: &Call,
        on_socket: &impl Fn(&Arc<Descriptor>) -> Result<A, E>,
    ) -> Result<(Stream, A), Unconnected<E>> {
        let addresses = match &self.place {
            Place::Ip(ip) => vec![*ip],
            Place::Name(known) => {
                known.addresses(&call.names, call.deadline).await.map_err(DialError::of_name)?
            }
        };
        let addresses =
            addresses.into_iter().map(|ip| SocketAddr::new(ip, self.spec.port)).collect::<Vec<_>>();
        let (mut stream, given, address) = connect_any(&addresses, call.deadline, on_socket).await?;
        if let Place::Name(known) = &self.place {
            known.connected(address.ip());
        }
        let ready = async {
            if self.spec.introduces {
                stream.write_all(&call.client.header()).await.map_err(DialError::Connect)?;
            }
            match (&self.tls, &self.spec.tls) {
                (Some(connector), Some((_, name))) => {
                    stream.secure(connector, name.clone()).await.map_err(DialError::Tls)
                }
                _ => Ok(stream),
            }
        };
        match timeout_at(call.deadline, ready).await {
            Ok(ready) => Ok((ready?, given)),
            Err(_) => Err(DialError::Timeout.into()),
        }
    }
}

/// Tries addresses in turn.
pub(super) async fn connect_any<A, E>(
    addresses: &[SocketAddr],
    deadline: Instant,
    on_socket: &impl Fn(&Arc<Descriptor>) -> Result<A, E>,
) -> Result<(Stream, A, SocketAddr), Unconnected<E>> {
    let mut last = DialError::Resolve(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for (nth, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - nth).unwrap_or(u32::MAX);
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
        match connect(*address, until, on_socket).await {
            Err(Unconnected::Dial(error)) => last = error,
            Err(Unconnected::OnSocket(said)) => return Err(Unconnected::OnSocket(said)),
            Ok((stream, given)) => return Ok((stream, given, *address)),
        }
        if last.is_of_host() {
            break;
        }
    }
    Err(last.into())
}

async fn connect<A, E>(
    address: SocketAddr,
    until: Instant,
    on_socket: &impl Fn(&Arc<Descriptor>) -> Result<A, E>,
) -> Result<(Stream, A), Unconnected<E>> {
    let opened = Opened::new(address).map_err(DialError::Connect)?;
    let given = on_socket(opened.descriptor()).map_err(Unconnected::OnSocket)?;
    match timeout_at(until, opened.connect(address)).await {
        Ok(connected) => Ok((connected.map_err(DialError::Connect)?, given)),
        Err(_) => Err(DialError::Timeout.into()),
    }
}

/// As a log has it: `host:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Ip(ip) => SocketAddr::new(*ip, self.spec.port).fmt(f),
            Place::Name(_) => write!(f, "{}:{}", self.spec.host, self.spec.port),
        }
    }
}

#[cfg(test)]
pub(super) fn of_ip(host: &str, port: u16) -> Arc<Endpoint> {
    Endpoints::default().get(host, port, None, false)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::atomic::AtomicUsize, time::Duration};

    use nix::sys::socket::{SockaddrStorage, getpeername};
    use tokio::net::TcpListener;

    use super::*;
    use crate::support;

    /// One in `live` as long as it lives.
    struct Counted<'a>(&'a AtomicUsize);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    #[tokio::test]
    async fn each_socket_is_shown_before_it_connects_and_forgotten_if_it_does_not() {
        let (_listener, listening) = listener().await;
        let closed = support::free_port();
        let (live, shown) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let on_socket = |descriptor: &Arc<Descriptor>| {
            let unconnected = descriptor.with(|fd| getpeername::<SockaddrStorage>(fd).is_err());
            shown.lock().expect("unpoisoned").push((descriptor.clone(), unconnected));
            assert_eq!(live.fetch_add(1, Relaxed), 0, "the one before is dropped first");
            Ok::<_, Infallible>(Counted(&live))
        };
        let deadline = Instant::now() + support::PATIENCE;
        let (stream, counted, address) = connect_any(&[closed, listening], deadline, &on_socket)
            .await
            .unwrap_or_else(|_| panic!("the second address listens"));
        assert_eq!(address, listening);
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
        let (listener, listening) = listener().await;
        let endpoint = of_ip("127.0.0.1", listening.port());
        let deadline = Instant::now() + support::PATIENCE;
        let call = Call { names: Names::new(Vec::new()), client: Introduction::local(), deadline };
        let turned = endpoint.dial(&call, &|_| Err::<(), _>("no")).await.map(drop);
        assert!(matches!(turned, Err(Unconnected::OnSocket("no"))), "{turned:?}");
        let waiting = timeout_at(Instant::now() + Duration::from_millis(50), listener.accept()).await;
        assert!(waiting.is_err(), "nobody has connected");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_the_next_one_its_time() {
        // The backlog of a socket that nobody accepts from fills up; the kernel then drops further SYNs.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(support::free_port()).expect("bound");
        let full = socket.listen(0).expect("listens");
        let silent = full.local_addr().expect("bound");
        let mut held = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(silent)).await
        {
            held.push(stream);
            assert!(held.len() < 64, "the backlog has no end");
        }
        let (_listener, listening) = listener().await;
        let deadline = Instant::now() + Duration::from_secs(2);
        let connected = connect_any(&[silent, listening], deadline, &|_| Ok::<_, Infallible>(())).await;
        assert_eq!(connected.map(|(.., address)| address).ok(), Some(listening));
        assert!(Instant::now() < deadline);
    }

    #[test]
    fn the_same_way_is_the_same_endpoint_as_long_as_somebody_has_it() {
        let endpoints = Endpoints::default();
        let first = endpoints.get("a.example", 80, None, false);
        assert!(Arc::ptr_eq(&first, &endpoints.get("a.example", 80, None, false)));
        for other in [endpoints.get("a.example", 81, None, false), endpoints.get("a.example", 80, None, true)]
        {
            assert!(!Arc::ptr_eq(&first, &other));
            assert_ne!(first.key, other.key);
        }
        drop(first);
        endpoints.tidy();
        assert_eq!(endpoints.0.lock().expect("unpoisoned").len(), 0);
    }

    #[test]
    fn an_endpoint_is_named_as_it_would_be_dialled() {
        for (host, name) in [("127.0.0.1", "127.0.0.1:9"), ("::1", "[::1]:9"), ("a.example", "a.example:9")] {
            assert_eq!(of_ip(host, 9).to_string(), name);
        }
    }
}
