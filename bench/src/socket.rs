//! A WebSocket of either end: a stream, TLS or not, and what was read of it and not used yet.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

use crate::frame::{self, Frame};

/// What is read at a time, unless a longer frame is on its way. An idle socket keeps none of it.
const READ: usize = 4096;
/// A head of HTTP that is longer is none of ours.
const MAX_HEAD: usize = 16 * 1024;

pub enum Stream {
    Plain(TcpStream),
    Client(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Server(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

macro_rules! either {
    ($stream:expr, $inner:ident => $do:expr) => {
        match $stream {
            Stream::Plain($inner) => $do,
            Stream::Client($inner) => $do,
            Stream::Server($inner) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}

/// What reads frames: a whole stream, or its reading half.
pub struct Reader<R> {
    pub stream: R,
    pub buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer) {
                return Ok(Some(frame));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A frame that has to come.
    pub async fn expect(&mut self) -> io::Result<Frame> {
        self.frame()
            .await?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the stream has ended"))
    }

    /// Reads once.
    pub async fn more(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() {
            // Waits without memory: 100,000 idle sockets have no buffer each.
            self.buffer = BytesMut::new();
            let mut first = [0; READ];
            let read = match self.stream.read(&mut first).await {
                // Many a server of TLS ends so, behind a WebSocket's own end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                other => other?,
            };
            self.buffer.extend_from_slice(&first[..read]);
            return Ok(read);
        }
        let due = frame::length(&self.buffer).map_or(READ, |(header, payload)| header + payload);
        self.buffer.reserve(due.saturating_sub(self.buffer.len()).max(READ));
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Reads a head of HTTP, up to its empty line; what follows stays.
    pub async fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.split_to(at + 4);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.buffer.len() > MAX_HEAD || self.more().await? == 0 {
                let said = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("no whole head: {said:?}")));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// A whole WebSocket.
pub type Socket = Reader<Stream>;
