//! `cargo xtask autobahn`: the Autobahn test suite against one echo server, without weir and through it.
//!
//! What counts is the comparison: weir looks at no frame, so each verdict through it has to be the echo server's own. The proxy
//! runs with `accounting = "optional"`, which needs neither root nor an agent; the books are other tests' matter. The suite's
//! own pages are left in `target/autobahn/reports/index.html`.

mod stage;
mod verdicts;

use std::{
    fs,
    io::{BufReader, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{stage::Stage, verdicts::Verdicts};
use crate::{
    cache::Cache,
    exec,
    setup::{self, Needs, autobahn},
};

/// A case whose verdict differs is asked again this often: a few hang on the clock.
const RETRIES: usize = 2;

#[derive(Args)]
pub struct Options {
    /// Cases of the suite, for example `1.*,7.1.*`; without it all but the slow ones of compression
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// All cases, those of compression too (12.* and 13.*: some 20 minutes more)
    #[arg(long, conflicts_with = "cases")]
    all: bool,
}

impl Options {
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let all = || vec!["*".to_owned()];
        match (&self.cases[..], self.all) {
            ([], true) => (all(), Vec::new()),
            ([], false) => (all(), vec!["12.*".into(), "13.*".into()]),
            (cases, _) => (cases.to_vec(), Vec::new()),
        }
    }
}

pub fn command(options: &Options) -> Result<ExitCode> {
    let cache = Cache::find()?;
    let python = setup::ensure(Needs::PEERS)?.python.context("set-up left no Python")?;
    let wstest = autobahn::ensure(&cache)?;
    let status = exec::workspace_cargo().args(["build", "--package", "weir"]).status();
    let status = status.context("cannot start cargo")?;
    if !status.success() {
        return Ok(exec::exit_code(status));
    }

    let stage = Stage::set(&exec::built("debug", "weir")?, &python)?;
    let (cases, without) = options.cases();
    let mut verdicts = judge(&wstest, &stage, &cases, &without)?;
    for _ in 0..RETRIES {
        let differing = verdicts.differing();
        if differing.is_empty() {
            break;
        }
        eprintln!("asked again, as verdicts differ: {}", differing.join(", "));
        verdicts.replace(judge(&wstest, &stage, &differing, &[])?);
    }
    print!("{verdicts}");
    println!("the suite's own pages: {}", stage.reports().join("index.html").display());
    if verdicts.is_empty() {
        bail!("no case of the suite was run: is there one that matches?");
    }
    Ok(if verdicts.differing().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the suite's cases against all ways to the echo server.
fn judge(wstest: &Path, stage: &Stage, cases: &[String], without: &[String]) -> Result<Verdicts> {
    let servers: Vec<_> = stage
        .ways()
        .into_iter()
        .map(|(agent, url)| serde_json::json!({ "agent": agent, "url": url }))
        .collect();
    let ways = servers.len();
    let spec = serde_json::json!({
        "outdir": stage.reports(), "servers": servers, "cases": cases, "exclude-cases": without, "exclude-agent-cases": {},
    });
    let file = stage.folder().join("spec.json");
    fs::write(&file, spec.to_string()).with_context(|| format!("cannot write {}", file.display()))?;

    let mut suite = Command::new(wstest);
    suite.args(["--mode", "fuzzingclient", "--spec"]).arg(&file).current_dir(stage.folder());
    let mut child = suite.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let child =
        child.as_mut().map_err(|error| anyhow::anyhow!("cannot start {}: {error}", wstest.display()))?;
    if let Some(output) = child.stdout.take() {
        progress(BufReader::new(output), ways);
    }
    let status = child.wait().context("lost the test suite")?;
    if !status.success() {
        bail!("the test suite failed ({status}); the proxy's log is {}", stage.log().display());
    }
    Verdicts::read(&stage.reports().join("index.json"))
}

/// Shows where the suite is. It runs all cases of one way, then those of the next.
fn progress(output: impl std::io::BufRead, ways: usize) {
    let terminal = std::io::stderr().is_terminal();
    let (mut way, mut agent) = (0, String::new());
    for line in output.lines().map_while(Result::ok) {
        let Some((case, now)) = running(&line) else { continue };
        if now != agent {
            way += 1;
            agent = now.to_owned();
            eprintln!("{}{agent} ({way} of {ways})", if terminal { "\r\x1b[K" } else { "" });
        }
        if terminal {
            eprint!("\r\x1b[K    case {case}");
            let _ = std::io::stderr().flush();
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
}

/// The case and the agent of a line like `Running test case ID 1.1.1 for agent direct from peer tcp4:...`.
fn running(line: &str) -> Option<(&str, &str)> {
    let (case, rest) = line.strip_prefix("Running test case ID ")?.split_once(" for agent ")?;
    Some((case, rest.split_once(" from peer ")?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_lines_are_understood() {
        let line = "Running test case ID 9.8.5 for agent weir wss from peer tcp4:127.0.0.1:19001";
        assert_eq!(running(line), Some(("9.8.5", "weir wss")));
        assert_eq!(running("Ok, will run 301 test cases for any servers connecting"), None);
    }

    #[test]
    fn the_way_without_weir_is_the_measure() {
        let ways = stage::ways(1, 2, 3);
        assert_eq!(ways[0].0, verdicts::DIRECT);
        assert_eq!(ways.len(), 3);
    }
}
