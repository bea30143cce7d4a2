//! One buffer a worker thread, lent to whichever tunnel the worker polls.
//!
//! What is in it has no meaning between two polls. It is allocated when a thread polls its first tunnel and lives as long
//! as the thread.

use std::cell::Cell;

/// The most that a direction reads in one step, and so the most that it may have to keep. Bytes.
pub(super) const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Lends the thread's buffer to `f`. A call inside `f` gets a buffer of its own.
pub(super) fn with<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = BUFFER.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let result = f(&mut buffer);
    BUFFER.set(Some(buffer));
    result
}
