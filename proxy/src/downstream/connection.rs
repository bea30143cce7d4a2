//! A client connection from its accept to its end, or to the tunnels that it becomes.
//!
//! [`http1`] speaks HTTP on it. A request is [`service`](crate::request::service)'s, and a WebSocket that an origin has accepted
//! waits in a [`Switch`] until its client has the answer: then it becomes a tunnel with a task of its own.

pub(crate) mod http1;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::net::TcpStream;
use tracing::debug;
use weir_config::Zone;

use crate::{
    accounting::books::{Admission, Books},
    downstream::{
        pace::Limits,
        stream::{ClientStream, Transport},
        tls::{self, Accepted},
    },
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
}

/// Where a request's way leaves it for whoever speaks HTTP.
pub(crate) type Switch = Arc<Mutex<Option<Switched>>>;

/// Serves a connection that was accepted.
pub(crate) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    shared: Arc<Shared>,
    _entry: Entry,
) {
    let accepted = Instant::now();
    let stream = ClientStream::new(stream);
    let books = Books::new(shared.accounts.clone(), shared.counters.clone(), stream.descriptor());
    let peer_end = stream.peer();
    match scheme {
        Scheme::Http => {
            let limits = Limits::new(shared.routes.load().settings.timeouts.clone());
            let client = Client { address: peer, scheme, zone: None, books, peer: peer_end, limits };
            http1::serve(stream, client, &shared).await;
        }
        Scheme::Https => match tls::accept(stream, &books, &shared).await {
            Ok(Accepted { stream, route }) => {
                shared.counters.shook_hands(stream.get_ref().1.protocol_version(), accepted.elapsed());
                let limits = Limits::new(match &route {
                    Some(route) => route.zone.timeouts.clone(),
                    None => shared.routes.load().settings.timeouts.clone(),
                });
                let zone = route.filter(|route| route.has_certificate()).map(|route| route.zone.name.clone());
                let client = Client { address: peer, scheme, zone, books, peer: peer_end, limits };
                http1::serve(stream, client, &shared).await;
            }
            Err(error) => {
                shared.counters.tls_failed.add(1);
                debug!(%peer, %error, "TLS handshake failed");
            }
        },
    }
}

fn open_tunnel<T: Transport>(
    downstream: T,
    from_downstream: Bytes,
    switched: Switched,
    shared: &Arc<Shared>,
) {
    let Switched { upstream, from_upstream, zone, admission } = switched;
    admission.keep();
    let tunnel = Tunnel::new(downstream, from_downstream, upstream, from_upstream);
    shared.roster.spawn(|entry| Task::new(tunnel, zone, shared.counters.clone(), entry));
}
