//! `weir agent`.

use std::{io::ErrorKind, process::ExitCode};

use anyhow::Context as _;
use weir_agent::{AgentError, Moment};
use weir_config::Config;
use weir_proxy::{CertificateError, RoutesError};

use crate::{
    failure,
    logging::LogArgs,
    manager, output, reload,
    settings::ConfigFile,
    signals::{Stop, Supervised},
};

/// Load or adopt the kernel programs, keep the zone table, export, audit.
///
/// Needs root, or CAP_BPF and CAP_NET_ADMIN. An agent that stops or dies changes nothing for counting and caps: programs and
/// maps are pinned below /sys/fs/bpf/weir/, and the next agent adopts them. SIGHUP or a changed file reloads the
/// configuration, whole or not at all; SIGTERM ends the agent.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AgentArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Detach the kernel programs and remove the maps: counting and caps end.
    #[arg(long)]
    unload: bool,
    /// The instance to unload; default the one that the configuration names.
    #[arg(long, value_name = "NAME", requires = "unload")]
    instance: Option<String>,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    supervised: Supervised,
}

const EXAMPLES: &str = "\
Examples:
  weir agent --config weir.toml
  weir agent --unload --config weir.toml       End the counting of this configuration's instance.
  weir agent --unload --instance edge          The same, without a configuration.";

pub fn run(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    if args.unload {
        return unload(args);
    }
    let config = args.config.load()?;
    args.log.init()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let reload = reload::configurations(&config, args.config.path(), servable)?;
        let mut stop = Stop::listen(args.supervised)?;
        // Whether it is in force yet is for /readyz to say; from here on signals have their meaning.
        args.supervised.say_ready()?;
        weir_agent::run(config, reload, stop.requested(), tell).await.map_err(with_hints)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn tell(moment: Moment) {
    match moment {
        Moment::Serves => manager::serves("the kernel counts"),
        Moment::Lives => manager::lives(),
        Moment::Ends => manager::ends("counting and caps go on in the kernel"),
    }
}

/// A file that the proxy cannot serve changes nothing here either: a reload is all or nothing for both. Files that this
/// process may not read are left to the proxy.
fn servable(config: &Config, current: &Config) -> Result<(), String> {
    match weir_proxy::check_reload(config, current) {
        Err(RoutesError::Certificate { source, .. }) if is_denied(&source) => Ok(()),
        result => result.map_err(|error| failure::describe(&error.into())),
    }
}

fn is_denied(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Read { source, .. } if source.kind() == ErrorKind::PermissionDenied)
}

/// What the host lacks often says more than what the kernel answered.
fn with_hints(error: AgentError) -> anyhow::Error {
    let is_kernel = matches!(error, AgentError::Kernel(_));
    let error = anyhow::Error::from(error);
    let lacks: Vec<_> = weir_agent::check_host().into_iter().filter(|finding| !finding.ok).collect();
    if !is_kernel || lacks.is_empty() {
        return error;
    }
    let hints: String =
        lacks.iter().map(|lack| format!("\n  {}: {}; {}", lack.name, lack.found, lack.remedy)).collect();
    anyhow::anyhow!("{}{hints}", failure::describe(&error))
}

fn unload(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    let instance = match &args.instance {
        Some(instance) => instance.clone(),
        None => args.config.load()?.instance.to_string(),
    };
    output::to_stdout(&if weir_agent::unload(&instance)? {
        format!("instance `{instance}` is unloaded: nothing is counted or capped any more\n")
    } else {
        format!("instance `{instance}` was not loaded\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
