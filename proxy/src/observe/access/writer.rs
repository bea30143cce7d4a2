//! The thread that writes lines out, many at a time.
//!
//! A write that fails loses the lines of its batch that were not out completely; a line of which a part is out gets its end before
//! the next one, so that no two lines run into each other.

use std::{
    fs::File,
    io::{self, Stdout, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use crate::observe::{counters::Counters, rare::Rarely};

/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;
/// Between two attempts on a disk that takes nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Where lines are written to.
#[derive(Debug)]
pub(super) enum Out {
    Stdout(Stdout),
    File(File),
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            // Unbuffered: a batch is whole lines, which the buffer of stdout would split once more.
            Self::Stdout(stdout) => Ok(nix::unistd::write(stdout, bytes)?),
            Self::File(file) => file.write(bytes),
        }
    }

    /// Waits until a FIFO, or a pipe that does not block, has room.
    fn wait(&self) {
        use std::os::fd::AsFd;
        let fd = match self {
            Self::Stdout(stdout) => stdout.as_fd(),
            Self::File(file) => file.as_fd(),
        };
        let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
    }
}

pub(super) struct Writer {
    pub lines: Receiver<String>,
    pub out: Out,
    pub waiting_bytes: Arc<AtomicUsize>,
    pub counters: Arc<Counters>,
}

static FAILED: Rarely = Rarely::new();

impl Writer {
    /// Ends when nobody can send lines any more and all are written.
    pub fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut torn = false;
        while let Ok(line) = self.lines.recv() {
            batch.clear();
            if torn {
                batch.push(b'\n');
            }
            let mut next = Some(line);
            let mut bytes = 0;
            while let Some(line) = next.take() {
                bytes += line.len();
                batch.extend_from_slice(line.as_bytes());
                if batch.len() < BATCH {
                    next = self.lines.try_recv().ok();
                }
            }
            torn = self.write(&batch, torn);
            self.waiting_bytes.fetch_sub(bytes, Relaxed);
        }
    }

    /// Writes whole lines. True if one of them was begun and not ended.
    fn write(&mut self, batch: &[u8], mut torn: bool) -> bool {
        let mut left = batch;
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(written) => {
                    torn = written > 0 && left[written - 1] != b'\n';
                    left = &left[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.out.wait(),
                Err(error) => {
                    // The end of a line that was torn before is no line.
                    let lost = left.iter().filter(|byte| **byte == b'\n').count();
                    let lost = lost - usize::from(torn && left.len() == batch.len() && left[0] == b'\n');
                    self.counters.log_lines_lost.add(lost as u64);
                    FAILED.then(|| warn!(%error, "the access log cannot be written: lines are lost"));
                    thread::sleep(PAUSE);
                    break;
                }
            }
        }
        torn
    }
}
