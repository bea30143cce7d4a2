//! HTTP/1.1 on a client's connection.
//!
//! hyper speaks it; this module owns its time limits, its part in a drain, and the hand-over: when a request has been answered
//! with 101, hyper's state is taken apart and only the bare stream goes into the tunnel's own task.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::Poll,
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::{DRAIN_GRACE, LINGER, LINGER_BYTES, Switch, open_tunnel};
use crate::{
    downstream::{
        gate::Gated,
        pace::{Mark, Pace, Phase},
        stream::Transport,
    },
    request::{
        body::ResponseBody,
        content::Content,
        headers,
        service::{Client, Gone, Requests},
    },
    server::Shared,
};

/// The longest head of a request, and the most that hyper buffers of a connection. Bytes. (hyper takes up to 100 headers.)
const MAX_HEAD: usize = 64 * 1024;

/// How hyper is set up for all connections.
pub(crate) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // `Pace` has the time limits.
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    builder
}

/// How the HTTP part of a connection ended.
enum End {
    Http(hyper::Result<()>),
    /// The head of a request, or the next request, did not come in time, or an answer stalled.
    TimedOut,
}

pub(super) async fn serve<T: Transport>(stream: T, client: Client, shared: &Arc<Shared>) {
    let pace = Arc::new(Pace::default());
    let switch = Switch::default();
    let peer = client.address;
    let requests = Arc::new(Requests::new(client, shared.clone()));
    let service = HttpService { requests: requests.clone(), pace: pace.clone(), switch: switch.clone() };
    let io = TokioIo::new(Gated::new(stream, pace.clone()));
    let mut http = shared.http1.serve_connection(io, service);

    let end = drive(&mut http, &pace, &requests, shared).await;
    let error = match end {
        End::TimedOut => {
            shared.counters.timed_out.add(1);
            match pace.mark().phase() {
                Phase::Head => return,
                Phase::Answered => {
                    // So that half an answer is not taken for one, and nothing waits for a client that takes nothing.
                    http.into_parts().io.into_inner().into_inner().0.abort_on_close();
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
    let (stream, held) = parts.io.into_inner().into_inner();
    let switched = switch.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (switched, error) {
        (Some(switched), None) => {
            let early = if parts.read_buf.is_empty() {
                held.into()
            } else {
                [&parts.read_buf[..], &held].concat().into()
            };
            open_tunnel(stream, early, switched, shared);
        }
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
    http: &mut http1::Connection<TokioIo<Gated<T>>, HttpService>,
    pace: &Pace,
    requests: &Requests,
    shared: &Shared,
) -> End {
    let limits = &requests.client().limits;
    let mut moves = pace.moves();
    let mut armed = pace.mark();
    let mut timer = pin!(sleep_until(Instant::now() + limits.now().header));
    let mut draining = shared.draining.subscribe();
    let mut drain = pin!(draining.wait_for(|draining| *draining));
    let mut drained = false;

    poll_fn(|cx| {
        if !drained && drain.as_mut().poll(cx).is_ready() {
            drained = true;
            if armed.is_first() {
                timer.as_mut().reset(Instant::now() + DRAIN_GRACE.min(limits.now().header));
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
                Phase::Head => timer.as_mut().reset(Instant::now() + limits.now().header),
                Phase::Idle => {
                    timer.as_mut().reset(Instant::now() + limits.now().keep_alive);
                    if pace.take_keeps() {
                        cx.waker().wake_by_ref();
                    }
                }
                Phase::Answered => {
                    moves = pace.moves();
                    timer.as_mut().reset(Instant::now() + limits.now().stall);
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
            let timeouts = limits.now();
            // A look at each end of a time rather than a timer that is set with every write.
            let moved = pace.moves().wrapping_sub(std::mem::replace(&mut moves, pace.moves()));
            let due = if pace.is_blocked() { timeouts.least_in_a_stall() } else { 1 };
            if mark.phase() != Phase::Answered || u64::from(moved) < due {
                return Poll::Ready(End::TimedOut);
            }
            timer.as_mut().reset(Instant::now() + timeouts.stall);
        }
        Poll::Pending
    })
    .await
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

/// Serves the requests of one connection.
struct HttpService {
    requests: Arc<Requests>,
    pace: Arc<Pace>,
    switch: Switch,
}

impl hyper::service::Service<Request<Incoming>> for HttpService {
    type Response = Response<ResponseBody>;
    type Error = Gone;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let turn = self.pace.begin();
        if headers::is_websocket_request(&request) {
            self.pace.hold(true);
        }
        let pace = self.pace.clone();
        let (requests, switch) = (self.requests.clone(), self.switch.clone());
        Box::pin(async move {
            let response = requests.answer(request.map(Content::from), &switch).await?;
            pace.hold(response.status() == StatusCode::SWITCHING_PROTOCOLS);
            turn.answer();
            Ok(response.map(|body| body.during(turn)))
        })
    }
}
