//! A TCP socket that can be watched for its end while nobody reads it.
//!
//! tokio's own `TcpStream` tells of a failure only to whoever waits to read or write, and there are times when nobody does: a
//! half-closed tunnel, a tunnel whose other side is stalled, a client whose request is with the origin. A watch waits for
//! the error or hang-up itself, as epoll reports it: no timer, and no system call.
//!
//! Reads and writes are those of `TcpStream`, system call for system call: one that is not filled says that the kernel has no
//! more, so readiness is cleared without asking for `EAGAIN`. Under epoll that is exact.

use std::{
    io::{self, Read},
    net::Shutdown,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// The most that [`Socket::peek`] shows. Bytes.
const PEEKED: usize = 32;

/// The socket is closed when this and every watch of it are dropped.
#[derive(Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

/// Ends with the error that ended a socket.
pub(crate) type Failure = Pin<Box<dyn Future<Output = io::Error> + Send>>;

impl Socket {
    pub fn new(tcp: TcpStream) -> Self {
        Self(Arc::new(tcp))
    }

    /// Waits for the socket's failure: a RST, or a peer that the kernel has given up.
    pub fn failure(&self) -> Failure {
        let tcp = self.0.clone();
        Box::pin(async move {
            match tcp.ready(Interest::ERROR).await {
                Err(error) => error,
                Ok(_) => {
                    let error = tcp.take_error().unwrap_or_else(Some);
                    error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
                }
            }
        })
    }

    /// Waits until a connect that has begun is through.
    pub async fn connected(&self) -> io::Result<()> {
        self.0.writable().await?;
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    /// Looks at the first bytes, which stay unread, until `decide` knows; no bytes are the end of the stream.
    pub async fn peek<R>(&self, decide: impl Fn(&[u8]) -> Option<R>) -> io::Result<R> {
        loop {
            self.0.readable().await?;
            let decided = self.0.try_io(Interest::READABLE, || {
                let mut bytes = [0; PEEKED];
                let seen = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK)?;
                // Clears the readiness as of before the look, never that of bytes that came meanwhile.
                decide(&bytes[..seen]).ok_or_else(|| io::ErrorKind::WouldBlock.into())
            });
            match decided {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                decided => return decided,
            }
        }
    }

    pub fn peer(&self) -> Peer {
        Peer(Arc::downgrade(&self.0))
    }

    /// Makes the coming close an abort: the peer gets a RST, and bytes that were not sent yet are dropped.
    pub fn abort_on_close(&self) {
        // Fails only for a socket that is gone, whose peer knows.
        let _ = self.0.set_zero_linger();
    }

    /// Waits for readiness and runs `io`, which says how many of how many bytes it moved.
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut io: impl FnMut(SockRef<'_>) -> io::Result<(usize, usize)>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(if interest.is_readable() {
                self.0.poll_read_ready(cx)
            } else {
                self.0.poll_write_ready(cx)
            })?;
            let mut part = None;
            let done = self.0.try_io(interest, || {
                let (moved, of) = io(SockRef::from(&*self.0))?;
                if 0 < moved && moved < of {
                    part = Some(moved);
                    // Clears the readiness as of before the call, never one that came meanwhile.
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(moved)
            });
            match (done, part) {
                (_, Some(moved)) | (Ok(moved), None) => return Poll::Ready(Ok(moved)),
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
                (Err(error), None) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// The other end of a socket, for somebody who does not keep the socket open.
#[derive(Debug)]
pub(crate) struct Peer(Weak<TcpStream>);

impl Peer {
    /// Waits until the peer has closed its direction or the socket has failed, whatever is still unread.
    pub async fn left(&self) {
        let Some(tcp) = self.0.upgrade() else { return };
        // The one interest of tokio's that means the end of the stream without meaning its bytes; urgent data is not
        // asked of epoll.
        let _ = tcp.ready(Interest::PRIORITY | Interest::ERROR).await;
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_io(cx, Interest::READABLE, |socket| {
            let unfilled = buf.initialize_unfilled();
            Ok(((&*socket).read(unfilled)?, unfilled.len()))
        }))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_io(cx, Interest::WRITABLE, |socket| {
            Ok((socket.send_with_flags(buf, libc::MSG_NOSIGNAL)?, buf.len()))
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_io(cx, Interest::WRITABLE, |socket| {
            let sent = socket.send_vectored_with_flags(bufs, libc::MSG_NOSIGNAL)?;
            // A short list of buffers may be short for another reason than a full socket.
            Ok((sent, sent))
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}
