//! A tunnel as a task of its own: nothing of HTTP is left in it, and its end is told to whoever has to know.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tracing::debug;
use weir_config::Zone;

use super::{
    Side, Tunnel, TunnelError,
    farewell::{Farewell, Leave},
    lifetime::{Expired, Lifetime},
    watch::Watch,
};
use crate::{
    downstream::stream::Transport,
    observe::{access::visit::Visit, counters::Counters, outcome::TunnelEnd},
    server::roster::Entry,
};

/// The status of a close frame to both sides of a tunnel that has had its time (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Runs a [`Tunnel`] to its end. If a side fails, the other one is aborted, so that its peer does not take a broken
/// WebSocket for one that ended.
pub(crate) struct Task<D, U> {
    tunnel: Tunnel<D, U>,
    zone: Arc<Zone>,
    counters: Arc<Counters>,
    visit: Option<Box<Visit>>,
    leave: Arc<Leave>,
    /// The proxy leaves, or the tunnel's time is over.
    farewell: Option<Box<Farewell>>,
    /// One that is dropped before it knows was ended by the drain.
    end: TunnelEnd,
    polled: bool,
    opened: Instant,
    watch: Option<Box<Watch>>,
    lifetime: Lifetime,
    _entry: Entry,
}

impl<D: Transport, U: Transport> Task<D, U> {
    /// The tunnel has the time limits that its zone has now.
    pub fn new(
        tunnel: Tunnel<D, U>,
        zone: Arc<Zone>,
        counters: Arc<Counters>,
        mut visit: Option<Box<Visit>>,
        entry: Entry,
    ) -> Self {
        counters.tunnels.add(1);
        counters.tunnels_live.add(1);
        if let Some(visit) = &mut visit {
            visit.opened();
        }
        Self {
            tunnel,
            lifetime: Lifetime::new(&zone.timeouts),
            zone,
            counters,
            visit,
            leave: entry.leave(),
            farewell: None,
            end: TunnelEnd::Drain,
            polled: false,
            opened: Instant::now(),
            watch: None,
            _entry: entry,
        }
    }

    /// Both sides are told, as by a drain.
    fn expired(&mut self, expired: Expired) {
        self.end = TunnelEnd::Timeout;
        self.farewell = Some(Box::new(Farewell::new(GOING_AWAY)));
        let (up_bytes, down_bytes) = self.tunnel.moved();
        let zone = self.zone.name.as_str();
        let seconds = self.opened.elapsed().as_secs_f64();
        debug!(zone, up_bytes, down_bytes, seconds, reason = expired.as_str(), "tunnel expired");
    }

    fn ended(&mut self, end: Result<(), TunnelError>) {
        self.end = match &end {
            Ok(()) => match self.tunnel.closed_first() {
                Some(Side::Upstream) => TunnelEnd::Origin,
                _ => TunnelEnd::Client,
            },
            Err(TunnelError { source, .. }) if is_of_a_limit(source) => TunnelEnd::Timeout,
            Err(TunnelError { side: Side::Downstream, .. }) => TunnelEnd::ClientFailed,
            Err(TunnelError { side: Side::Upstream, .. }) => TunnelEnd::OriginFailed,
        };
        let (up_bytes, down_bytes) = self.tunnel.moved();
        let zone = self.zone.name.as_str();
        let seconds = self.opened.elapsed().as_secs_f64();
        match end {
            Ok(()) => debug!(zone, up_bytes, down_bytes, seconds, "tunnel ended"),
            Err(error) => {
                if error.source.kind() == ErrorKind::TimedOut {
                    // The side itself may be alive: a half-closed tunnel in which nothing moved.
                    self.tunnel.upstream.abort_on_close();
                    self.tunnel.downstream.abort_on_close();
                }
                match error.side {
                    Side::Downstream => self.tunnel.upstream.abort_on_close(),
                    Side::Upstream => self.tunnel.downstream.abort_on_close(),
                }
                debug!(zone, up_bytes, down_bytes, seconds, %error, "tunnel broke");
            }
        }
    }
}

/// A limit of ours has passed. The kernel's own time-out of a socket has an errno.
fn is_of_a_limit(error: &io::Error) -> bool {
    error.kind() == ErrorKind::TimedOut && error.raw_os_error().is_none()
}

impl<D: Transport, U: Transport> Future for Task<D, U> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        if !task.polled {
            task.polled = true;
            task.leave.follow(cx);
        }
        if task.farewell.is_none()
            && let Some(code) = task.leave.asked()
        {
            task.farewell = Some(Box::new(Farewell::new(code)));
        }
        if task.farewell.is_none() {
            if let Poll::Ready(end) = Pin::new(&mut task.tunnel).poll(cx) {
                task.ended(end);
                return Poll::Ready(());
            }
            if let Poll::Ready(expired) = task.lifetime.poll(task.tunnel.moved(), cx) {
                task.expired(expired);
            }
        }
        if let Some(farewell) = &mut task.farewell {
            return farewell.poll(&mut task.tunnel, cx);
        }
        let limit = task.zone.timeouts.half_closed;
        let error = ready!(Watch::poll(&mut task.watch, &task.tunnel, limit, cx));
        task.ended(Err(error));
        Poll::Ready(())
    }
}

impl<D, U> Drop for Task<D, U> {
    fn drop(&mut self) {
        self.counters.tunnels_live.sub(1);
        self.counters.ended[self.end as usize].add(1);
        if let Some(visit) = &self.visit {
            visit.ended(self.tunnel.moved(), self.end);
        }
    }
}
