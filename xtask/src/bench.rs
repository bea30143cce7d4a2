//! `cargo xtask bench`: measurements that anybody can repeat, each beside its peer in the same run.
//!
//! What is measured is the kernel's work, so the build is the tests' own; the kernel programs are compiled for release in every build. The
//! figures of a quiet machine, and what they are held against, are in `docs/benchmarks.md`.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::{
    exec,
    setup::{self, Needs},
};

#[derive(Subcommand)]
pub enum Subject {
    /// The kernel programs: a packet, a connection, an admission, caps per source, a SYN flood; some five minutes
    Kernel {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Only this part: packets, connections, peers, exactness or flood
        #[arg(long)]
        only: Option<String>,
        /// Sizes that say nothing, to see that it runs
        #[arg(long)]
        smoke: bool,
    },
}

pub fn command(subject: &Subject) -> Result<ExitCode> {
    let Subject::Kernel { json, only, smoke } = subject;
    if !exec::is_root() {
        bail!("the kernel programs need root: run `sudo -E env \"PATH=$PATH\" cargo xtask bench kernel`");
    }
    setup::ensure(Needs::SETUP)?;
    let build = exec::workspace_cargo()
        .args(["build", "--workspace", "--exclude", "weir-ebpf", "--bins"])
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        return Ok(exec::exit_code(build));
    }
    let mut bench = std::process::Command::new(exec::built("debug", "weir-kernel-bench")?);
    bench.arg("run").env("WEIR_BIN", exec::built("debug", "weir")?);
    bench.args(json.then_some("--json")).args(smoke.then_some("--smoke"));
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    let status = bench.status().context("cannot start the benchmark")?;
    Ok(exec::exit_code(status))
}
