//! A client connection from its accept to its end, or to the tunnels that it becomes.
//!
//! [`http1`] and [`http2`] speak HTTP on it: which of them, the TLS handshake says (ALPN), and in cleartext, if `h2c` is on, the
//! client's first bytes. A request is [`service`](crate::request::service)'s either way, and a WebSocket that an origin has
//! accepted waits in a [`Switch`] until its client has the answer: then it becomes a tunnel with a task of its own.

pub(crate) mod http1;
pub(crate) mod http2;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;
use weir_config::Zone;

use crate::{
    accounting::books::{Admission, Books},
    downstream::{
        pace::Limits,
        proxy_protocol::{self, HeaderError},
        stream::{NamedStream, Transport},
        tls::{self, Accepted},
    },
    firewall::facts::TlsFacts,
    observe::access::visit::Visit,
    request::{forwarded::Scheme, service::Client},
    server::{Shared, roster::Entry},
    tunnel::{Tunnel, task::Task},
    upstream::Stream,
};

/// A connection that has sent nothing yet gets this long for its first request when a drain begins.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// How long, and for how many bytes, the rest of what a client sends is read after the last answer, so that the answer is
/// not lost to a RST.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// What the origin's side of a tunnel consists of, waiting for the client to be told.
pub(crate) struct Switched {
    pub upstream: Stream,
    /// Bytes that came with the origin's 101.
    pub from_upstream: Bytes,
    pub zone: Arc<Zone>,
    pub admission: Admission,
    /// For the access log.
    pub visit: Option<Box<Visit>>,
}

/// Where a request's way leaves it for whoever speaks HTTP.
pub(crate) type Switch = Arc<Mutex<Option<Switched>>>;

/// Serves a connection that was accepted, between the client's address and the one of ours that it came to.
pub(crate) async fn run(
    stream: TcpStream,
    (peer, local_address): (SocketAddr, SocketAddr),
    scheme: Scheme,
    shared: Arc<Shared>,
    _entry: Entry,
) {
    let accepted = Instant::now();
    let mut stream = NamedStream::new(stream);
    let books = Books::new(shared.accounts.clone(), shared.counters.clone(), stream.descriptor());
    let peer_end = stream.peer();
    let socket_address = peer;
    let (peer, local_address) = match ends(&mut stream, peer, local_address, &shared).await {
        Ok(ends) => ends,
        Err(error) => {
            shared.counters.proxy_protocol_failed.add(1);
            debug!(%peer, %error, "closed: a PROXY protocol header was due");
            return;
        }
    };
    match scheme {
        Scheme::Http => {
            let limits = Limits::new(shared.routes.load().settings.timeouts.clone());
            let client = Client {
                address: peer,
                socket_address,
                local_address,
                scheme,
                zone: None,
                tls: None,
                books,
                peer: peer_end,
                limits,
            };
            match speaks_http2(&stream, &shared).await {
                Some(true) => http2::serve(stream, client, &shared).await,
                Some(false) => http1::serve(stream, client, &shared).await,
                None => shared.counters.timed_out.add(1),
            }
        }
        Scheme::Https => match tls::accept(stream, &books, &shared).await {
            Ok(Accepted { stream, route }) => {
                shared.counters.shook_hands(stream.get_ref().1.protocol_version(), accepted.elapsed());
                let limits = Limits::new(match &route {
                    Some(route) => route.zone.timeouts.clone(),
                    None => shared.routes.load().settings.timeouts.clone(),
                });
                let zone = route.filter(|route| route.has_certificate()).map(|route| route.zone.name.clone());
                let tls = Some(TlsFacts::of(stream.get_ref().1));
                let client = Client {
                    address: peer,
                    socket_address,
                    local_address,
                    scheme,
                    zone,
                    tls,
                    books,
                    peer: peer_end,
                    limits,
                };
                if tls::is_http2(&stream) {
                    http2::serve(stream, client, &shared).await;
                } else {
                    http1::serve(stream, client, &shared).await;
                }
            }
            Err(error) => {
                shared.counters.tls_failed.add(1);
                debug!(%peer, %error, "TLS handshake failed");
            }
        },
    }
}

/// Whether a client in cleartext begins with HTTP/2. `None` if it does not begin in time.
async fn speaks_http2(stream: &NamedStream, shared: &Shared) -> Option<bool> {
    let (h2c, limit) = {
        let settings = &shared.routes.load().settings;
        (settings.h2c, settings.timeouts.header)
    };
    if !h2c {
        return Some(false);
    }
    let decide = |seen: &[u8]| match seen.len().min(http2::PREFACE.len()) {
        0 => Some(false),
        len if seen[..len] != http2::PREFACE[..len] => Some(false),
        len => (len == http2::PREFACE.len()).then_some(true),
    };
    let mut draining = shared.draining.subscribe();
    tokio::select! {
        // An error is the next read's to tell.
        decided = timeout(limit, stream.peek(decide)) => Some(decided.ok()?.unwrap_or(false)),
        // What has not begun by now has HTTP/1.1's time for it.
        _ = draining.wait_for(|draining| *draining) => Some(false),
    }
}

/// The client's address and the one that it came to: those of a PROXY protocol header where one is due, else the socket's.
async fn ends(
    stream: &mut NamedStream,
    peer: SocketAddr,
    local: SocketAddr,
    shared: &Shared,
) -> Result<(SocketAddr, SocketAddr), HeaderError> {
    let settings = shared.routes.load_full();
    let settings = &settings.settings;
    if !proxy_protocol::is_from(peer, &settings.proxy_protocol_from) {
        return Ok((peer, local));
    }
    let read = timeout(settings.timeouts.header, proxy_protocol::read(stream)).await;
    let said = read.map_err(|_| HeaderError::Io(std::io::ErrorKind::TimedOut.into()))??;
    Ok(said.map_or((peer, local), |ends| (ends.client, ends.local)))
}

fn open_tunnel<T: Transport>(
    downstream: T,
    from_downstream: Bytes,
    switched: Switched,
    shared: &Arc<Shared>,
) {
    let Switched { upstream, from_upstream, zone, admission, visit } = switched;
    admission.keep();
    let tunnel = Tunnel::new(downstream, from_downstream, upstream, from_upstream);
    shared.roster.spawn(|entry| Task::new(tunnel, zone, shared.counters.clone(), visit, entry));
}
