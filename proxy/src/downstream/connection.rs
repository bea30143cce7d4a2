//! A client connection from its accept to its end, or to the tunnel that it becomes.
//!
//! hyper speaks HTTP/1.1 on it; this module owns its time limits, its part in a drain, and the hand-over: when a request has
//! been answered with 101, hyper's state is taken apart and only the bare stream goes into the tunnel's own task.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;
use weir_config::Zone;

use crate::{
    accounting::books::{Admission, Books},
    downstream::{
        pace::{Mark, Pace, Paced, Phase},
        stream::{ClientStream, Transport},
        tls,
    },
    request::{
        forwarded::Scheme,
        service::{Client, HttpService},
    },
    server::{Shared, roster::Entry},
    tunnel::{Tunnel, task::Task},
    upstream::Stream,
};

/// The longest head of a request, and the most that hyper buffers of a connection. Bytes. (hyper takes up to 100 headers.)
const MAX_HEAD: usize = 64 * 1024;
/// A connection that has sent nothing yet gets this long for its first request when a drain begins.
const DRAIN_GRACE: Duration = Duration::from_secs(1);
/// How long, and for how many bytes, the rest of what a client sends is read after the last answer, so that the answer is
/// not lost to a RST.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// What the origin's side of a tunnel consists of, waiting for hyper to have sent the client's 101.
pub(crate) struct Switched {
    pub upstream: Stream,
    /// Bytes that came with the origin's 101.
    pub from_upstream: Bytes,
    pub zone: Arc<Zone>,
    pub admission: Admission,
}

/// Where the service leaves it for the connection.
pub(crate) type Switch = Arc<Mutex<Option<Switched>>>;

/// How hyper is set up for all connections.
pub(crate) fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // `Pace` has the time limits.
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    builder
}

/// Serves a connection that was accepted.
pub(crate) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    shared: Arc<Shared>,
    _entry: Entry,
) {
    let stream = ClientStream::new(stream);
    let books = Books::new(shared.accounts.clone(), shared.counters.clone(), stream.descriptor());
    let peer_end = stream.peer();
    match scheme {
        Scheme::Http => {
            let client = Client { address: peer, scheme, zone: None, books, peer: peer_end };
            serve(stream, client, &shared).await;
        }
        Scheme::Https => match tls::accept(stream, &books, &shared).await {
            Ok((stream, route)) => {
                let zone = Some(route.zone.name.clone());
                drop(route);
                let client = Client { address: peer, scheme, zone, books, peer: peer_end };
                serve(stream, client, &shared).await;
            }
            Err(error) => {
                shared.counters.tls_failed.add(1);
                debug!(%peer, %error, "TLS handshake failed");
            }
        },
    }
}

/// How the HTTP part of a connection ended.
enum End {
    Http(hyper::Result<()>),
    /// The head of a request, or the next request, did not come in time, or an answer stalled.
    TimedOut,
}

async fn serve<T: Transport>(stream: T, client: Client, shared: &Arc<Shared>) {
    let pace = Arc::new(Pace::default());
    let switch = Switch::default();
    let peer = client.address;
    let service = HttpService::new(client, shared.clone(), pace.clone(), switch.clone());
    let io = TokioIo::new(Paced::new(stream, pace.clone()));
    let mut http = shared.http1.serve_connection(io, service);

    let end = drive(&mut http, &pace, shared).await;
    let error = match end {
        End::TimedOut => {
            shared.counters.timed_out.add(1);
            match pace.mark().phase() {
                Phase::Head => return,
                Phase::Answered => {
                    // So that half an answer is not taken for one, and nothing waits for a client that takes nothing.
                    http.into_parts().io.into_inner().into_inner().abort_on_close();
                    return;
                }
                Phase::Served | Phase::Idle => None,
            }
        }
        End::Http(Err(error)) if error.is_parse() => {
            shared.counters.malformed.add(1);
            Some(error)
        }
        End::Http(Err(error)) => {
            debug!(%peer, %error, "connection broke");
            return;
        }
        End::Http(Ok(())) => None,
    };
    let parts = http.into_parts();
    let stream = parts.io.into_inner().into_inner();
    let switched = switch.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (switched, error) {
        (Some(switched), None) => open_tunnel(stream, parts.read_buf, switched, shared),
        (_, error) => {
            if let Some(error) = error {
                debug!(%peer, %error, "not HTTP");
            }
            close(stream).await;
        }
    }
}

/// Runs hyper until it is done with the connection or a time limit passes.
async fn drive<T: Transport>(
    http: &mut http1::Connection<TokioIo<Paced<T>>, HttpService>,
    pace: &Pace,
    shared: &Shared,
) -> End {
    let (header_timeout, keep_alive_timeout, stall_timeout) = {
        let settings = &shared.routes.load().settings;
        (settings.header_timeout, settings.keep_alive_timeout, settings.stall_timeout)
    };
    let mut moves = pace.moves();
    let mut armed = pace.mark();
    let mut timer = pin!(sleep_until(Instant::now() + header_timeout));
    let mut draining = shared.draining.subscribe();
    let mut drain = pin!(draining.wait_for(|draining| *draining));
    let mut drained = false;

    poll_fn(|cx| {
        if !drained && drain.as_mut().poll(cx).is_ready() {
            drained = true;
            if armed.is_first() {
                timer.as_mut().reset(Instant::now() + DRAIN_GRACE.min(header_timeout));
            }
        }
        if drained && !armed.is_first() {
            Pin::new(&mut *http).graceful_shutdown();
        }
        if let Poll::Ready(result) = http.poll_without_shutdown(cx) {
            return Poll::Ready(End::Http(result));
        }
        let mark: Mark = pace.mark();
        if mark != armed {
            let first = armed.is_first();
            armed = mark;
            match mark.phase() {
                Phase::Served => {}
                Phase::Head => timer.as_mut().reset(Instant::now() + header_timeout),
                Phase::Idle => timer.as_mut().reset(Instant::now() + keep_alive_timeout),
                Phase::Answered => {
                    moves = pace.moves();
                    timer.as_mut().reset(Instant::now() + stall_timeout);
                }
            }
            if drained && first {
                cx.waker().wake_by_ref();
            }
        }
        if mark.phase() == Phase::Served {
            return Poll::Pending;
        }
        while timer.as_mut().poll(cx).is_ready() {
            if mark.phase() != Phase::Answered || pace.moves() == moves {
                return Poll::Ready(End::TimedOut);
            }
            // A look at each end of a time rather than a timer that is set with every write.
            moves = pace.moves();
            timer.as_mut().reset(Instant::now() + stall_timeout);
        }
        Poll::Pending
    })
    .await
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
    let half_closed = shared.routes.load().settings.half_closed_timeout;
    shared.roster.spawn(|entry| Task::new(tunnel, half_closed, zone, shared.counters.clone(), entry));
}

/// Ends the connection cleanly. What comes after our FIN is read and dropped for a while: closing a socket with unread bytes
/// sends a RST, which may overtake the last answer.
async fn close<T: Transport>(mut stream: T) {
    let rest = async {
        stream.shutdown().await?;
        let mut dropped = [0; 512];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut dropped).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    // A peer that does not let itself be closed cleanly is closed anyhow.
    let _ = timeout(LINGER, rest).await;
}
