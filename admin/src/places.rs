//! Who may be connected at a time, and who goes when everybody is: the connection that has waited longest for the head of a
//! request. So neither half a head nor an idle connection keeps anybody out, however many there are of them; one whose request
//! has come whole keeps its place until it has its answer, which is bounded in time.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};

/// The places of one address.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

/// Connections that wait for a head, in the order in which they began to.
#[derive(Default)]
struct Waiting {
    begun: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place.
pub(crate) struct Place {
    places: Arc<Places>,
    evicted: Arc<Notify>,
    /// What it waits as; `None` while a request is answered.
    waits: Mutex<Option<u64>>,
    _permit: OwnedSemaphorePermit,
}

/// A request that is being answered.
struct Answering(Arc<Place>);

/// What is sent of an answer, to its end.
struct Sent {
    body: Body,
    _answering: Answering,
}

impl Places {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(count)), waiting: Mutex::default() })
    }

    /// A place, as soon as there is one. If there is none, somebody who waits loses theirs.
    pub async fn take(self: &Arc<Self>) -> Result<Arc<Place>, AcquireError> {
        if self.are_taken()
            && let Some((_, oldest)) = self.waiting().connections.pop_first()
        {
            oldest.notify_one();
        }
        let permit = self.free.clone().acquire_owned().await?;
        let place =
            Place { places: self.clone(), evicted: Arc::default(), waits: Mutex::new(None), _permit: permit };
        place.waits();
        Ok(Arc::new(place))
    }

    fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Somebody else needs the place.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn waits(&self) {
        let mut waiting = self.places.waiting();
        let nth = waiting.begun;
        waiting.begun += 1;
        waiting.connections.insert(nth, self.evicted.clone());
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = Some(nth);
    }

    fn waits_no_more(&self) {
        let mut waiting = self.places.waiting();
        if let Some(nth) = self.waits.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waiting.connections.remove(&nth);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waits_no_more();
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.waits();
    }
}

/// Answers one request of the connection that has `place`.
pub(crate) async fn answer(place: Arc<Place>, request: Request, next: Next) -> Response {
    place.waits_no_more();
    let answering = Answering(place.clone());
    let mut response = next.run(request).await;
    if place.places.are_taken() {
        // Closed behind the answer, it is nobody's to cut off.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| Body::new(Sent { body, _answering: answering }))
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
