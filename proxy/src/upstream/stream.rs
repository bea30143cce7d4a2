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
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::downstream::stream::{Descriptor, Failure, NamedSocket, NamedStream, Transport};

/// Time without traffic after which the kernel asks whether the origin still exists. Seconds.
const KEEPALIVE_S: u32 = 300;

/// A connection to an origin.
pub(crate) enum Stream {
    Plain(NamedStream),
    Tls(Box<TlsStream<NamedStream>>),
}

/// A socket that is not connected yet.
pub(super) struct Opened {
    name: NamedSocket,
    socket: socket2::Socket,
}

impl Opened {
    /// Makes a socket for connecting to `address`.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        // Non-blocking from birth: two system calls less than to ask for it afterwards.
        let kind = Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
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
        let stream = NamedStream::of(self.name, TcpStream::from_std(self.socket.into())?);
        stream.connected().await?;
        Ok(Stream::Plain(stream))
    }
}

impl Stream {
    /// Sets TLS up on a connection on which nothing of it has been said yet. `server` is whom the certificate has to be for.
    pub(super) async fn secure(
        self,
        connector: &TlsConnector,
        server: ServerName<'static>,
    ) -> io::Result<Self> {
        match self {
            Self::Plain(stream) => Ok(Self::Tls(Box::new(connector.connect(server, stream).await?))),
            Self::Tls(_) => Ok(self),
        }
    }
}

impl Transport for Stream {
    fn abort_on_close(&self) {
        match self {
            Self::Plain(stream) => stream.abort_on_close(),
            Self::Tls(stream) => stream.abort_on_close(),
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Plain(stream) => stream.failure(),
            Self::Tls(stream) => stream.failure(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
