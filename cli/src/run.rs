//! `weir run`.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    failure,
    logging::LogArgs,
    manager::{self, Pulse},
    settings::ConfigFile,
    signals::Stop,
    supervisor::{Launch, Pair},
};

/// Agent and proxy on this host, as two processes of one command.
///
/// Starts `weir agent`, waits until the kernel counts, and starts `weir proxy`. SIGHUP is passed on to both; SIGTERM or
/// Ctrl-C ends the proxy, which drains, then the agent; a second one does not wait. If either dies, the other is
/// ended too and the exit code is 1. Counting and caps go on in the kernel until `weir agent --unload`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "\
Examples:
  weir run --config weir.toml
  kill -HUP $(pgrep -f 'weir run')       Read the configuration again.";

pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Its faults are told here, once, rather than by two children.
    let config = args.config.load()?;
    args.log.init()?;
    let launch = Launch {
        config: args.config.path().to_owned(),
        admin: config.agent.admin,
        log: args.log,
        log_folder: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(supervise(&launch))?;
    Ok(ExitCode::SUCCESS)
}

async fn supervise(launch: &Launch) -> anyhow::Result<()> {
    let mut stop = Stop::listen_alone()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let (mut pair, mut pulse) = (Pair::default(), Pulse::new());
    let started = tokio::select! {
        started = pair.start(launch) => started.map(|()| true),
        () = stop.requested() => Ok(false),
    };
    if matches!(started, Ok(true)) {
        manager::serves("agent and proxy serve");
    }
    let outcome = match started {
        Ok(true) => loop {
            // A SIGHUP that came before has waited until now: a child that is not ready would die of it.
            tokio::select! {
                () = stop.requested() => break Ok(()),
                _ = hangup.recv() => pair.reload(),
                () = pulse.beat() => {}
                error = pair.failure() => {
                    // Draining may take a while: the reason first.
                    tracing::error!("{}: the other one is ended", failure::describe(&error));
                    break Err(error);
                }
            }
        },
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    manager::ends("draining: live tunnels may go on until proxy.drain_timeout");
    let stopped = pulse.during(pair.stop(&mut stop)).await;
    match outcome {
        Ok(()) => stopped,
        Err(error) => {
            if let Err(also) = stopped {
                tracing::warn!("{}", failure::describe(&also));
            }
            Err(error)
        }
    }
}
