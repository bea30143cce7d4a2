//! `cargo xtask bench`: measurements that anybody can repeat, each beside its peers in the same run.
//!
//! What is measured of the [kernel's programs](kernel) is the kernel's work, so the build is the tests' own; they are compiled for release in
//! every build. The [proxy](proxy) is built for release. The figures of a quiet machine, and what they are held against, are in
//! `docs/benchmarks.md` and `docs/performance.md`.

mod kernel;
mod proxy;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::exec;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    subject: Option<Subject>,
    #[command(flatten)]
    proxy: proxy::Options,
}

#[derive(Subcommand)]
enum Subject {
    /// The kernel programs: a packet, a connection, an admission, caps per source, a SYN flood; some five minutes
    Kernel(kernel::Options),
    /// The proxy beside HAProxy, nginx and Sōzu: upgrades, messages, transfers, memory; some forty minutes, `--quick` some ten
    Proxy(proxy::Options),
}

/// Without a subject it is all of them.
pub fn command(bench: &Bench) -> Result<ExitCode> {
    if !exec::is_root() {
        bail!("the kernel programs need root: run `sudo -E env \"PATH=$PATH\" cargo xtask bench`");
    }
    match &bench.subject {
        Some(Subject::Kernel(options)) => kernel::command(options),
        Some(Subject::Proxy(options)) => proxy::command(options),
        None => {
            let kernel = kernel::command(&kernel::Options::default())?;
            let proxy = proxy::command(&bench.proxy)?;
            Ok(if kernel == ExitCode::SUCCESS { proxy } else { kernel })
        }
    }
}
