//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, one after the other, for a time each.
//!
//! cargo-fuzz wants a nightly for the sanitizer and the instrumentation; `RUSTC_BOOTSTRAP=1` lets the stable compiler that builds
//! weir do it, so there is no second toolchain. Seeds are in `fuzz/seeds`, kept with the sources; what a run finds to be new ways
//! through the code goes to `fuzz/corpus`, and what breaks a target to `fuzz/artifacts`, which are this machine's. An input that
//! broke one belongs into the seeds, together with the fix: ordinary tests run over them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{cache::Cache, exec, setup::fuzz};

#[derive(Args)]
pub struct Options {
    /// How long each target runs: seconds, or with a unit, for example `5m`
    #[arg(long = "for", default_value = "60s", value_parser = seconds)]
    time: u64,
    /// Build all of them, and run none
    #[arg(long, conflicts_with = "time")]
    build: bool,
    /// These targets; without one all of them
    targets: Vec<String>,
}

fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let each = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let all = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
    // To libFuzzer 0 is for ever.
    all.filter(|all| *all > 0).ok_or_else(|| format!("{text:?} is no time: write for example `90s` or `5m`"))
}

pub fn command(options: &Options) -> Result<ExitCode> {
    let folder = exec::workspace().join("fuzz");
    let targets = chosen(&folder, &options.targets)?;
    let cargo_fuzz = fuzz::ensure(&Cache::find()?)?;
    let mut build = call(&cargo_fuzz, "build", &folder);
    if !build.status().context("cannot start cargo-fuzz")?.success() {
        bail!("the fuzz targets do not build");
    }
    if options.build {
        return Ok(ExitCode::SUCCESS);
    }
    let mut broken = Vec::new();
    for target in &targets {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        println!("{target}: {} s", options.time);
        let mut run = call(&cargo_fuzz, "run", &folder);
        run.arg(target).arg(&corpus).arg(folder.join("seeds").join(target)).arg("--");
        run.arg(format!("-max_total_time={}", options.time)).args(["-timeout=10", "-print_final_stats=1"]);
        if !run.status().context("cannot start cargo-fuzz")?.success() {
            broken.push(target.as_str());
        }
    }
    if broken.is_empty() {
        println!("{} fuzz targets: nothing found", targets.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("broken: {}; the inputs are in {}", broken.join(", "), folder.join("artifacts").display());
    Ok(ExitCode::FAILURE)
}

/// One of cargo-fuzz's commands.
fn call(cargo_fuzz: &Path, command: &str, folder: &Path) -> Command {
    let mut call = Command::new(cargo_fuzz);
    call.arg(command).arg("--dev").arg("--fuzz-dir").arg(folder).current_dir(folder);
    call.env("RUSTC_BOOTSTRAP", "1");
    call
}

/// The targets there are, which are the programs of `fuzz/`, or those that are asked for.
fn chosen(folder: &Path, asked: &[String]) -> Result<Vec<String>> {
    let sources = folder.join("fuzz_targets");
    let files = fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))?;
    let names = files
        .flatten()
        .map(|file| file.path())
        .filter_map(|path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    let mut all: Vec<_> = names.collect();
    all.sort();
    if asked.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = asked.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown:?}; there are {}", all.join(", "));
    }
    Ok(asked.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, expected) in [("60", Some(60)), ("90s", Some(90)), ("5m", Some(300)), ("2h", Some(7200))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["", "0", "0m", "m", "-1", "5 m", "1d", "99999999999999999999h"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_that_there_is_not_is_named_with_those_there_are() {
        let folder = exec::workspace().join("fuzz");
        let all = chosen(&folder, &[]).expect("targets");
        assert!(all.contains(&"http1".to_owned()), "{all:?}");
        for target in &all {
            let seeds = folder.join("seeds").join(target);
            assert!(
                fs::read_dir(&seeds).is_ok_and(|mut files| files.next().is_some()),
                "{} is empty",
                seeds.display()
            );
        }
        let error = chosen(&folder, &["http9".into()]).expect_err("unknown").to_string();
        assert!(error.contains("http9") && error.contains("http1"), "{error}");
    }
}
