//! Bodies on their way through: nothing is buffered, every frame is passed on as it comes.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::{
    downstream::pace::Turn,
    observe::exchange::Exchange,
    request::{
        content::{Content as Received, ContentError},
        headers,
    },
};

/// What comes of a body as it goes on: of trailers only what may be one, and none is the end.
fn passed_on<E>(frame: Option<Result<Frame<Bytes>, E>>) -> Option<Result<Frame<Bytes>, E>> {
    let mut frame = frame?;
    if let Some(trailers) = frame.as_mut().ok().and_then(Frame::trailers_mut) {
        headers::prepare_trailers(trailers);
        if trailers.is_empty() {
            return None;
        }
    }
    Some(frame)
}

/// What a client gets: an origin's body, or bytes of our own.
pub(crate) struct ResponseBody {
    content: Content,
    /// Ends the request's turn on its connection when hyper is done with the body.
    _turn: Option<Turn>,
    /// Hears of what is sent, and of the end.
    exchange: Option<Box<Exchange>>,
    /// Of the request, whose content may still come.
    upload: Option<Arc<Progress>>,
}

enum Content {
    Origin(Incoming),
    Own(Bytes),
}

impl ResponseBody {
    pub fn full(bytes: Bytes) -> Self {
        Self { content: Content::Own(bytes), _turn: None, exchange: None, upload: None }
    }

    pub fn origin(body: Incoming) -> Self {
        Self { content: Content::Origin(body), _turn: None, exchange: None, upload: None }
    }

    /// The answer to a request whose content has come so far.
    pub fn to(mut self, upload: Arc<Progress>) -> Self {
        self.upload = Some(upload);
        self
    }

    /// Bytes of the request's content that have come from the client.
    pub fn uploaded(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.bytes())
    }

    /// What is sent is the answer of `exchange`, whose end is the body's.
    pub fn of(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(Box::new(exchange));
        self
    }

    /// Keeps `turn` until the body is dropped.
    pub fn during(mut self, turn: Turn) -> Self {
        self._turn = Some(turn);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = match &mut self.content {
            Content::Origin(body) => Pin::new(body).poll_frame(cx).map(passed_on),
            Content::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(exchange)) = (&polled, &mut self.exchange) {
            exchange.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Origin(body) => body.is_end_stream(),
            Content::Own(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Origin(body) => body.size_hint(),
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// A request's body on its way to the origin; it notes when it last moved.
pub(crate) struct Upload {
    body: Received,
    progress: Arc<Progress>,
    /// Somebody has asked for content.
    asked: bool,
}

/// How far a request has come.
pub(crate) struct Progress {
    begun: Instant,
    /// Of the last movement, milliseconds after `begun`.
    moved_ms: AtomicU64,
    bytes: AtomicU64,
    complete: AtomicBool,
    /// The client broke off, or what it sent is no content of HTTP.
    failed: AtomicBool,
    /// The origin would take more than the client has sent.
    starved: AtomicBool,
    /// The content of an upload that was dropped before anybody asked for it.
    unsent: Mutex<Option<Received>>,
}

impl Progress {
    /// When the request last moved: its end, once it is complete.
    pub fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.moved_ms.load(Relaxed))
    }

    /// Bytes of content that have come from the client.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub fn is_complete(&self) -> bool {
        self.complete.load(Relaxed)
    }

    /// It is the client that is waited for, not the origin.
    pub fn waits_for_client(&self) -> bool {
        self.starved.load(Relaxed) && !self.complete.load(Relaxed)
    }

    /// The client's content failed, and with it the request.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// The upload once more, if it was dropped before any of its content was asked for: the request did not go out.
    pub fn again(self: &Arc<Self>) -> Option<Upload> {
        let body = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Upload { body, progress: self.clone(), asked: false })
    }

    fn note(&self) {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(elapsed, Relaxed);
    }
}

impl Upload {
    pub fn new(body: Received) -> (Self, Arc<Progress>) {
        let progress = Progress::begin(body.is_end_stream());
        (Self { body, progress: progress.clone(), asked: false }, progress)
    }

    /// No content, of which nobody follows the progress.
    pub fn empty() -> Self {
        Self { body: Received::None, progress: Progress::begin(true), asked: false }
    }
}

impl Progress {
    fn begin(complete: bool) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            complete: AtomicBool::new(complete),
            failed: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            unsent: Mutex::new(None),
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.asked {
            *self.progress.unsent.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(std::mem::replace(&mut self.body, Received::None));
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.asked = true;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.starved.store(polled.is_pending(), Relaxed);
        let frame = passed_on(std::task::ready!(polled));
        self.progress.note();
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.progress.bytes.fetch_add(bytes as u64, Relaxed);
        }
        if matches!(frame, Some(Err(_))) {
            self.progress.failed.store(true, Relaxed);
        }
        if frame.is_none() || self.is_end_stream() {
            self.progress.complete.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
