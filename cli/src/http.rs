//! One request and its answer, on a connection of their own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sends the request and reads the whole answer, also of a peer that answers before it has read all of the request.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(Answered { stream, deaf: false })).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may be through before its last answer was looked at.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    }
}

/// A peer that may close as soon as it has answered. What it does not read any more is dropped: its answer is there to be read.
struct Answered<S> {
    stream: S,
    /// The peer reads no more.
    deaf: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Answered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.deaf {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, buf)) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.deaf = true,
                written => return Poll::Ready(written),
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn an_answer_that_came_before_the_request_was_sent_is_read() {
        let (ours, mut peer) = UnixStream::pair().expect("a pair");
        peer.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.expect("written");
        drop(peer);
        let request =
            Request::post("/").body(Full::new(Bytes::from(vec![b'x'; 1 << 20]))).expect("a request");
        let (status, body) = exchange(ours, request).await.expect("an answer");
        assert_eq!((status, &body[..]), (StatusCode::FORBIDDEN, &b"no"[..]));
    }

    #[tokio::test]
    async fn a_peer_that_goes_without_an_answer_is_an_error() {
        let (ours, peer) = UnixStream::pair().expect("a pair");
        drop(peer);
        let request = Request::post("/").body(Full::new(Bytes::from("x"))).expect("a request");
        assert!(exchange(ours, request).await.is_err());
    }
}
