//! Writing to the streams of the process: whoever reads them may go away at any time, which is no failure of ours.

use std::{
    env,
    io::{self, Write as _},
};

/// Writes to stdout. A reader that has seen enough (`weir zones | head`) is no error.
///
/// # Errors
/// If the stream cannot be written for another reason, such as a full disk.
pub fn to_stdout(text: &str) -> io::Result<()> {
    match to_stdout_or_nobody(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes to stdout.
///
/// # Errors
/// Also if nobody reads any more.
pub fn to_stdout_or_nobody(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes to stderr, or to nobody if it is closed.
pub fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether a stream gets colours: it is a terminal that has them, and nobody asked for none (<https://no-color.org>).
pub fn has_colour(is_terminal: bool) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !refused && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
