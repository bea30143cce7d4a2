//! `cargo xtask build`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    exec,
    setup::{self, Needs},
};

pub fn command(release: bool) -> Result<ExitCode> {
    setup::ensure(Needs::BUILD)?;
    let mut cargo = exec::workspace_cargo();
    cargo.arg("build");
    if release {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot start cargo")?;
    Ok(exec::exit_code(status))
}
