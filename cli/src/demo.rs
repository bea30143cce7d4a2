//! `weir demo`: the whole of weir on the loopback address, with origins and clients, for whoever wants to see it first.
//!
//! Nothing in it is played: agent and proxy are the processes that `weir run` starts, the clients are WebSockets, and every
//! number on the screen comes from the kernel. The clients keep books of their own, and the end compares the two.

mod client;
mod crowd;
mod house;
mod kernel;
mod origin;
mod performance;
mod picture;
mod scenario;
mod screen;
mod show;
mod story;
mod verdict;

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures_util::FutureExt as _;
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::geteuid,
};
use weir_agent::KernelError;
use weir_config::Config;

use self::{
    house::{House, INSTANCE, Ports, Wishes},
    origin::Origin,
    performance::Performance,
    scenario::ROLES,
};
use crate::{
    failure, neighbours, output,
    signals::Stop,
    supervisor::{Pair, Role},
};

/// See weir at work: agent, proxy, origins and clients on the loopback address, and what the kernel counts.
///
/// Twelve zones on three plans: most are quiet, one has an occasional spike, one keeps spiking, one hits its abuse cap. On a
/// terminal a live table, otherwise lines. Ctrl-C ends it: the clients hold still, the kernel's numbers are compared with
/// their own, and nothing stays behind. The exit code is 1 if any number differs or a client fails. Needs root, as the agent loads
/// programs into the kernel.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// End by itself after this time, for example 30s.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Port for ws [default: 18080, or a free one].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http: Option<u16>,
    /// Port for wss [default: 18443, or a free one].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    https: Option<u16>,
    /// Port for the agent's metrics and API [default: 19464, or a free one].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    admin: Option<u16>,
    /// Port for the proxy's metrics [default: 19465, or a free one].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    proxy_admin: Option<u16>,
    /// Write lines also on a terminal.
    #[arg(long)]
    plain: bool,
}

const EXAMPLES: &str = "\
Examples:
  sudo weir demo
  sudo weir demo --for 30s --plain";

pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    if !geteuid().is_root() {
        bail!("the demo loads programs into the kernel, which only root may do: run `sudo weir demo`");
    }
    if let Some(lack) = weir_agent::check_host().into_iter().find(|finding| !finding.ok) {
        bail!("{}: {}; {} (`weir check` lists everything)", lack.name, lack.found, lack.remedy);
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(perform(args))
}

/// A client and its origin take a descriptor each, a thousand clients are more than the usual limit.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it fails, clients will say what is missing.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

async fn perform(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen_at_a_terminal()?;
    // What a demo left that was killed. One that runs holds the instance.
    match weir_agent::unload(INSTANCE) {
        Err(KernelError::Running { .. }) => bail!("another demo is running on this host: end it first"),
        unloaded => drop(unloaded.context("what an earlier demo left cannot be removed")?),
    }
    let wishes =
        Wishes { http: args.http, https: args.https, admin: args.admin, proxy_admin: args.proxy_admin };
    let ports = Ports::choose(wishes, |what| output::to_stderr(&format!("weir: {what}\n")))?;
    let mut origins = Vec::new();
    for _ in &ROLES {
        origins.push(Origin::start().await?);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let house = House::build(ports, &addresses)?;
    nobody_counts_yet(&house)?;

    let mut pair = Pair::default();
    let performance =
        Performance { house: &house, origins: &origins, total: args.duration, plain: args.plain };
    let played = AssertUnwindSafe(performance.play(&mut pair, &mut stop)).catch_unwind().await;
    // However it went, from here on nothing may stay behind.
    let stopped = pair.stop(&mut stop).await;
    let unloaded = weir_agent::unload(INSTANCE);
    let played = played.unwrap_or_else(|panic| resume_unwind(panic));
    let code = played.map_err(|error| with_logs(&error, &house))?;
    stopped.map_err(|error| with_logs(&error, &house))?;
    unloaded.context("the demo's programs could not be removed")?;
    Ok(code)
}

/// Whoever counts here for a purpose is left alone.
fn nobody_counts_yet(house: &House) -> anyhow::Result<()> {
    if !neighbours::is_counted(&Config::load(&house.config())?)? {
        return Ok(());
    }
    bail!(
        "an instance of weir counts here already ({}), and two would disturb each other: give the demo a network of its own \
         (`unshare --net sh -c 'ip link set lo up; weir demo'`), or end the other (`weir agent --unload --instance NAME`)",
        neighbours::loaded()?.join(", ")
    )
}

/// What the children logged last says why.
fn with_logs(error: &anyhow::Error, house: &House) -> anyhow::Error {
    const LINES: usize = 8;
    let mut text = failure::describe(error);
    for role in [Role::Agent, Role::Proxy] {
        let log = house.log(role);
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        if !last.is_empty() {
            text.push_str(&format!("\nlast lines of {role}:\n  {}", last.join("\n  ")));
        }
    }
    anyhow::Error::msg(text)
}
