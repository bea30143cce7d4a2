//! The sockets as the rest of the proxy sees them: one that the books can name, and what a tunnel may ask of any.

mod socket;

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

pub(crate) use socket::{Failure, Peer, Socket};

/// What a tunnel needs of either side.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close an abort: the peer gets a RST, and bytes that were not sent yet are dropped.
    fn abort_on_close(&self);

    /// Waits for the failure of the socket, for times in which it is not read.
    fn failure(&self) -> Failure;
}

impl Transport for Socket {
    fn abort_on_close(&self) {
        Self::abort_on_close(self);
    }

    fn failure(&self) -> Failure {
        Self::failure(self)
    }
}

impl Transport for NamedStream {
    fn abort_on_close(&self) {
        self.socket.abort_on_close();
    }

    fn failure(&self) -> Failure {
        self.socket.failure()
    }
}

impl<T: Transport> Transport for server::TlsStream<T> {
    fn abort_on_close(&self) {
        self.get_ref().0.abort_on_close();
    }

    fn failure(&self) -> Failure {
        self.get_ref().0.failure()
    }
}

impl<T: Transport> Transport for client::TlsStream<T> {
    fn abort_on_close(&self) {
        self.get_ref().0.abort_on_close();
    }

    fn failure(&self) -> Failure {
        self.get_ref().0.failure()
    }
}

/// A TCP socket whose descriptor the [`books`](crate::accounting::books) may name as long as it is open.
#[derive(Debug)]
pub(crate) struct NamedStream {
    /// Dropped before the socket.
    name: NamedSocket,
    socket: Socket,
}

/// The number of a socket that somebody else owns: gone before the number can be given to another socket.
#[derive(Debug)]
pub(crate) struct Descriptor(Mutex<Option<RawFd>>);

impl Descriptor {
    pub fn new(socket: &impl AsRawFd) -> Self {
        Self(Mutex::new(Some(socket.as_raw_fd())))
    }

    /// Runs `f` with the descriptor while it cannot be closed; `None` if it is closed.
    pub fn with<R>(&self, f: impl FnOnce(RawFd) -> R) -> Option<R> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.map(f)
    }

    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Kept by the owner of a socket, in a field before it: the descriptor's number is gone before the socket is closed.
#[derive(Debug)]
pub(crate) struct NamedSocket(Arc<Descriptor>);

impl NamedSocket {
    pub fn new(socket: &impl AsRawFd) -> Self {
        Self(Arc::new(Descriptor::new(socket)))
    }

    pub fn descriptor(&self) -> &Arc<Descriptor> {
        &self.0
    }
}

impl Drop for NamedSocket {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl NamedStream {
    pub fn new(tcp: TcpStream) -> Self {
        let socket = Socket::new(tcp);
        Self { name: NamedSocket::new(&socket), socket }
    }

    /// As [`new`](Self::new), of a socket that has been named before.
    pub fn of(name: NamedSocket, tcp: TcpStream) -> Self {
        Self { name, socket: Socket::new(tcp) }
    }

    /// Waits until a connect that has begun is through.
    pub async fn connected(&self) -> io::Result<()> {
        self.socket.connected().await
    }

    pub fn peer(&self) -> Peer {
        self.socket.peer()
    }

    /// Looks at the first bytes, which stay unread, until `decide` knows; no bytes are the end of the stream.
    pub async fn peek<R>(&self, decide: impl Fn(&[u8]) -> Option<R>) -> io::Result<R> {
        self.socket.peek(decide).await
    }

    pub fn descriptor(&self) -> Arc<Descriptor> {
        self.name.descriptor().clone()
    }
}

impl AsyncRead for NamedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for NamedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
