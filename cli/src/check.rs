//! `weir check`: everything that can be known before anything is started.

mod configuration;
mod firewall;
mod paths;
mod ports;
mod report;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use weir_config::Config;

use self::report::{Finding, Group, Report};
use crate::{output, settings::DEFAULT_FILE, text::to_text};

/// Check a configuration and this host, and say what to do about what is wrong.
///
/// Starts nothing and changes nothing. Needs no privileges, but says which ones are missing: run it as the user that will run
/// weir. Without --config and without /etc/weir/weir.toml only the host is checked. The exit code is 1 if anything fails.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Configuration file [default: /etc/weir/weir.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object: `ok`, `config`, `faults` (file, line, column, message, remedy), `findings`.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  weir check --config weir.toml
  weir check --json | jq '.findings[] | select(.ok | not)'";

pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let report = check(args.config.as_deref());
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        to_text(&report.lines(), output::has_colour(io::stdout().is_terminal()))
    };
    output::to_stdout(&text)?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(config: Option<&Path>) -> Report {
    let default = Path::new(DEFAULT_FILE);
    let path = config.or_else(|| default.exists().then_some(default));
    let mut faults = Vec::new();
    let mut findings = Vec::new();
    match path.map(Config::load) {
        None => {}
        Some(Ok(config)) => findings = configuration::check(&config),
        Some(Err(error)) => faults = error.faults,
    }
    findings.extend(weir_agent::check_host().into_iter().map(|finding| Finding {
        group: Group::Host,
        name: finding.name.to_owned(),
        ok: finding.ok,
        found: finding.found,
        remedy: finding.remedy,
    }));
    Report::new(path, faults, findings)
}
