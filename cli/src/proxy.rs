//! `weir proxy`.

use std::process::ExitCode;

use anyhow::Context as _;
use weir_config::Config;
use weir_proxy::Bound;

use crate::{
    logging::LogArgs,
    manager::{self, Pulse},
    reload,
    settings::ConfigFile,
    signals::{Stop, Supervised},
};

/// Serve WebSockets and plain requests, and have the kernel count them.
///
/// Started as root it binds its ports, reads certificates and keys, and becomes `proxy.user` for good; it needs no capability
/// but to bind ports below 1024. With `accounting = "required"` (the default) it does not start unless a weir agent has
/// loaded its programs on this host. SIGHUP or a changed file reloads zones and certificates without touching a
/// connection; SIGTERM stops accepting, waits up to `proxy.drain_timeout` for live connections, closes what is left over
/// `proxy.close_spread`, and ends. With `proxy.takeover`, starting another one does the same, once that one serves from the
/// same listening sockets.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ProxyArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    supervised: Supervised,
}

const EXAMPLES: &str = "\
Examples:
  weir proxy --config weir.toml
  RUST_LOG=info,weir_proxy=debug weir proxy --config weir.toml --log-format json";

pub fn run(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    args.log.init()?;
    let bound = weir_proxy::bind(&config)?;
    // Before the runtime has threads.
    weir_proxy::drop_privileges(&config.proxy.user)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("weir-proxy")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(bound, &config, args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(bound: Bound, config: &Config, args: &ProxyArgs) -> anyhow::Result<()> {
    let mut reloads = reload::configurations(config, args.config.path(), |_, _| Ok(()))?;
    let mut stop = Stop::listen(args.supervised)?;
    let running = bound.start()?;
    args.supervised.say_ready()?;
    manager::serves("serving");
    let (mut reloading, mut pulse) = (true, Pulse::new());
    loop {
        tokio::select! {
            () = stop.requested() => break,
            () = running.replaced() => break,
            () = pulse.beat() => {}
            loaded = reloads.recv(), if reloading => match loaded {
                Some(Ok(config)) => if let Err(error) = running.reload(config).await {
                    tracing::error!("configuration not reloaded, nothing changed: {error}");
                },
                Some(Err(faults)) => {
                    running.reload_failed();
                    tracing::error!("configuration not reloaded, nothing changed:\n{faults}");
                }
                None => reloading = false,
            },
        }
    }
    manager::ends("draining: live tunnels may go on until proxy.drain_timeout");
    // A second request does not wait for live connections any more.
    tokio::select! {
        _ = pulse.during(running.drain()) => {}
        () = stop.requested() => tracing::warn!("asked again: live connections are cut off"),
    }
    Ok(())
}
