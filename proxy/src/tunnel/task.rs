//! A tunnel as a task of its own: nothing of HTTP is left in it, and its end is told to whoever has to know.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tracing::debug;
use weir_config::Zone;

use super::{Side, Tunnel, TunnelError};
use crate::{counters::Counters, roster::Entry, stream::Transport};

/// Runs a [`Tunnel`] to its end. If a side fails, the other one is aborted, so that its peer does not take a broken
/// WebSocket for one that ended.
pub(crate) struct Task<D, U> {
    tunnel: Tunnel<D, U>,
    live: Live,
    opened: Instant,
    _entry: Entry,
}

/// One in `tunnels_live`.
struct Live {
    zone: Arc<Zone>,
    counters: Arc<Counters>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.counters.tunnels_live.sub(1);
    }
}

impl<D: Transport, U: Transport> Task<D, U> {
    pub fn new(tunnel: Tunnel<D, U>, zone: Arc<Zone>, counters: Arc<Counters>, entry: Entry) -> Self {
        counters.tunnels.add(1);
        counters.tunnels_live.add(1);
        Self { tunnel, live: Live { zone, counters }, opened: Instant::now(), _entry: entry }
    }

    fn ended(&self, end: Result<(), TunnelError>) {
        let (up_bytes, down_bytes) = self.tunnel.moved();
        let zone = self.live.zone.name.as_str();
        let seconds = self.opened.elapsed().as_secs_f64();
        match end {
            Ok(()) => debug!(zone, up_bytes, down_bytes, seconds, "tunnel ended"),
            Err(error) => {
                match error.side {
                    Side::Downstream => self.tunnel.upstream.abort_on_close(),
                    Side::Upstream => self.tunnel.downstream.abort_on_close(),
                }
                debug!(zone, up_bytes, down_bytes, seconds, %error, "tunnel broke");
            }
        }
    }
}

impl<D: Transport, U: Transport> Future for Task<D, U> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let end = ready!(Pin::new(&mut self.tunnel).poll(cx));
        self.ended(end);
        Poll::Ready(())
    }
}
