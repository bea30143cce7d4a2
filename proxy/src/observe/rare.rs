//! Log lines that hostile input could repeat at will: at most one a [`INTERVAL`] each.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const INTERVAL: Duration = Duration::from_secs(5);

/// One such line.
pub(crate) struct Rarely(Mutex<Option<Instant>>);

impl Rarely {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Runs `log` unless it ran less than [`INTERVAL`] ago.
    pub fn then(&self, log: impl FnOnce()) {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= INTERVAL) {
            *last = Some(now);
            drop(last);
            log();
        }
    }
}
