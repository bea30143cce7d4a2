//! Answers to scrapes, a few at a time.
//!
//! The text of 100,000 zones is tens of megabytes, and a client that reads slowly keeps it in memory until it is read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exposition;

/// Scrapes that are being answered; more than this one is told to come again.
pub const SCRAPES: usize = 8;

/// Answers scrapes. Clones share the bound.
#[derive(Clone)]
pub struct Scrapes(Arc<Semaphore>);

impl Default for Scrapes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SCRAPES)))
    }
}

impl Scrapes {
    /// The text that `write` returns, which takes its time on a thread of its own; or 503 while [`SCRAPES`] other answers are
    /// not read to their ends, or 500 with what `write` says.
    pub async fn answer<E>(&self, write: impl FnOnce() -> Result<String, E> + Send + 'static) -> Response
    where
        E: std::fmt::Display + Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            let why = format!("{SCRAPES} scrapes are being answered: come again\n");
            return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response();
        };
        let written = tokio::task::spawn_blocking(move || write().map_err(|error| error.to_string())).await;
        match written.map_err(|error| error.to_string()).flatten() {
            Ok(text) => {
                let body = Body::new(Placed { body: Body::from(text), _place: place });
                ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], body).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}\n"))
                .into_response(),
        }
    }
}

/// A body that has its place among the answers until it is sent or given up.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn scrape(scrapes: &Scrapes) -> Response {
        scrapes.answer(|| Ok::<_, String>("weir_sources 0\n".to_owned())).await
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_are_bounded() {
        let scrapes = Scrapes::default();
        let mut unread = Vec::new();
        for _ in 0..SCRAPES {
            let answer = scrape(&scrapes).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.body().size_hint().exact(), Some(15), "with its length");
            unread.push(answer);
        }
        let refused = scrape(&scrapes).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[RETRY_AFTER], "1");

        let read = axum::body::to_bytes(unread.pop().expect("one").into_body(), 100).await.expect("read");
        assert_eq!(read, "weir_sources 0\n");
        assert_eq!(scrape(&scrapes).await.status(), StatusCode::OK, "there is a place again");
    }

    #[tokio::test]
    async fn who_cannot_write_says_why_and_keeps_no_place() {
        let scrapes = Scrapes::default();
        for _ in 0..=SCRAPES {
            let answer = scrapes.answer(|| Err::<String, _>("no family")).await;
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let text = axum::body::to_bytes(answer.into_body(), 100).await.expect("read");
            assert_eq!(text, "cannot write the metrics: no family\n");
        }
    }
}
