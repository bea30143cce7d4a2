//! When the configuration is read again: on SIGHUP, and when one of its files changes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::spawn_blocking,
};
use weir_config::{Config, Watch, watch};

/// What else a configuration has to stand before it is handed out; the second is the one that was handed out before.
pub type Check = fn(&Config, &Config) -> Result<(), String>;

/// Configurations as they come, each valid or with its faults in words. Call it inside of a runtime.
pub fn configurations(
    config: &Config,
    path: &Path,
    check: Check,
) -> anyhow::Result<mpsc::Receiver<Result<Config, String>>> {
    let (wake, mut woken) = mpsc::channel(1);
    let (send, receive) = mpsc::channel(1);
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let current = config.clone();
    let mut files = Files { path: path.to_owned(), current, sources: Vec::new(), wake, watch: None, check };
    files.follow(config);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = woken.recv() => {}
            }
            let read = spawn_blocking(move || {
                let loaded = files.load();
                (files, loaded)
            });
            let loaded;
            // Only a panic of the loader ends this.
            (files, loaded) = match read.await {
                Ok(done) => done,
                Err(error) => {
                    let _ = send.send(Err(format!("the configuration could not be read: {error}"))).await;
                    return;
                }
            };
            if send.send(loaded).await.is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

/// What is read, and the watch on it.
struct Files {
    path: PathBuf,
    current: Config,
    /// What the watch was made for.
    sources: Vec<PathBuf>,
    wake: mpsc::Sender<()>,
    watch: Option<Watch>,
    check: Check,
}

impl Files {
    /// Reads the configuration; if it names other files than before, those are watched from now on.
    fn load(&mut self) -> Result<Config, String> {
        let mut config = self.read()?;
        if config.sources != self.sources {
            self.follow(&config);
            // What changed between the first reading and the watch went unseen.
            config = self.read()?;
        }
        (self.check)(&config, &self.current)?;
        self.current.clone_from(&config);
        Ok(config)
    }

    fn read(&self) -> Result<Config, String> {
        Config::load(&self.path).map_err(|error| error.to_string())
    }

    fn follow(&mut self, config: &Config) {
        let wake = self.wake.clone();
        let on_change = move || {
            // A wake-up that finds one waiting is the same wake-up.
            let _ = wake.try_send(());
        };
        self.watch = watch(config, &self.path, on_change)
            .inspect_err(|error| tracing::warn!(%error, "files are not watched: reload with SIGHUP"))
            .ok();
        self.sources.clone_from(&config.sources);
    }
}
