//! The tests' peers of another language: a Python environment with pinned packages, kept in the cache. `websockets` and `h2`
//! with `wsproto` are clients, `aiosmtpd` is a mail server (each with what it needs).
//!
//! The environment is made where it stays, as it cannot be moved. A file that is written last says that it is complete.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::apt;
use crate::{
    cache::{self, Cache},
    exec,
};

/// All of them, as nothing else is installed.
const PACKAGES: [&str; 9] = [
    "websockets==16.0",
    "h2==4.3.0",
    "hpack==4.1.0",
    "hyperframe==6.1.0",
    "wsproto==1.2.0",
    "h11==0.16.0",
    "aiosmtpd==1.4.6",
    "atpublic==5.1",
    "attrs==25.3.0",
];
/// The folder's name: another one for other packages.
const FOLDER: &str = "peers-1";

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
    format!("Python's {} for the tests, in {}", PACKAGES.join(", "), folder(cache).display())
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
    exec::step("Installing the tests' packages", &mut pip)?;
    fs::write(folder.join("complete"), "").with_context(|| format!("cannot write into {}", folder.display()))
}

fn folder(cache: &Cache) -> PathBuf {
    cache.python().join(FOLDER)
}
