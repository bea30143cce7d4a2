//! What looks after a tunnel while a side of it is not read: the failure of that side, and the time that a half-closed tunnel
//! has. A tunnel that is read on both sides has no watch, and pays nothing for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{Side, Tunnel, TunnelError};
use crate::downstream::stream::{Failure, Transport};

#[derive(Default)]
pub(super) struct Watch {
    downstream: Option<Failure>,
    upstream: Option<Failure>,
    half_closed: Option<Idle>,
}

/// A half-closed tunnel in which nothing moves.
struct Idle {
    timer: Pin<Box<Sleep>>,
    moved: (u64, u64),
}

impl Watch {
    /// Adds to `watch` what `tunnel` needs, takes from it what it does not need any more, and says what has come of it.
    pub fn poll<D: Transport, U: Transport>(
        watch: &mut Option<Box<Self>>,
        tunnel: &Tunnel<D, U>,
        half_closed_timeout: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<TunnelError> {
        let unread = tunnel.unread();
        if !unread.downstream && !unread.upstream {
            *watch = None;
            return Poll::Pending;
        }
        let watch = watch.get_or_insert_default();
        let downstream = unread.downstream.then_some(&tunnel.downstream as &dyn Fails);
        let upstream = unread.upstream.then_some(&tunnel.upstream as &dyn Fails);
        for (side, socket, failure) in [
            (Side::Downstream, downstream, &mut watch.downstream),
            (Side::Upstream, upstream, &mut watch.upstream),
        ] {
            let Some(socket) = socket else {
                *failure = None;
                continue;
            };
            if let Poll::Ready(source) = failure.get_or_insert_with(|| socket.failure()).as_mut().poll(cx) {
                return Poll::Ready(TunnelError { side, source });
            }
        }
        if !tunnel.is_half_closed() {
            watch.half_closed = None;
            return Poll::Pending;
        }
        let moved = tunnel.moved();
        let idle = watch
            .half_closed
            .get_or_insert_with(|| Idle { timer: Box::pin(sleep(half_closed_timeout)), moved });
        while idle.timer.as_mut().poll(cx).is_ready() {
            if idle.moved == moved {
                let side = if tunnel.up.is_done() { Side::Downstream } else { Side::Upstream };
                let source = io::Error::new(io::ErrorKind::TimedOut, "half-closed, and nothing moves");
                return Poll::Ready(TunnelError { side, source });
            }
            idle.moved = moved;
            idle.timer.as_mut().reset(Instant::now() + half_closed_timeout);
        }
        Poll::Pending
    }
}

trait Fails {
    fn failure(&self) -> Failure;
}

impl<T: Transport> Fails for T {
    fn failure(&self) -> Failure {
        Transport::failure(self)
    }
}
