//! A connection to an origin.
//!
//! Its socket can be named to the [`books`](crate::accounting::books) from before the connect until it is closed: the number
//! is taken back before the kernel can give it to another socket, however the connection ends.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::downstream::stream::{Descriptor, Failure, NamedSocket, Socket, Transport};

/// Time without traffic after which the kernel asks whether the origin still exists. Seconds.
const KEEPALIVE_S: u32 = 300;

/// A connection to an origin, ready for HTTP.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Dropped before the socket.
    _name: NamedSocket,
    socket: Socket,
}

/// A socket that is not connected yet.
pub(super) struct Opened {
    name: NamedSocket,
    socket: socket2::Socket,
}

impl Opened {
    /// Makes a socket for connecting to `address`.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpKeepIdle, &KEEPALIVE_S)?;
        Ok(Self { name: NamedSocket::new(&socket), socket })
    }

    /// What the books may name the socket by.
    pub fn descriptor(&self) -> &Arc<Descriptor> {
        self.name.descriptor()
    }

    pub async fn connect(self, address: SocketAddr) -> io::Result<Stream> {
        match self.socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        // Not before: epoll says of a socket without a connection that it has been hung up, and tokio believes that for good.
        let (name, socket) = (self.name, TcpStream::from_std(self.socket.into())?);
        let stream = Stream { _name: name, socket: Socket::new(socket) };
        stream.socket.connected().await?;
        Ok(stream)
    }
}

impl Transport for Stream {
    fn abort_on_close(&self) {
        self.socket.abort_on_close();
    }

    fn failure(&self) -> Failure {
        self.socket.failure()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
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
