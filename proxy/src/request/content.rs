//! A request's content as it comes from a client, whichever version of HTTP the client speaks.
//!
//! Over HTTP/2 the window of a stream opens again for what has been taken from here, so a client sends no faster than its
//! request's origin takes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The content, not read yet.
pub(crate) enum Content {
    None,
    Http1(Incoming),
    Http2 { stream: RecvStream, length: Option<u64> },
}

/// The content broke off, or is not framed as its version of HTTP has it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error(transparent)]
    Http1(hyper::Error),
    #[error(transparent)]
    Http2(h2::Error),
}

impl From<Incoming> for Content {
    fn from(body: Incoming) -> Self {
        Self::Http1(body)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(ContentError::Http1))),
            Self::Http2 { stream, .. } => {
                poll_stream(stream, cx).map(|frame| frame.map(|frame| frame.map_err(ContentError::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2 { stream, .. } => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2 { stream, .. } if stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2 { length: Some(length), .. } => SizeHint::with_exact(*length),
            Self::Http2 { length: None, .. } => SizeHint::default(),
        }
    }
}

fn poll_stream(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    match ready!(stream.poll_data(cx)) {
        Some(Ok(data)) => {
            stream.flow_control().release_capacity(data.len())?;
            Poll::Ready(Some(Ok(Frame::data(data))))
        }
        Some(Err(error)) => Poll::Ready(Some(Err(error))),
        None => {
            let trailers = ready!(stream.poll_trailers(cx))?;
            Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
        }
    }
}
