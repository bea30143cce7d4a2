//! Sōzu, a peer of the proxy's benchmark that Debian does not have: built once from crates.io into the cache.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{cache::Cache, exec};

const VERSION: &str = "2.3.3";

fn folder(cache: &Cache) -> PathBuf {
    cache.programs().join(format!("sozu-{VERSION}"))
}

/// The program, if it was built.
pub fn find(cache: &Cache) -> Option<PathBuf> {
    Some(folder(cache).join("bin/sozu")).filter(|program| program.is_file())
}

/// The program, built if it is not there.
///
/// # Errors
/// If cargo cannot build it.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    if let Some(program) = find(cache) {
        return Ok(program);
    }
    let _lock = cache.lock()?;
    let mut cargo = exec::cargo();
    cargo.args(["install", "sozu", "--locked", "--quiet", "--version", VERSION, "--root"]).arg(folder(cache));
    exec::step("Building Sōzu (some minutes)", &mut cargo).context(
        "leave it out with `--vs haproxy,nginx`, or install what its build misses (it needs `protoc`: Debian's protobuf-compiler)",
    )?;
    find(cache).context("cargo has installed Sōzu, and its program is not there")
}
