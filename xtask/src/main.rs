//! `cargo xtask`: what a developer of weir types.
//!
//! Every command first makes sure that the machine has what it needs (`setup`), so a fresh clone needs one
//! command only. Nothing of weir is linked here: the commands call cargo and the `weir` binary, which keeps
//! this crate quick to build and able to run before a BPF compiler exists.
#![forbid(unsafe_code)]

mod autobahn;
mod bench;
mod build;
mod cache;
mod exec;
mod fuzz;
mod package;
mod run;
mod setup;
mod test;
mod toolchain;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what weir needs on this machine; quick when nothing is missing
    Setup {
        /// Choose and install the BPF compiler anew, even if there is one
        #[arg(long)]
        again: bool,
    },
    /// Run the Autobahn test suite against an echo server, without weir and through it
    Autobahn(autobahn::Options),
    /// Measure, beside what else there is for the same job (needs root)
    Bench(bench::Bench),
    /// Set up, then build weir
    Build {
        #[arg(long)]
        release: bool,
    },
    /// Run the fuzz targets, each for a time
    Fuzz(fuzz::Options),
    /// Set up, build for release, then make the Debian package
    Package,
    /// Set up, build, then run `weir demo` (needs root)
    Run {
        /// Passed to `weir demo`, for example `--for 30s`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, then run all tests (needs root for those that use the kernel)
    Test {
        /// Leave out the tests that load kernel programs
        #[arg(long)]
        no_kernel: bool,
        /// Run only the tests whose name contains this
        filter: Option<OsString>,
        /// Passed to the test programs, for example `-- --nocapture`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup { again } => setup::command(again),
        Command::Autobahn(options) => autobahn::command(&options),
        Command::Bench(bench) => bench::command(&bench),
        Command::Build { release } => build::command(release),
        Command::Fuzz(options) => fuzz::command(&options),
        Command::Package => package::command(),
        Command::Run { args } => run::command(&args),
        Command::Test { no_kernel, filter, args } => test::command(no_kernel, filter.as_deref(), &args),
    };
    report(done)
}

fn report(done: Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &str) -> Command {
        let words = ["cargo-xtask"].into_iter().chain(words.split(' '));
        Cli::try_parse_from(words).expect("a command").command
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_demos_arguments_pass_through_with_and_without_a_separator() {
        for words in ["run --for 30s", "run -- --for 30s"] {
            let Command::Run { args } = parse(words) else { panic!("{words} is not a run") };
            assert_eq!(args, ["--for", "30s"]);
        }
    }

    #[test]
    fn a_benchmark_has_a_subject_or_is_all_of_them() {
        for words in
            ["bench", "bench --quick", "bench proxy --vs haproxy --rows echo", "bench kernel --smoke"]
        {
            assert!(matches!(parse(words), Command::Bench(_)), "{words}");
        }
        assert!(Cli::try_parse_from(["cargo-xtask", "bench", "--quick", "kernel"]).is_err());
    }

    #[test]
    fn a_test_run_takes_a_filter_and_arguments_for_the_test_programs() {
        let Command::Test { no_kernel, filter, args } = parse("test --no-kernel close -- --nocapture") else {
            panic!("not a test run")
        };
        assert!(no_kernel);
        assert_eq!(filter, Some("close".into()));
        assert_eq!(args, ["--nocapture"]);
    }
}
