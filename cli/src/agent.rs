//! `weir agent`.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use weir_config::Config;

use crate::reload;

#[derive(clap::Args)]
pub struct Args {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    config: PathBuf,
    /// Detach the kernel programs and remove the maps: counting and caps end.
    #[arg(long)]
    unload: bool,
    /// The instance to unload, if there is no configuration to take it from.
    #[arg(long, value_name = "NAME", requires = "unload")]
    instance: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.unload {
        return unload(args);
    }
    let config = Config::load(&args.config)?;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let reload = reload::configurations(&config, &args.config)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        weir_agent::run(config, reload, shutdown).await?;
        anyhow::Ok(())
    })
}

fn unload(args: &Args) -> anyhow::Result<()> {
    let instance = match &args.instance {
        Some(instance) => instance.clone(),
        None => Config::load(&args.config)?.instance.to_string(),
    };
    if weir_agent::unload(&instance)? {
        println!("instance `{instance}` is unloaded: nothing is counted or capped any more");
    } else {
        println!("instance `{instance}` was not loaded");
    }
    Ok(())
}
