//! `cargo xtask test`: everything that can be tested on this machine, through plain `cargo test`.
//!
//! The kernel's tests are the crate `weir-tests`. They start the real `weir`, whose path they get in `WEIR_BIN`, and
//! a WebSocket client of another language by the Python in `WEIR_TEST_PYTHON`, and install the package in `WEIR_DEB`. `--no-kernel` leaves that crate out
//! and says so in the last line, so that a shorter run is not taken for a full one.
//!
//! Everything is built with the managed rules of the firewall, which need libmodsecurity; what is without them is linted only.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    exec, package,
    setup::{self, Needs},
};

/// All but the kernel's own crate, which has no tests on the host.
const SELECTION: [&str; 3] = ["--workspace", "--exclude", "weir-ebpf"];
/// The managed rules, in the library and in the `weir` that the tests start.
const MODSECURITY: [&str; 2] = ["--features", "weir/modsecurity,weir-proxy/modsecurity"];

pub fn command(no_kernel: bool, filter: Option<&OsStr>, args: &[OsString]) -> Result<ExitCode> {
    if no_kernel {
        setup::ensure(Needs::BUILD)?;
        let mut without = vec!["--exclude", "weir-tests"];
        if setup::has_modsecurity() {
            without.extend(MODSECURITY);
        }
        let mut cargo = cargo_test(filter, args, &without);
        let status = cargo.status().context("cannot start cargo")?;
        if !setup::has_modsecurity() {
            println!(
                "The tests of managed rules were not run: there is no libmodsecurity, or no OWASP Core Rule Set."
            );
        }
        println!("The kernel tests (crate weir-tests) were not run: --no-kernel.");
        return Ok(exec::exit_code(status));
    }

    if !exec::is_root() {
        bail!(
            "the kernel tests need root: run `sudo -E env \"PATH=$PATH\" cargo xtask test`, or the rest with `cargo xtask test --no-kernel`"
        );
    }
    let ready = setup::ensure(Needs::TEST)?;
    let python = ready.python.context("set-up left no Python for the tests")?;

    // The same selection and kinds as `cargo test` builds: each crate is then compiled once, not once per
    // set of features, and the `weir` that the tests start is of this very source.
    let status = exec::workspace_cargo()
        .arg("build")
        .args(SELECTION)
        .args(MODSECURITY)
        .args(["--bins", "--tests"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        return Ok(exec::exit_code(status));
    }
    let weir = exec::built("debug", "weir")?;
    let status = cargo_test(filter, args, &MODSECURITY)
        .env("WEIR_DEB", package::make(&weir)?)
        .env("WEIR_BIN", weir)
        .env("WEIR_TEST_PYTHON", python)
        .status()
        .context("cannot start cargo")?;
    Ok(exec::exit_code(status))
}

/// `options` are cargo's own.
fn cargo_test(filter: Option<&OsStr>, args: &[OsString], options: &[&str]) -> Command {
    let mut cargo = exec::workspace_cargo();
    cargo.args(["test", "--no-fail-fast"]).args(SELECTION).args(options).args(filter);
    if !args.is_empty() {
        cargo.arg("--").args(args);
    }
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_and_the_test_programs_arguments_reach_cargo() {
        let cargo =
            cargo_test(Some("half_close".as_ref()), &["--nocapture".into()], &["--exclude", "weir-tests"]);
        let line = exec::command_line(&cargo);
        assert!(line.ends_with("--exclude weir-tests half_close -- --nocapture"), "{line}");
    }
}
