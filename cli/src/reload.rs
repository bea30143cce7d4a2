//! When the configuration is read again: on SIGHUP, and when one of its files changes.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use weir_config::{Config, Watch, watch};

/// Configurations as they come, each valid or with its faults in words. Call it inside of a runtime.
pub fn configurations(
    config: &Config,
    path: &Path,
) -> anyhow::Result<mpsc::Receiver<Result<Config, String>>> {
    let (wake, mut woken) = mpsc::channel::<()>(1);
    let (send, receive) = mpsc::channel(1);
    let on_change = wake.clone();
    // A wake-up that finds one waiting is the same wake-up.
    let watch = watch(config, path, move || {
        let _ = on_change.try_send(());
    });
    let watch =
        watch.inspect_err(|error| tracing::warn!(%error, "files are not watched: reload with SIGHUP")).ok();
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let path = path.to_owned();
    tokio::spawn(async move {
        let _keep: Option<Watch> = watch;
        let _wake = wake;
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                _ = woken.recv() => {}
            }
            let loaded = load(path.clone()).await;
            if send.send(loaded).await.is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

async fn load(path: PathBuf) -> Result<Config, String> {
    tokio::task::spawn_blocking(move || Config::load(&path).map_err(|error| error.to_string()))
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}
