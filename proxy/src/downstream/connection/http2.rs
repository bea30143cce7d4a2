//! HTTP/2 on a client's connection (RFC 9113), with WebSockets by extended CONNECT (RFC 8441).
//!
//! `h2` speaks it, and each stream is a task of its own; this module owns the connection's limits, its times and its part in a
//! drain. A WebSocket's tunnel keeps its stream, not the connection: bytes pass through the connection's task, which lives as
//! long as any stream does.
//!
//! What one connection can make us keep is bounded by [`MAX_STREAMS`]: per stream [`STREAM_WINDOW`] bytes received,
//! [`SEND_BUFFER`] bytes to send, and a tunnel's scratch buffer of what its sides did not take; besides that the heads of requests, each up to [`MAX_HEADER_LIST`].
//! The connection's own window is the sum of its streams', so that streams which nobody reads leave the others theirs.

mod alive;
mod exchange;
pub(crate) mod frames;
mod idle;
mod pulse;
mod stream;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use h2::{
    Reason,
    server::{Builder, Connection},
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::{DRAIN_GRACE, LINGER};
use crate::{
    downstream::stream::Transport,
    request::service::{Client, Requests},
    server::Shared,
};
use alive::Alive;
use frames::{Metered, Seen};
use idle::Streams;

/// What every client's connection preface begins with, and no request of HTTP/1.1 does.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests and WebSockets at a time on one connection.
const MAX_STREAMS: u32 = 128;
/// What a client may send on a stream before it is taken. Bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What of a stream may wait for the connection, or for the client's window. Bytes.
const SEND_BUFFER: usize = 32 * 1024;
/// A request's fields, as RFC 9113, 6.5.2 counts them. Bytes.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// How all connections are set up.
pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_LIST)
        .enable_connect_protocol();
    builder
}

/// How the HTTP part of a connection ended.
enum End {
    Http(Result<(), h2::Error>),
    /// No request came in time, or the client does not let itself be closed, or is not there any more.
    TimedOut,
}

pub(super) async fn serve<T: Transport>(stream: T, client: Client, shared: &Arc<Shared>) {
    shared.counters.http2.add(1);
    let peer = client.address;
    let (io, seen) = Metered::new(stream);
    let limit = client.limits.now().header;
    let end = match timeout(limit, shared.http2.handshake(io)).await {
        Err(_) => End::TimedOut,
        Ok(Err(error)) => End::Http(Err(error)),
        Ok(Ok(mut http)) => {
            let requests = Arc::new(Requests::new(client, shared.clone()));
            drive(&mut http, &requests, &seen, shared).await
        }
    };
    match end {
        _ if seen.has_flooded() => {
            shared.counters.flooded.add(1);
            debug!(%peer, "a client floods");
        }
        End::TimedOut => shared.counters.timed_out.add(1),
        End::Http(Ok(())) => {}
        End::Http(Err(error)) if error.is_io() => debug!(%peer, %error, "connection broke"),
        End::Http(Err(error)) => {
            shared.counters.malformed.add(1);
            debug!(%peer, %error, "not HTTP/2");
        }
    }
}

/// Takes requests until the connection has ended or a time limit passes.
async fn drive<T: Transport>(
    http: &mut Connection<Metered<T>, Bytes>,
    requests: &Arc<Requests>,
    seen: &Seen,
    shared: &Arc<Shared>,
) -> End {
    let limits = &requests.client().limits;
    let streams = Streams::new();
    let mut limit = limits.now().header;
    let mut first = true;
    let mut timer = pin!(sleep_until(Instant::now() + limit));
    let mut draining = shared.draining.subscribe();
    let mut drain = pin!(draining.wait_for(|draining| *draining));
    let (mut drained, mut closing, mut timed_out) = (false, false, false);
    let interval = shared.routes.load().settings.http2_ping_interval;
    let mut alive = interval.map(Alive::new);
    let mut pings = http.ping_pong();

    poll_fn(|cx| {
        loop {
            match http.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if first {
                        first = false;
                        limit = limits.now().keep_alive;
                        timer.as_mut().reset(Instant::now() + limit);
                    }
                    let busy = streams.begin();
                    tokio::spawn(exchange::run(request, respond, requests.clone(), shared.clone(), busy));
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Http(Err(error))),
                Poll::Ready(None) => {
                    return Poll::Ready(if timed_out { End::TimedOut } else { End::Http(Ok(())) });
                }
                Poll::Pending => {}
            }
            let now = Instant::now();
            if seen.has_flooded() && !closing {
                closing = true;
                http.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                timer.as_mut().reset(now + LINGER);
                continue;
            }
            if !drained && drain.as_mut().poll(cx).is_ready() {
                drained = true;
                // Requests that are on their way still come in; the connection closes behind its last stream.
                http.graceful_shutdown();
                limit = limit.min(DRAIN_GRACE);
                timer.as_mut().reset(now + limit);
                continue;
            }
            if let (Some(alive), Some(pings)) = (&mut alive, &mut pings) {
                let mut asked = false;
                if alive.poll(seen.reads(), || asked = true, cx).is_ready() {
                    return Poll::Ready(End::TimedOut);
                }
                if asked {
                    alive::ask(pings, cx);
                    continue;
                }
            }
            // The zone's own, as soon as a request has named one.
            let own = limits.now().keep_alive;
            if !first && !drained && !closing && own != limit {
                limit = own;
                timer.as_mut().reset(streams.due(limit, now));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let due = streams.due(limit, now);
            if closing {
                return Poll::Ready(End::TimedOut);
            }
            if due > now {
                timer.as_mut().reset(due);
                continue;
            }
            (closing, timed_out) = (true, true);
            http.graceful_shutdown();
            timer.as_mut().reset(now + LINGER);
        }
    })
    .await
}
