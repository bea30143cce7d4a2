//! One direction of a tunnel.
//!
//! `Open` reads and writes; at end of stream it is `Finishing` until everything is flushed and the sink is shut down for
//! writing, then `Done`. `rest` is what the sink did not take; while there is one, the source is not read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Finishing,
    Done,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do at once.
    Moved,
    /// Waits for the source or the sink; the task will be woken.
    Blocked,
    /// The direction has ended, and its sink knows.
    Done,
}

/// Which end of the direction failed.
pub(super) enum Fault {
    Source(io::Error),
    Sink(io::Error),
}

pub(super) struct Direction {
    /// What the sink has yet to take. Not empty, the source is not read.
    pub(super) rest: Bytes,
    /// Where the stream stands behind everything that was read.
    pub(super) frames: Frames,
    bytes: u64,
    phase: Phase,
    /// The sink has taken bytes that it may not have passed on (TLS).
    unflushed: bool,
}

impl Direction {
    /// `first` goes to the sink before anything that is read. It is copied: a view, even an empty one, would keep the buffer
    /// that the handshake was read into for as long as the direction holds it.
    pub fn new(first: &[u8]) -> Self {
        let first = Bytes::copy_from_slice(first);
        let mut frames = Frames::new();
        frames.follow(&first);
        Self { bytes: first.len() as u64, rest: first, frames, phase: Phase::Open, unflushed: false }
    }

    /// Adds what was taken from the source by somebody else, for the sink.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Bytes taken from the source.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its source has not ended.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Its end has been passed on.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// It waits for its source, so that a failure of the source will be seen.
    pub fn reads(&self) -> bool {
        self.phase == Phase::Open && self.rest.is_empty()
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.rest.len()
    }

    /// Moves at most one scratch buffer, or what the sink takes of the rest.
    pub fn step<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        scratch: &mut [u8],
    ) -> Result<Step, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if !self.rest.is_empty() {
            return self.drain(cx, sink);
        }
        match self.phase {
            Phase::Open => self.carry(cx, source, sink, scratch),
            Phase::Finishing => self.finish(cx, sink),
            Phase::Done => Ok(Step::Done),
        }
    }

    /// Gives the sink the rest.
    pub(super) fn drain<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Result<Step, Fault> {
        while !self.rest.is_empty() {
            match write(cx, sink, &self.rest)? {
                Poll::Ready(written) => self.rest.advance(written),
                Poll::Pending => return Ok(Step::Blocked),
            }
        }
        // An empty view would keep the whole allocation alive.
        self.rest = Bytes::new();
        self.unflushed = true;
        Ok(Step::Moved)
    }

    fn carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        scratch: &mut [u8],
    ) -> Result<Step, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(source).poll_read(cx, &mut buffer) {
            Poll::Pending => return self.rest_flushed(cx, sink).map(|_| Step::Blocked),
            Poll::Ready(Ok(())) => {}
            // TLS without close_notify: many clients end so. A WebSocket has its own closing handshake (RFC 6455, 7), by
            // which the other end sees a truncation; RFC 8446, 6.1 leaves the matter to such protocols.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(error)) => return Err(Fault::Source(error)),
        }
        let read = buffer.filled();
        if read.is_empty() {
            self.phase = Phase::Finishing;
            return Ok(Step::Moved);
        }
        self.bytes += read.len() as u64;
        self.frames.follow(read);
        self.unflushed = true;
        let mut left = read;
        while !left.is_empty() {
            match write(cx, sink, left)? {
                Poll::Ready(written) => left = &left[written..],
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(left);
                    return Ok(Step::Blocked);
                }
            }
        }
        Ok(Step::Moved)
    }

    fn finish<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Result<Step, Fault> {
        if self.rest_flushed(cx, sink)?.is_pending() {
            return Ok(Step::Blocked);
        }
        match Pin::new(sink).poll_shutdown(cx) {
            Poll::Pending => Ok(Step::Blocked),
            Poll::Ready(Ok(())) => {
                self.phase = Phase::Done;
                Ok(Step::Done)
            }
            Poll::Ready(Err(error)) => Err(Fault::Sink(error)),
        }
    }

    pub(super) fn rest_flushed<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
    ) -> Result<Poll<()>, Fault> {
        if !self.unflushed {
            return Ok(Poll::Ready(()));
        }
        match Pin::new(sink).poll_flush(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(Fault::Sink(error)),
        }
    }
}

fn write<W: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    sink: &mut W,
    bytes: &[u8],
) -> Result<Poll<usize>, Fault> {
    match Pin::new(sink).poll_write(cx, bytes) {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(Ok(0)) => Err(Fault::Sink(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(written)) => Ok(Poll::Ready(written)),
        Poll::Ready(Err(error)) => Err(Fault::Sink(error)),
    }
}
