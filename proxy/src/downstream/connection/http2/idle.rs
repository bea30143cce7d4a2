//! Since when a connection has had no stream.
//!
//! The connection's one timer is not set with every stream: it looks here when it fires, and learns when to look again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The streams of a connection: requests that are served, and WebSockets.
#[derive(Clone)]
pub(super) struct Streams(Arc<Inner>);

struct Inner {
    begun: Instant,
    live: AtomicUsize,
    /// When the last one ended, milliseconds after `begun`.
    ended_ms: AtomicU64,
}

/// A stream that lives.
pub(super) struct Busy(Streams);

impl Streams {
    pub fn new() -> Self {
        let inner = Inner { begun: Instant::now(), live: AtomicUsize::new(0), ended_ms: AtomicU64::new(0) };
        Self(Arc::new(inner))
    }

    pub fn begin(&self) -> Busy {
        self.0.live.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// When the connection will have been idle for `limit`; not after `now` if it has been.
    pub fn due(&self, limit: Duration, now: Instant) -> Instant {
        // Acquire: who sees that a stream has ended sees when.
        match self.0.live.load(Ordering::Acquire) {
            0 => self.0.begun + Duration::from_millis(self.0.ended_ms.load(Ordering::Relaxed)) + limit,
            _ => now + limit,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let inner = &self.0.0;
        let ended = u64::try_from(inner.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        inner.ended_ms.store(ended, Ordering::Relaxed);
        inner.live.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_begins_with_the_end_of_the_last_stream() {
        const LIMIT: Duration = Duration::from_secs(10);
        let start = Instant::now();
        let streams = Streams::new();
        assert_eq!(streams.due(LIMIT, start), start + LIMIT);
        let (first, second) = (streams.begin(), streams.begin());
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(first);
        let now = Instant::now();
        assert_eq!(streams.due(LIMIT, now), now + LIMIT, "one lives");
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(second);
        assert_eq!(streams.due(LIMIT, now + LIMIT), start + Duration::from_secs(75));
    }
}
