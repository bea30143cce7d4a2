//! A connection to an origin that remembers whether it has ever answered: one that has, and breaks with the next request, was
//! closed by its origin while it was idle.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};

use super::Stream;

#[derive(Clone)]
struct Answered(Arc<AtomicBool>);

pub(crate) struct Pooled {
    io: TokioIo<Stream>,
    answered: Answered,
}

impl Pooled {
    pub fn new(stream: Stream) -> Self {
        Self { io: TokioIo::new(stream), answered: Answered(Arc::default()) }
    }
}

/// Notes that the connection of a response has answered. `extensions` are the response's.
pub(crate) fn mark_answered(extensions: &Extensions) {
    if let Some(Answered(answered)) = extensions.get() {
        answered.store(true, Relaxed);
    }
}

/// The connection has answered a request before.
pub(crate) fn has_answered(connected: &Connected) -> bool {
    let mut extensions = Extensions::new();
    connected.get_extras(&mut extensions);
    extensions.get().is_some_and(|Answered(answered)| answered.load(Relaxed))
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.answered.clone())
    }
}

impl Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Pooled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
