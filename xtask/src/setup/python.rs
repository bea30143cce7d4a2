//! The tests' clients of another language: a Python environment with a few pinned packages, kept in the cache.
//!
//! The environment is made where it stays, as it cannot be moved. A file that is written last says that it is complete.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::apt;
use crate::{
    cache::{self, Cache},
    exec,
};

/// The environment's folder; another name makes a new one.
const NAME: &str = "clients-1";
const PACKAGES: [&str; 6] =
    ["websockets==16.0", "h2==4.3.0", "hpack==4.1.0", "hyperframe==6.1.0", "wsproto==1.2.0", "h11==0.16.0"];

pub fn is_ready(cache: &Cache) -> bool {
    folder(cache).join("complete").is_file() && interpreter(cache).is_file()
}

pub fn interpreter(cache: &Cache) -> PathBuf {
    folder(cache).join("bin/python")
}

/// Packages of the system without which no environment can be made.
pub fn missing_packages() -> Vec<String> {
    if exec::on_path("python3").is_none() {
        return vec!["python3".into(), "python3-venv".into()];
    }
    let mut python = Command::new("python3");
    python.args(["-c", "import ensurepip, venv"]);
    if exec::succeeds(&mut python) || (apt::is_here() && apt::is_installed("python3-venv")) {
        Vec::new()
    } else {
        vec!["python3-venv".into()]
    }
}

pub fn describe(cache: &Cache) -> String {
    format!("Python's websockets, h2 and wsproto for the tests, in {}", folder(cache).display())
}

pub fn install(cache: &Cache) -> Result<()> {
    let folder = folder(cache);
    cache::remove(&folder)?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    exec::step("Making a Python environment for the tests", &mut venv)?;

    let mut pip = Command::new(interpreter(cache));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
        .args(["--no-deps", "--progress-bar", "off"])
        .args(PACKAGES);
    exec::step("Installing Python's WebSocket clients", &mut pip)?;
    fs::write(folder.join("complete"), "").with_context(|| format!("cannot write into {}", folder.display()))
}

fn folder(cache: &Cache) -> PathBuf {
    cache.python().join(NAME)
}
