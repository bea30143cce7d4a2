//! The access log: a line for each plain request, one when a WebSocket opens, one when it ends.
//!
//! Workers write lines, a thread of its own writes them out: [`AccessLog`] hands them over through a queue that is bounded in
//! lines and in bytes and never waits. What finds no room, or no disk, is lost and counted
//! ([`Counters::log_lines_lost`]); serving goes on. A reload opens the file anew, so a log that was renamed is let go; the thread
//! of the old one ends when its last line is out.

pub(crate) mod line;
pub(crate) mod visit;
mod writer;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use nix::unistd::{User, fchown, geteuid};
use weir_config::{LogFormat, LogTo, Proxy};

use crate::observe::counters::Counters;
use writer::{Out, Writer};

/// Lines that wait for the writer.
const QUEUE_LINES: usize = 16 * 1024;
/// Bytes of lines that wait for the writer.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How long the last lines may take at the end of the process.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The log cannot be written where it should be.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    #[error(
        "cannot open the access log {}: {source} (the user of `proxy.user` needs to write the file, and its folder if it is \
         to be made anew)",
        path.display()
    )]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that writes the access log: {0}")]
    Thread(#[source] io::Error),
}

/// Where lines go, if they go anywhere.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sink: ArcSwapOption<Sink>,
    counters: Arc<Counters>,
}

/// One opened log.
#[derive(Debug)]
pub(crate) struct Sink {
    pub format: LogFormat,
    sender: SyncSender<String>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Gets nothing, and ends with the writer's thread.
    ended: Mutex<Receiver<()>>,
}

/// A log that is open, not written yet. Made while the process may open what it will not be allowed to later.
#[derive(Debug)]
pub(crate) struct Opened(Option<(LogFormat, Out)>);

impl Opened {
    pub fn open(settings: &Proxy) -> Result<Self, AccessLogError> {
        let out = match &settings.access_log.to {
            LogTo::Off => return Ok(Self(None)),
            LogTo::Stdout => Out::Stdout(io::stdout()),
            LogTo::File(path) => {
                let open = open(path, &settings.user);
                Out::File(open.map_err(|source| AccessLogError::Open { path: path.clone(), source })?)
            }
        };
        Ok(Self(Some((settings.access_log.format, out))))
    }
}

/// A file that this makes as root is given to the user that will have to open it again.
fn open(path: &Path, user: &str) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    // Never waits for the reader of a FIFO, and a reader that has gone is an error of the writer's.
    options.append(true).mode(0o640).custom_flags(libc::O_NONBLOCK);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            if geteuid().is_root()
                && let Ok(Some(user)) = User::from_name(user)
            {
                fchown(&file, Some(user.uid), Some(user.gid))?;
            }
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

impl AccessLog {
    pub fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { sink: ArcSwapOption::empty(), counters })
    }

    /// Writes to `opened` from now on. Lines that wait for the log before are still written there.
    pub fn switch_to(&self, opened: Opened) -> Result<(), AccessLogError> {
        let sink = opened.0.map(|(format, out)| self.begin(format, out)).transpose()?;
        self.sink.store(sink.map(Arc::new));
        Ok(())
    }

    fn begin(&self, format: LogFormat, out: Out) -> Result<Sink, AccessLogError> {
        let (sender, lines) = sync_channel(QUEUE_LINES);
        let (ends, ended) = sync_channel(0);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writer =
            Writer { lines, out, waiting_bytes: waiting_bytes.clone(), counters: self.counters.clone() };
        std::thread::Builder::new()
            .name("weir-access-log".to_owned())
            .spawn(move || {
                let _ends = ends;
                writer.run();
            })
            .map_err(AccessLogError::Thread)?;
        Ok(Sink { format, sender, waiting_bytes, ended: Mutex::new(ended) })
    }

    pub fn is_on(&self) -> bool {
        self.sink.load().is_some()
    }

    /// Hands over the line that `make` writes in the log's format, without its end.
    pub fn write(&self, make: impl FnOnce(LogFormat) -> String) {
        let sink = self.sink.load();
        let Some(sink) = &*sink else { return };
        let mut line = make(sink.format);
        line.push('\n');
        let bytes = line.len();
        let fits = sink.waiting_bytes.fetch_add(bytes, Relaxed) + bytes <= QUEUE_BYTES;
        if !fits || sink.sender.try_send(line).is_err() {
            sink.waiting_bytes.fetch_sub(bytes, Relaxed);
            self.counters.log_lines_lost.add(1);
        }
    }

    /// Ends the log, and waits a moment until its lines are out. May block: for the end of the process.
    pub fn close(&self) {
        let Some(sink) = self.sink.swap(None) else { return };
        // Whoever writes just now has the sender for another instant.
        if let Some(Sink { sender, ended, .. }) = Arc::into_inner(sink) {
            drop(sender);
            let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(FLUSH_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    fn log() -> (Arc<AccessLog>, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        (AccessLog::new(counters.clone()), counters)
    }

    fn file(path: &Path) -> Opened {
        Opened(Some((LogFormat::Json, Out::File(open(path, "nobody").expect("opened")))))
    }

    #[test]
    fn lines_follow_the_file_that_is_opened_anew_and_none_is_lost_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, rotated) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        let (log, counters) = log();
        log.switch_to(file(&path)).expect("begun");
        for n in 0..100 {
            log.write(|_| format!("old {n}"));
        }
        fs::rename(&path, &rotated).expect("renamed");
        log.switch_to(file(&path)).expect("begun");
        for n in 0..100 {
            log.write(|_| format!("new {n}"));
        }
        log.close();
        let lines =
            |path| fs::read_to_string(path).expect("a log").lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&path), (0..100).map(|n| format!("new {n}")).collect::<Vec<_>>());
        let mut old = lines(&rotated);
        // The thread of the old file ends by itself.
        for _ in 0..1000 {
            if old.len() == 100 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            old = lines(&rotated);
        }
        assert_eq!(old, (0..100).map(|n| format!("old {n}")).collect::<Vec<_>>());
        assert_eq!(counters.log_lines_lost.get(), 0);
    }

    #[test]
    fn a_reader_that_does_not_read_loses_lines_and_holds_up_nobody() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (log, counters) = log();
        let out = Out::File(std::os::fd::OwnedFd::from(writer).into());
        log.switch_to(Opened(Some((LogFormat::Json, out)))).expect("begun");
        let text = "x".repeat(1000);
        for _ in 0..3 * QUEUE_LINES {
            log.write(|_| text.clone());
        }
        let lost = counters.log_lines_lost.get();
        assert!(lost > 0, "more than {QUEUE_BYTES} bytes cannot wait");
        let mut read = Vec::new();
        let reading = std::thread::spawn(move || {
            reader.read_to_end(&mut read).expect("read");
            read.split(|byte| *byte == b'\n').filter(|line| line.len() == 1000).count()
        });
        log.close();
        let written = reading.join().expect("joined") as u64;
        assert_eq!(written + counters.log_lines_lost.get(), 3 * QUEUE_LINES as u64);
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let (log, counters) = log();
        let full = OpenOptions::new().append(true).open("/dev/full").expect("/dev/full");
        log.switch_to(Opened(Some((LogFormat::Json, Out::File(full))))).expect("begun");
        for _ in 0..50 {
            log.write(|_| "line".to_owned());
        }
        log.close();
        assert_eq!(counters.log_lines_lost.get(), 50);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none/a.log");
        let error = open(&path, "nobody").expect_err("no folder");
        let error = AccessLogError::Open { path: path.clone(), source: error }.to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("proxy.user"), "{error}");
    }
}
