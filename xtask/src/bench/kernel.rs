//! `cargo xtask bench kernel`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    exec,
    setup::{self, Needs},
};

#[derive(Args, Default)]
pub struct Options {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Only this part: packets, connections, peers, exactness or flood
    #[arg(long)]
    only: Option<String>,
    /// Sizes that say nothing, to see that it runs
    #[arg(long)]
    smoke: bool,
}

pub fn command(options: &Options) -> Result<ExitCode> {
    let Options { json, only, smoke } = options;
    setup::ensure(Needs::SETUP)?;
    let build = exec::workspace_cargo()
        .args(["build", "--workspace", "--exclude", "weir-ebpf", "--bins"])
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        return Ok(exec::exit_code(build));
    }
    let mut bench = Command::new(exec::built("debug", "weir-kernel-bench")?);
    bench.arg("run").env("WEIR_BIN", exec::built("debug", "weir")?);
    bench.args(json.then_some("--json")).args(smoke.then_some("--smoke"));
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    let status = bench.status().context("cannot start the benchmark")?;
    Ok(exec::exit_code(status))
}
