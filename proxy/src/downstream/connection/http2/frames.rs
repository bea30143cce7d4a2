//! What passes below HTTP/2: each frame's head is looked at on its way, so that a client that floods is seen.
//!
//! Frames that cost their sender next to nothing and us work (SETTINGS, PING, RST_STREAM, PRIORITY, WINDOW_UPDATE,
//! CONTINUATION, empty DATA, unknown kinds) are paid for out of a [`Budget`], and so is every RST_STREAM that a client makes us
//! send. It fills with time, and with the DATA that we send, which a client has to acknowledge. Whoever overdraws it is not read
//! any more, and the connection's driver says ENHANCE_YOUR_CALM. Requests and content are not limited here.
//!
//! Only heads are parsed (RFC 9113, 4.1: length 24 bits, type 8, flags 8, stream 32); what they mean is `h2`'s to judge.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::super::{LINGER, LINGER_BYTES};

/// `PRI * HTTP/2.0` and what belongs to it, in front of a client's first frame.
const PREFACE_BYTES: u32 = 24;
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Frames that a client may have sent too many, ...
const BURST: u32 = 1000;
/// ... which it is forgiven at this rate.
const PER_SECOND: u32 = 100;
/// Clients open the windows of the stream and of the connection again, and some do for each frame.
const PER_DATA_SENT: u32 = 2;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
}

/// Finds the heads of frames in a stream of bytes, however it is cut.
struct Scan {
    head: [u8; HEAD],
    filled: usize,
    /// Bytes up to the next head.
    skip: u32,
}

impl Scan {
    fn behind(skip: u32) -> Self {
        Self { head: [0; HEAD], filled: 0, skip }
    }

    fn each(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.skip as usize);
            // Fits: it is no more than `skip`.
            self.skip -= skipped as u32;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEAD - self.filled);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                let [high, middle, low, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, high, middle, low]);
                seen(Frame { length, kind, flags });
                (self.filled, self.skip) = (0, length);
            }
        }
    }
}

