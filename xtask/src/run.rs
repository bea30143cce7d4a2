//! `cargo xtask run`: set-up, a release build, then `weir demo` in place of this process, so that Ctrl-C and
//! the exit code are weir's own.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    exec,
    setup::{self, Needs},
};

pub fn command(args: &[OsString]) -> Result<ExitCode> {
    if !exec::is_root() {
        bail!(
            "the demo loads programs into the kernel and needs root: run `sudo -E env \"PATH=$PATH\" cargo xtask run`"
        );
    }
    setup::ensure(Needs::RUN)?;
    let status = exec::workspace_cargo()
        .args(["build", "--release", "--package", "weir"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        return Ok(exec::exit_code(status));
    }
    let weir = exec::built("release", "weir")?;
    let error = Command::new(&weir).arg("demo").args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", weir.display()))
}
