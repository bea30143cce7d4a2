//! Where a client connection stands in time: sending the head of a request, being served, being answered, or idle.
//!
//! hyper knows one timeout for a head that also runs while a kept-alive connection is idle; here they are two. [`Paced`] sees
//! bytes arrive, the service and the response's body mark a request's [`Turn`], and the connection's driver arms its one timer
//! from [`Pace::mark`] after each poll. All of it happens within one task; the atomics are for `Send` alone.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weir_config::Timeouts;

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The rest of a request's head; the first of a connection counts from the accept.
    Head = 0,
    /// The origin's answer: `forward` and `upgrade` have the time limits.
    Served = 1,
    /// The next request.
    Idle = 2,
    /// The rest of an answer that has begun, or of the content that the client goes on to send meanwhile.
    Answered = 3,
}

/// A point in a connection's life: two marks are equal only if nothing happened between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u32);

impl Mark {
    pub fn phase(self) -> Phase {
        match self.0 & 0b11 {
            0 => Phase::Head,
            1 => Phase::Served,
            2 => Phase::Idle,
            _ => Phase::Answered,
        }
    }

    /// No request has begun yet.
    pub fn is_first(self) -> bool {
        self.0 == 0
    }
}

/// The time limits that a connection has: the host's, then those of the zone that it spoke to last.
#[derive(Debug)]
pub(crate) struct Limits(Mutex<Arc<Timeouts>>);

impl Limits {
    pub fn new(timeouts: Arc<Timeouts>) -> Self {
        Self(Mutex::new(timeouts))
    }

    pub fn now(&self) -> Arc<Timeouts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn keep_to(&self, timeouts: &Arc<Timeouts>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(timeouts);
    }
}

/// Shared by the parts of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    mark: AtomicU32,
    /// Grows, and wraps, with every byte that is read or written.
    moves: AtomicU32,
    /// The client does not take what is there for it.
    blocked: AtomicBool,
    /// An upgrade is with its origin.
    held: AtomicBool,
    /// Bytes have been read that hyper has not been given: it has to be polled when it is idle, as no socket will wake it.
    keeps: AtomicBool,
}

impl Pace {
    pub fn mark(&self) -> Mark {
        Mark(self.mark.load(Relaxed))
    }

    fn enter(&self, phase: Phase) {
        let turns = (self.mark.load(Relaxed) >> 2).wrapping_add(1);
        // 0 is the first mark alone.
        self.mark.store(turns.max(1) << 2 | phase as u32, Relaxed);
    }

    /// Bytes that have moved, to be compared with what it was before.
    pub fn moves(&self) -> u32 {
        self.moves.load(Relaxed)
    }

    fn moved(&self, bytes: usize) {
        self.moves.store(self.moves.load(Relaxed).wrapping_add(bytes as u32), Relaxed);
    }

    /// The client is waited for to take what there is for it.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Whether what comes from the client is held back, as an upgrade is with its origin.
    pub fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    /// From the head of an upgrade until its answer, or for good if that is 101.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Relaxed);
    }

    pub fn keeps_some(&self) {
        self.keeps.store(true, Relaxed);
    }

    /// Whether hyper has to be polled for what is kept from it; said once.
    pub fn take_keeps(&self) -> bool {
        self.keeps.swap(false, Relaxed)
    }

    /// A part of a head is there although nothing has arrived: it came with the request before it.
    pub fn head_goes_on(&self) {
        if self.mark().phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    fn bytes_arrived(&self, bytes: usize) {
        self.moved(bytes);
        if self.mark().phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A request's head is complete; it is served until the turn is dropped.
    pub fn begin(self: &Arc<Self>) -> Turn {
        self.enter(Phase::Served);
        Turn(self.clone())
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Pace>);

impl Turn {
    /// The head of the answer is there.
    pub fn answer(&self) {
        self.0.enter(Phase::Answered);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// A connection that tells its [`Pace`] of bytes that arrive.
pub(crate) struct Paced<T> {
    io: T,
    pace: Arc<Pace>,
}

impl<T> Paced<T> {
    pub fn new(io: T, pace: Arc<Pace>) -> Self {
        Self { io, pace }
    }

    fn written(&self, result: &Poll<io::Result<usize>>) {
        self.pace.blocked.store(result.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = result {
            self.pace.moved(*bytes);
        }
    }

    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        let arrived = buf.filled().len() - before;
        if arrived > 0 {
            self.pace.bytes_arrived(arrived);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_from_head_to_served_to_idle_and_round() {
        let pace = Arc::new(Pace::default());
        assert!(pace.mark().is_first());
        assert_eq!(pace.mark().phase(), Phase::Head);
        let turn = pace.begin();
        assert_eq!(pace.mark().phase(), Phase::Served);
        pace.bytes_arrived(1);
        assert_eq!(pace.mark().phase(), Phase::Served, "a body's bytes are no head");
        turn.answer();
        assert_eq!(pace.mark().phase(), Phase::Answered);
        let moves = pace.moves();
        pace.bytes_arrived(1);
        assert_ne!(pace.moves(), moves, "content that still comes is a movement");
        assert_eq!(pace.mark().phase(), Phase::Answered);
        drop(turn);
        let idle = pace.mark();
        assert_eq!(idle.phase(), Phase::Idle);
        pace.bytes_arrived(1);
        let head = pace.mark();
        assert_eq!(head.phase(), Phase::Head);
        pace.bytes_arrived(1);
        assert_eq!(pace.mark(), head, "more of the same head does not begin it anew");
        drop(pace.begin());
        assert_ne!(pace.mark(), idle, "another idle time is another mark");
    }
}
