//! `cargo xtask bench proxy`: builds weir and the load for release, sees to the peers, and measures.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    cache::Cache,
    exec,
    setup::{self, Needs, sozu},
};

#[derive(Args)]
pub struct Options {
    /// Peers: haproxy, nginx, sozu. Sōzu is built from crates.io when it is named, which takes minutes; without this option it is measured
    /// if it is there
    #[arg(long, value_delimiter = ',')]
    vs: Vec<String>,
    /// Three short rounds, and no row of 100,000
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains one of these; the page of the documents stays as it is
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Leave the page of the documents as it is
    #[arg(long)]
    no_docs: bool,
}

pub fn command(options: &Options) -> Result<ExitCode> {
    setup::ensure(Needs::SETUP)?;
    let cache = Cache::find()?;
    let (vs, sozu) = peers(options, &cache)?;
    let build = exec::workspace_cargo()
        .args(["build", "--release", "--package", "weir", "--package", "weir-bench", "--bins"])
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        return Ok(exec::exit_code(build));
    }
    let mut bench = Command::new(exec::built("release", "weir-bench")?);
    bench.args(["run", "--vs", &vs.join(","), "--weir"]).arg(exec::built("release", "weir")?);
    if let Some(sozu) = sozu {
        bench.arg("--sozu").arg(sozu);
    }
    bench.args(options.quick.then_some("--quick")).args(options.json.then_some("--json"));
    if !options.rows.is_empty() {
        bench.args(["--rows", &options.rows.join(",")]);
    } else if !options.no_docs {
        bench.arg("--docs").arg(exec::workspace().join("docs"));
    }
    let status = bench.status().context("cannot start the benchmark")?;
    Ok(exec::exit_code(status))
}

/// Who is measured, and where Sōzu is if it is among them.
fn peers(options: &Options, cache: &Cache) -> Result<(Vec<String>, Option<std::path::PathBuf>)> {
    let mut vs = options.vs.clone();
    if vs.is_empty() {
        vs = vec!["haproxy".into(), "nginx".into()];
        match sozu::find(cache) {
            Some(_) => vs.push("sozu".into()),
            None => eprintln!("without Sōzu, which is not there: `--vs haproxy,nginx,sozu` builds it once"),
        }
    }
    let sozu = vs.iter().any(|peer| peer == "sozu").then(|| sozu::ensure(cache)).transpose()?;
    Ok((vs, sozu))
}
