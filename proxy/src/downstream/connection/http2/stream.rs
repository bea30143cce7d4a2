//! A stream of HTTP/2 as a side of a tunnel (RFC 8441, 5): what is a FIN of TCP is END_STREAM here, what is a RST is
//! RST_STREAM with CANCEL.
//!
//! Nothing is sent beyond the stream's window, and at most [`SEND_BUFFER`](super::SEND_BUFFER) bytes wait for the connection;
//! the client's window opens again for what the tunnel has taken. So a stream that is not read, on either side, fills its own
//! windows and nobody else's.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{SEND_BUFFER, idle::Busy};
use crate::downstream::stream::{Failure, Transport};

/// The client's side of a WebSocket over HTTP/2.
pub(super) struct Stream {
    /// Shared with whoever waits for its failure.
    send: Arc<Mutex<SendStream<Bytes>>>,
    receive: RecvStream,
    /// Received, and not taken by the tunnel yet.
    rest: Bytes,
    finished: bool,
    abort: AtomicBool,
    _busy: Busy,
}

impl Stream {
    pub fn new(send: SendStream<Bytes>, receive: RecvStream, busy: Busy) -> Self {
        Self {
            send: Arc::new(Mutex::new(send)),
            receive,
            rest: Bytes::new(),
            finished: false,
            abort: AtomicBool::new(false),
            _busy: busy,
        }
    }

    fn send(&self) -> MutexGuard<'_, SendStream<Bytes>> {
        lock(&self.send)
    }
}

fn lock(send: &Mutex<SendStream<Bytes>>) -> MutexGuard<'_, SendStream<Bytes>> {
    send.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broken(error: h2::Error) -> io::Error {
    // Never the kind that a connection's own end has: a stream that goes with it has not ended.
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Transport for Stream {
    fn abort_on_close(&self) {
        self.abort.store(true, Relaxed);
    }

    fn failure(&self) -> Failure {
        let send = Arc::downgrade(&self.send);
        Box::pin(poll_fn(move |cx| {
            // The stream's end is its owner's to tell.
            let Some(send) = send.upgrade() else { return Poll::Pending };
            let reset = ready!(lock(&send).poll_reset(cx));
            Poll::Ready(reset.map_or_else(broken, |reason| {
                io::Error::new(io::ErrorKind::ConnectionReset, reason.description())
            }))
        }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Without it `h2` resets a stream that has not ended, too, but sends first what is still queued.
        if *self.abort.get_mut() {
            self.send().send_reset(Reason::CANCEL);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        while stream.rest.is_empty() {
            match ready!(stream.receive.poll_data(cx)) {
                Some(data) => stream.rest = data.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = stream.rest.len().min(buf.remaining());
        buf.put_slice(&stream.rest[..taken]);
        stream.rest.advance(taken);
        if stream.rest.is_empty() {
            // An empty view would keep the connection's read buffer alive.
            stream.rest = Bytes::new();
        }
        stream.receive.flow_control().release_capacity(taken).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut send = self.send();
        let mut room = send.capacity();
        if room == 0 {
            send.reserve_capacity(buf.len().min(SEND_BUFFER));
            room = send.capacity();
        }
        while room == 0 {
            room = match ready!(send.poll_capacity(cx)) {
                Some(room) => room.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            };
        }
        let taken = room.min(buf.len());
        send.send_data(Bytes::copy_from_slice(&buf[..taken]), false).map_err(broken)?;
        if taken == buf.len() {
            // What is left of the connection's window is for the other streams.
            send.reserve_capacity(0);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.finished {
            self.send().send_data(Bytes::new(), true).map_err(broken)?;
            self.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}