/// How many frames a client may still send for nothing.
struct Budget {
    left: u32,
    filled: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: BURST, filled: Instant::now() }
    }

    fn add(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(BURST);
    }

    /// False if there is nothing left.
    fn pay(&mut self, frames: u32, now: Instant) -> bool {
        let since = now.duration_since(self.filled).as_millis();
        let earned = since * u128::from(PER_SECOND) / 1000;
        if earned > 0 {
            self.filled = now;
            self.add(u32::try_from(earned).unwrap_or(BURST));
        }
        let left = self.left.checked_sub(frames);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// What one side of the connection has sent.
#[derive(Default)]
struct Tally {
    free: u32,
    data: u32,
}

impl Tally {
    fn received(&mut self, frame: Frame) {
        let pays = match frame.kind {
            DATA => frame.length > 0 || frame.flags & END_STREAM != 0,
            HEADERS => true,
            _ => false,
        };
        self.free += u32::from(!pays);
    }

    fn sent(&mut self, frame: Frame) {
        match frame.kind {
            DATA => self.data += 1,
            RST_STREAM => self.free += 1,
            _ => {}
        }
    }
}

/// What is seen of a client, for the connection's driver.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Marks>);

#[derive(Default)]
struct Marks {
    flooded: AtomicBool,
    /// Grows, and wraps, with every read that brings something.
    reads: AtomicU32,
}

impl Seen {
    /// The client has flooded.
    pub fn has_flooded(&self) -> bool {
        self.0.flooded.load(Relaxed)
    }

    /// To be compared with what it was before.
    pub fn reads(&self) -> u32 {
        self.0.reads.load(Relaxed)
    }
}

/// A connection whose frames are counted.
pub(super) struct Metered<T> {
    io: T,
    read: Scan,
    written: Scan,
    budget: Budget,
    seen: Seen,
    lingering: Option<Lingering>,
}

/// The time after our FIN.
struct Lingering {
    over: Pin<Box<Sleep>>,
    left: usize,
}

impl<T> Metered<T> {
    pub fn new(io: T) -> (Self, Seen) {
        let seen = Seen::default();
        let metered = Self {
            io,
            read: Scan::behind(PREFACE_BYTES),
            written: Scan::behind(0),
            budget: Budget::new(),
            seen: seen.clone(),
            lingering: None,
        };
        (metered, seen)
    }

    fn settle(&mut self, tally: &Tally) {
        self.budget.add(tally.data.saturating_mul(PER_DATA_SENT));
        if tally.free > 0 && !self.budget.pay(tally.free, Instant::now()) {
            self.seen.0.flooded.store(true, Relaxed);
        }
    }

    fn sent(&mut self, parts: &[IoSlice<'_>], mut written: usize) {
        let mut tally = Tally::default();
        for part in parts {
            let part = &part[..part.len().min(written)];
            written -= part.len();
            self.written.each(part, |frame| tally.sent(frame));
        }
        self.settle(&tally);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.has_flooded() {
            // The driver looks at the flag whenever it has polled.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let mut tally = Tally::default();
        if buf.filled().len() > before {
            self.seen.0.reads.fetch_add(1, Relaxed);
        }
        self.read.each(&buf.filled()[before..], |frame| tally.received(frame));
        self.settle(&tally);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.sent(&[IoSlice::new(buf)], written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.sent(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Our FIN, and then what still comes is read and dropped for a while: closing a socket with unread bytes sends a RST,
    /// which may overtake the GOAWAY.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let metered = &mut *self;
        if metered.lingering.is_none() {
            ready!(Pin::new(&mut metered.io).poll_shutdown(cx))?;
        }
        let lingering = metered
            .lingering
            .get_or_insert_with(|| Lingering { over: Box::pin(sleep(LINGER)), left: LINGER_BYTES });
        let mut dropped = [0; 512];
        while lingering.left > 0 {
            let mut buf = ReadBuf::new(&mut dropped);
            match Pin::new(&mut metered.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    lingering.left = lingering.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(lingering.over.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD + payload, 0x55);
        bytes
    }

    proptest! {
        /// The same heads, however the bytes are cut.
        #[test]
        fn every_head_is_seen_once(
            frames in prop::collection::vec((0u8..=255, 0u8..=255, 0usize..300), 1..20),
            cut in 1usize..50,
        ) {
            let mut bytes = vec![0; PREFACE_BYTES as usize];
            for (kind, flags, payload) in &frames {
                bytes.extend(frame(*kind, *flags, *payload));
            }
            let (mut scan, mut seen) = (Scan::behind(PREFACE_BYTES), Vec::new());
            for part in bytes.chunks(cut) {
                scan.each(part, |frame| seen.push(frame));
            }
            let heads = frames.iter().map(|(kind, flags, payload)| Frame {
                length: *payload as u32,
                kind: *kind,
                flags: *flags,
            });
            prop_assert_eq!(seen, heads.collect::<Vec<_>>());
        }
    }

    #[test]
    fn requests_and_content_are_free_and_the_rest_is_paid_for() {
        let mut tally = Tally::default();
        for (kind, flags, length) in [(HEADERS, 4, 10), (DATA, 0, 1), (DATA, END_STREAM, 0)] {
            tally.received(Frame { length, kind, flags });
        }
        assert_eq!(tally.free, 0);
        for kind in 2..=20 {
            tally.received(Frame { length: 4, kind, flags: 0 });
        }
        tally.received(Frame { length: 0, kind: DATA, flags: 0 });
        assert_eq!(tally.free, 20);
        let mut tally = Tally::default();
        for kind in 0..=9 {
            tally.sent(Frame { length: 4, kind, flags: 0 });
        }
        assert_eq!((tally.free, tally.data), (1, 1));
    }

    #[test]
    fn a_budget_ends_and_fills_with_time_and_with_data_sent() {
        let start = Instant::now();
        let mut budget = Budget { left: BURST, filled: start };
        assert!(budget.pay(BURST, start));
        assert!(!budget.pay(1, start));
        let later = start + Duration::from_millis(500);
        assert!(budget.pay(PER_SECOND / 2, later));
        assert!(!budget.pay(1, later));
        budget.add(3);
        assert!(budget.pay(3, later));
        budget.add(BURST * 2);
        assert!(!budget.pay(BURST + 1, later), "no more than a burst is saved");
    }
}
