//! `cargo xtask package`: the Debian package, by cargo-deb from its metadata in `cli/Cargo.toml`.
//!
//! What the package has beside files of the repository is laid out in `target/package` first: the binary, and what it says of
//! itself (man pages, completions).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::{self, Cache},
    exec,
    setup::{self, Needs},
};

const CARGO_DEB: &str = "3.8.0";

pub fn command() -> Result<ExitCode> {
    setup::ensure(Needs::BUILD)?;
    if !setup::has_modsecurity() {
        bail!(
            "the package has the managed rules of the firewall: install libmodsecurity-dev, for example with `cargo xtask setup`"
        );
    }
    let status = exec::workspace_cargo()
        .args(["build", "--release", "--package", "weir", "--features", "modsecurity"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        return Ok(exec::exit_code(status));
    }
    let package = make(&exec::built("release", "weir")?)?;
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

/// Packs this build of `weir`. Quick on the second call; needs no root.
///
/// # Errors
/// If cargo-deb cannot be installed, or says no.
pub fn make(weir: &Path) -> Result<PathBuf> {
    let cargo_deb = cargo_deb(&Cache::find()?)?;
    // Where `cli/Cargo.toml` has its paths from, whatever the target directory of builds is.
    let stage = exec::workspace().join("target/package");
    cache::remove(&stage)?;
    lay_out(weir, &stage)?;
    let package = stage.join("weir.deb");
    let mut pack = Command::new(cargo_deb);
    pack.current_dir(exec::workspace())
        .args(["--package", "weir", "--no-build", "--no-strip", "--fast", "--output"])
        .arg(&package);
    exec::step("Packing", &mut pack)?;
    if !package.is_file() {
        bail!("cargo-deb made no {}", package.display());
    }
    Ok(package)
}

fn lay_out(weir: &Path, stage: &Path) -> Result<()> {
    let man = stage.join("man");
    fs::create_dir_all(&man).with_context(|| format!("cannot make {}", man.display()))?;
    let binary = stage.join("weir");
    fs::copy(weir, &binary).with_context(|| format!("cannot copy to {}", binary.display()))?;
    // A build for debugging is two thirds of it.
    exec::step("Taking debug information away", Command::new("strip").arg("--strip-debug").arg(&binary))?;
    exec::step("Writing man pages", Command::new(&binary).args(["man", "--dir"]).arg(&man))?;
    for (shell, name) in [("bash", "weir.bash"), ("zsh", "_weir"), ("fish", "weir.fish")] {
        let path = stage.join(name);
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let status = Command::new(&binary).args(["completions", shell]).stdout(file).status();
        if !status.context("cannot start weir")?.success() {
            bail!("weir says no completions for {shell}");
        }
    }
    Ok(())
}

/// cargo-deb of a fixed version, built once and kept in the cache.
fn cargo_deb(cache: &Cache) -> Result<PathBuf> {
    let root = cache.programs().join(format!("cargo-deb-{CARGO_DEB}"));
    let program = root.join("bin/cargo-deb");
    if program.is_file() {
        return Ok(program);
    }
    let _lock = cache.lock()?;
    let mut install = exec::cargo();
    install.args(["install", "--quiet", "--locked", "--debug", "--version", CARGO_DEB, "--root"]).arg(&root);
    exec::step(&format!("Building cargo-deb {CARGO_DEB}, once"), install.arg("cargo-deb"))?;
    Ok(program)
}
