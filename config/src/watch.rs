//! Says when the files of a configuration have changed, those of certificates included.
//!
//! Folders are watched, not files: editors rename a new file over the old one, and Kubernetes turns a link to another folder.
//! Whatever happens there, the stamps of the files decide whether it was a change; so a log or a database in the same folder
//! disturbs nobody, and a change that undoes itself within a burst is none.
//!
//! Contract: `on_change` is called once a burst, on the watcher's own thread, when the folders have been quiet for
//! [`QUIET`], or after [`LONGEST`] if they never are. Changes before [`watch`] returned may go unseen; a configuration that
//! names other files needs another watch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};

use crate::{
    check::{is_zone_file, list},
    model::Config,
};

/// How long nothing must have happened.
const QUIET: Duration = Duration::from_millis(300);
/// The longest that a burst is waited for.
const LONGEST: Duration = Duration::from_secs(3);

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("inotify is not available; fs.inotify.max_user_instances may be used up")]
    Start(#[source] notify::Error),
    #[error("the folder {} cannot be watched; fs.inotify.max_user_watches may be used up", folder.display())]
    Folder { folder: PathBuf, source: notify::Error },
    #[error("the watching thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A watch that goes on until it is dropped; once it is, `on_change` is not called any more.
#[derive(Debug)]
pub struct Watch {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

enum Signal {
    Touched,
    Stop,
}

/// Calls `on_change` after every burst of changes to the files of a configuration, new zone files included.
///
/// # Errors
/// If the kernel has no room for another watch, or a folder cannot be read.
pub fn watch(
    config: &Config,
    config_path: &Path,
    on_change: impl FnMut() + Send + 'static,
) -> Result<Watch, WatchError> {
    let (signals, received) = channel();
    let events = signals.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| may_change(event.kind)) {
            // The thread is gone only while the watch is being dropped.
            let _ = events.send(Signal::Touched);
        }
    });
    let files = Files::of(config, config_path);
    let mut folders = Folders { watcher: watcher.map_err(WatchError::Start)?, watched: BTreeMap::new() };
    folders.follow(&files.folders())?;
    let stamp = files.stamp();
    let run = move || run(&received, &files, folders, stamp, on_change);
    let thread = thread::Builder::new().name("weir-watch".into()).spawn(run).map_err(WatchError::Thread)?;
    Ok(Watch { signals, thread: Some(thread) })
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        // `on_change` may be what drops the watch.
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

/// Reading a file is no change to it: a reload would cause the next.
fn may_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn run(
    received: &Receiver<Signal>,
    files: &Files,
    mut folders: Folders,
    mut stamp: u64,
    mut on_change: impl FnMut(),
) {
    let mut followed = true;
    loop {
        // A folder that could not be watched is looked at from time to time instead.
        let first = match followed {
            true => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => received.recv_timeout(LONGEST),
        };
        match first {
            Ok(Signal::Touched) if settled(received) => {}
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
        // First the folders, then the stamp: what happens between the two is in it.
        followed = folders.follow(&files.folders()).is_ok();
        let now = files.stamp();
        if std::mem::replace(&mut stamp, now) != now {
            on_change();
        }
    }
}

/// Waits for the end of a burst; false if the watch is to stop.
fn settled(received: &Receiver<Signal>) -> bool {
    let deadline = Instant::now() + LONGEST;
    while Instant::now() < deadline {
        match received.recv_timeout(QUIET) {
            Ok(Signal::Touched) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// What a configuration is made of.
struct Files {
    /// All but those in `zone_folders`.
    single: BTreeSet<PathBuf>,
    zone_folders: BTreeSet<PathBuf>,
}

impl Files {
    fn of(config: &Config, config_path: &Path) -> Self {
        let main = std::path::absolute(config_path).unwrap_or_else(|_| config_path.to_path_buf());
        let zone_folders: BTreeSet<_> =
            config.sources.iter().filter(|source| source.is_dir()).cloned().collect();
        // A certificate may lie beside the zone files.
        let in_folder = |path: &Path| {
            path.parent().is_some_and(|parent| zone_folders.contains(parent)) && is_zone_file(path)
        };
        let single =
            config.sources.iter().filter(|source| !zone_folders.contains(*source) && !in_folder(source));
        Self { single: single.cloned().chain([main]).collect(), zone_folders }
    }

    /// The folders to watch: those that the paths name, and those that links lead to now.
    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in self.single.iter().chain(&self.zone_folders) {
            let target = fs::canonicalize(path).ok();
            folders.extend(
                [path.parent(), target.as_deref().and_then(Path::parent)].into_iter().flatten().map(existing),
            );
        }
        folders.extend(self.zone_folders.iter().map(|folder| existing(folder)));
        folders
    }

    /// Changes when a file is written, replaced, made or removed.
    fn stamp(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in &self.single {
            stamp_file(path, &mut hasher);
        }
        for folder in &self.zone_folders {
            let files = list(folder).unwrap_or_default();
            files.iter().for_each(|path| stamp_file(path, &mut hasher));
        }
        hasher.finish()
    }
}

fn stamp_file(path: &Path, hasher: &mut DefaultHasher) {
    let stamp = fs::metadata(path).ok().map(|file| {
        let changed = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
        (file.dev(), file.ino(), file.size(), changed)
    });
    (path, stamp).hash(hasher);
}

/// The folder, or what there is above it: it will be seen when it is made.
fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

/// The watched folders. A path may lead to another folder than before, so each is kept with its device and inode.
struct Folders {
    watcher: RecommendedWatcher,
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

impl Folders {
    /// Watches these folders and no others.
    fn follow(&mut self, wanted: &BTreeSet<PathBuf>) -> Result<(), WatchError> {
        let identity = |path: &Path| fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()));
        let stale =
            |path: &PathBuf, seen: &Option<(u64, u64)>| !wanted.contains(path) || identity(path) != *seen;
        for (path, _) in self.watched.extract_if(.., |path, seen| stale(path, seen)) {
            // The kernel has already forgotten a folder that was removed.
            let _ = self.watcher.unwatch(&path);
        }
        // Those that are watched too: `notify` lets go of a folder that was moved, also if it was moved back.
        for path in wanted {
            let seen = identity(path);
            let started = self.watcher.watch(path, RecursiveMode::NonRecursive);
            started.map_err(|source| WatchError::Folder { folder: path.clone(), source })?;
            self.watched.insert(path.clone(), seen);
        }
        Ok(())
    }
}
