//! Waiting for a condition.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for anything that should happen "soon" on a busy two-core machine in a debug build.
pub const SOON: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Looks again and again until `look` is `Ok`, and returns what it has.
///
/// # Panics
/// If that takes longer than `limit`, with `what` was waited for and what was seen last.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) if Instant::now() >= end => {
                panic!("waited {limit:?} for this: {what}; and saw: {instead}")
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}
