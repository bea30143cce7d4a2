//! cargo-fuzz, one pinned release of it, kept in the cache.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{cache::Cache, exec};

const VERSION: &str = "0.13.2";

/// The program, installed if it is not there yet.
///
/// # Errors
/// If there is no C++ compiler, of which libFuzzer is built, or cargo cannot install it.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    if exec::on_path("c++").is_none() {
        bail!(
            "the fuzz targets are linked with libFuzzer, which is C++, and there is no `c++`: install g++ or clang"
        );
    }
    let folder = cache.fuzz().join(VERSION);
    let program = folder.join("bin/cargo-fuzz");
    if !program.is_file() {
        let _lock = cache.lock()?;
        let mut cargo = exec::cargo();
        cargo.args(["install", "cargo-fuzz", "--locked", "--version", VERSION, "--root"]).arg(&folder);
        exec::step(&format!("Installing cargo-fuzz {VERSION}"), &mut cargo)?;
    }
    Ok(program)
}
