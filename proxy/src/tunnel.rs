//! A tunnel: bytes between a client (downstream) and an origin (upstream) after the 101, uninspected.
//!
//! One future per tunnel, polled by whichever worker is woken for it. It borrows that worker's scratch buffer while it
//! moves bytes and owns memory only for what the other side did not take: at most one scratch buffer a direction, and
//! while there is such a rest its source is not read (back-pressure).
//!
//! End of stream is passed on per direction, so a half-closed tunnel lives on. An error ends both directions at once; the
//! error names the side that failed, so that [`Task`](task::Task) can abort the other side rather than end it cleanly.
//!
//! A side that is not read (its direction has ended, or the other side is stalled) is watched by the task for its failure:
//! a dead client would otherwise hold its origin's connection for as long as the origin likes.
//!
//! Bytes are uninspected but for one thing: the [length of each frame](frames) is followed, so that a proxy that leaves can
//! [say so](farewell) at a frame border.
//!
//! Both directions move one scratch buffer at a time, in turn, and after [`STEPS`] turns the tunnel yields to the others of
//! its worker: a bulk transfer starves neither the opposite direction nor other tunnels.

mod direction;
pub(crate) mod farewell;
pub(crate) mod frames;
mod lifetime;
mod scratch;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use direction::{Direction, Fault, Step};

/// Turns of both directions in one poll: 16 scratch buffers each way.
const STEPS: usize = 16;

/// The two ends of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        })
    }
}

/// A side broke; what it had sent before has been given to the other side's socket.
#[derive(Debug, thiserror::Error)]
#[error("{side}: {source}")]
pub(crate) struct TunnelError {
    /// The side whose socket failed.
    pub side: Side,
    pub source: io::Error,
}

/// Sides from which no direction reads.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unread {
    downstream: bool,
    upstream: bool,
}

/// Copies both ways until both directions have ended or a side fails. See the module's header.
pub(crate) struct Tunnel<D, U> {
    pub downstream: D,
    pub upstream: U,
    up: Direction,
    down: Direction,
    /// The side whose stream ended first.
    first: Option<Side>,
}

impl<D, U> Tunnel<D, U> {
    /// `from_downstream` and `from_upstream` are bytes that came with either handshake: they go first.
    pub fn new(downstream: D, from_downstream: Bytes, upstream: U, from_upstream: Bytes) -> Self {
        Self {
            downstream,
            upstream,
            up: Direction::new(&from_downstream),
            down: Direction::new(&from_upstream),
            first: None,
        }
    }

    /// The side that closed first, if one has.
    pub fn closed_first(&self) -> Option<Side> {
        self.first
    }

    /// Bytes read from downstream and from upstream so far.
    pub fn moved(&self) -> (u64, u64) {
        (self.up.bytes(), self.down.bytes())
    }

    /// Whose failure only a watch would see. Upstream is not watched while downstream has yet to take what upstream sent
    /// before it failed.
    fn unread(&self) -> Unread {
        Unread { downstream: !self.up.reads(), upstream: self.down.is_done() }
    }

    /// One direction has ended and the other has not.
    fn is_half_closed(&self) -> bool {
        self.up.is_done() != self.down.is_done()
    }

    /// Bytes that the tunnel holds for sides that do not take them.
    #[cfg(test)]
    fn held(&self) -> (usize, usize) {
        (self.up.held(), self.down.held())
    }
}

impl<D, U> Tunnel<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// One turn of both directions.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<(Step, Step), TunnelError> {
        let up =
            self.up.step(cx, &mut self.downstream, &mut self.upstream, scratch).map_err(
                |fault| match fault {
                    Fault::Source(source) => TunnelError { side: Side::Downstream, source },
                    Fault::Sink(source) => TunnelError { side: Side::Upstream, source },
                },
            )?;
        let down = self.down.step(cx, &mut self.upstream, &mut self.downstream, scratch).map_err(
            |fault| match fault {
                Fault::Source(source) => TunnelError { side: Side::Upstream, source },
                Fault::Sink(source) => TunnelError { side: Side::Downstream, source },
            },
        )?;
        if self.first.is_none() {
            self.first = match (self.up.is_open(), self.down.is_open()) {
                (false, _) => Some(Side::Downstream),
                (true, false) => Some(Side::Upstream),
                (true, true) => None,
            };
        }
        Ok((up, down))
    }
}

impl<D, U> Future for Tunnel<D, U>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), TunnelError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let tunnel = self.get_mut();
        scratch::with(|scratch| {
            for _ in 0..STEPS {
                match tunnel.turn(cx, scratch)? {
                    (Step::Done, Step::Done) => return Poll::Ready(Ok(())),
                    (Step::Moved, _) | (_, Step::Moved) => {}
                    (Step::Blocked, _) | (_, Step::Blocked) => return Poll::Pending,
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}
