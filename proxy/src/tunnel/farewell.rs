//! How a tunnel ends when the proxy leaves, or when its time is over: each side is told by a close frame, if its stream stands at a frame border or
//! reaches one, then gets a moment to answer, then the end of the stream.
//!
//! A direction first finishes the frame that is under way. Behind it goes our close frame; what its source still sends is read and
//! dropped, so that the source's own close is seen and no RST overtakes ours. All of it takes at most [`LIMIT`]; what is not at a
//! border by then gets a plain end.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    Tunnel,
    direction::{Direction, Step},
    frames::{close_to_client, close_to_origin},
    scratch,
};

/// How long both sides have, from the moment that the tunnel is asked to end.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// Reads of one poll whose bytes are dropped.
const READS: usize = 16;

/// By which a tunnel is asked to end.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// The status code of the close frame; 0 as long as nobody asks.
    code: AtomicU16,
    waker: Mutex<Option<Waker>>,
}

impl Leave {
    pub fn ask(&self, code: u16) {
        self.code.store(code, SeqCst);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the task of `cx` when it is asked. Once is enough: the waker of a spawned task stays the same.
    pub fn follow(&self, cx: &Context<'_>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    pub fn asked(&self) -> Option<u16> {
        let code = self.code.load(SeqCst);
        (code != 0).then_some(code)
    }
}

/// What a direction is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The frame that is under way.
    Finish,
    /// Our close frame.
    Say,
    /// What its source answers.
    Listen,
    Over,
}

impl Stage {
    fn has_said(self) -> bool {
        matches!(self, Self::Listen | Self::Over)
    }
}

pub(super) struct Farewell {
    up: Stage,
    down: Stage,
    /// The sides that have got the end of the stream.
    shut: (bool, bool),
    code: u16,
    mask: [u8; 4],
    timer: Pin<Box<Sleep>>,
}

impl Farewell {
    pub fn new(code: u16) -> Self {
        // Its keys come from the system's randomness; a mask has to be one that nobody can foresee.
        let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
        Self {
            up: Stage::Finish,
            down: Stage::Finish,
            shut: (false, false),
            code,
            mask: [a, b, c, d],
            timer: Box::pin(sleep(LIMIT)),
        }
    }

    /// Ends when both sides have said goodbye, or the time is over.
    pub fn poll<D, U>(&mut self, tunnel: &mut Tunnel<D, U>, cx: &mut Context<'_>) -> Poll<()>
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let Tunnel { downstream, upstream, up, down, .. } = tunnel;
        scratch::with(|scratch| {
            let close = close_to_origin(self.code, self.mask);
            self.up.go_on(up, cx, downstream, upstream, scratch, &close);
            let close = close_to_client(self.code);
            self.down.go_on(down, cx, upstream, downstream, scratch, &close);
        });
        // A side that has answered waits for us to end the stream, as servers do first (RFC 6455, 7.1.1).
        if self.up == Stage::Over && self.down.has_said() && !self.shut.0 {
            self.shut.0 = Pin::new(downstream).poll_shutdown(cx).is_ready();
        }
        if self.down == Stage::Over && self.up.has_said() && !self.shut.1 {
            self.shut.1 = Pin::new(upstream).poll_shutdown(cx).is_ready();
        }
        if self.shut == (true, true) || self.timer.as_mut().poll(cx).is_ready() {
            // What was not shut gets its end by the close of its socket.
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Stage {
    fn go_on<R, W>(
        &mut self,
        direction: &mut Direction,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        scratch: &mut [u8],
        close: &[u8],
    ) where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let next = match *self {
                Self::Finish => finish(direction, cx, source, sink, scratch, close),
                Self::Say => say(direction, cx, sink),
                Self::Listen => listen(direction, cx, source, scratch),
                Self::Over => return,
            };
            match next {
                Poll::Ready(next) => *self = next,
                Poll::Pending => return,
            }
        }
    }
}

fn finish<R, W>(
    direction: &mut Direction,
    cx: &mut Context<'_>,
    source: &mut R,
    sink: &mut W,
    scratch: &mut [u8],
    close: &[u8],
) -> Poll<Stage>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    match direction.drain(cx, sink) {
        Ok(Step::Blocked) => return Poll::Pending,
        Ok(_) => {}
        // Its sink has gone, which the other direction sees as well.
        Err(_) => return Poll::Ready(Stage::Over),
    }
    if !direction.is_open() {
        return Poll::Ready(Stage::Over);
    }
    if direction.frames.at_border() {
        if !direction.frames.is_closed() {
            direction.rest = Bytes::copy_from_slice(close);
        }
        return Poll::Ready(Stage::Say);
    }
    let mut buffer = ReadBuf::new(scratch);
    match Pin::new(source).poll_read(cx, &mut buffer) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => return Poll::Ready(Stage::Over),
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Stage::Over),
        Poll::Ready(Ok(())) => {}
    }
    let read = buffer.filled();
    let (frame, dropped) = read.split_at(direction.frames.until_border(read));
    let mut last = frame.to_vec();
    let at_border = direction.frames.at_border();
    if at_border && !direction.frames.is_closed() {
        last.extend_from_slice(close);
    }
    direction.add(frame.len());
    direction.rest = last.into();
    direction.frames.follow(dropped);
    Poll::Ready(if at_border { Stage::Say } else { Stage::Finish })
}

fn say<W: AsyncWrite + Unpin>(direction: &mut Direction, cx: &mut Context<'_>, sink: &mut W) -> Poll<Stage> {
    let said = direction.drain(cx, sink).and_then(|step| Ok((step, direction.rest_flushed(cx, sink)?)));
    match said {
        Ok((Step::Blocked, _) | (_, Poll::Pending)) => Poll::Pending,
        Ok(_) | Err(_) => Poll::Ready(Stage::Listen),
    }
}

fn listen<R: AsyncRead + Unpin>(
    direction: &mut Direction,
    cx: &mut Context<'_>,
    source: &mut R,
    scratch: &mut [u8],
) -> Poll<Stage> {
    for _ in 0..READS {
        if direction.frames.is_closed() {
            return Poll::Ready(Stage::Over);
        }
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => direction.frames.follow(buffer.filled()),
            Poll::Ready(_) => return Poll::Ready(Stage::Over),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
