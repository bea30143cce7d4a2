//! The Autobahn test suite: a Python 2 environment with one pinned package, kept in the cache.
//!
//! The suite's newest release is still Python 2. Debian has none any more, so an interpreter is looked for (`WEIR_PYTHON2`, `PATH`,
//! pyenv's versions) and never installed; only `cargo xtask autobahn` needs it.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cache::{self, Cache},
    exec,
};

const PACKAGE: &str = "autobahntestsuite";
const VERSION: &str = "25.10.1";
/// The last one that runs on Python 2.
const VIRTUALENV: &str = "virtualenv==20.15.1";

/// The suite's program `wstest`, installed if it is not there yet.
///
/// # Errors
/// If there is no Python 2, or its packages cannot be installed.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    let folder = cache.python().join(format!("{PACKAGE}-{VERSION}"));
    let (wstest, complete) = (folder.join("bin/wstest"), folder.join("complete"));
    if complete.is_file() && wstest.is_file() {
        return Ok(wstest);
    }
    let _lock = cache.lock()?;
    let Some(python) = python2(|name| env::var_os(name)) else {
        bail!(
            "the Autobahn test suite ({PACKAGE} {VERSION}) runs on Python 2.7 only, and there is none: install one, for example by \
             `pyenv install 2.7.18`, or name it in WEIR_PYTHON2"
        );
    };
    cache::remove(&folder)?;
    install(&python, &folder)?;
    fs::write(&complete, "").with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(wstest)
}

fn install(python: &Path, folder: &Path) -> Result<()> {
    let maker = folder.with_extension("virtualenv");
    cache::remove(&maker)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VIRTUALENV, "--target"]);
    exec::step("Fetching virtualenv for Python 2", pip.arg(&maker))?;
    let mut virtualenv = Command::new(python);
    virtualenv.env("PYTHONPATH", &maker).args(["-m", "virtualenv", "--quiet"]).arg(folder);
    exec::step("Making a Python 2 environment", &mut virtualenv)?;
    cache::remove(&maker)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("{PACKAGE}=={VERSION}"));
    exec::step(&format!("Installing {PACKAGE} {VERSION}"), &mut pip)
}

/// A Python 2.7 of this machine.
fn python2(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = var("WEIR_PYTHON2").filter(|value| !value.is_empty()) {
        return Some(named.into());
    }
    // pyenv's own stand-in starts only where a version is chosen, so its folders are looked at as well.
    let mut found: Vec<PathBuf> = exec::on_path("python2.7").into_iter().collect();
    let pyenv =
        var("PYENV_ROOT").map(PathBuf::from).or_else(|| Some(Path::new(&var("HOME")?).join(".pyenv")));
    if let Some(versions) = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok()) {
        found.extend(versions.flatten().map(|version| version.path().join("bin/python2.7")));
    }
    found.into_iter().find(|python| {
        python.is_file()
            && exec::succeeds(
                Command::new(python).args(["-c", "import sys; sys.exit(sys.version_info[0] - 2)"]),
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_interpreter_is_taken_before_any_that_is_found() {
        let named = python2(|name| (name == "WEIR_PYTHON2").then(|| "/opt/python2.7".into()));
        assert_eq!(named, Some("/opt/python2.7".into()));
    }

    #[test]
    fn what_does_not_start_as_python_2_is_not_taken() {
        let root = tempfile::tempdir().expect("a folder");
        let bin = root.path().join("versions/2.7.18/bin");
        fs::create_dir_all(&bin).expect("a folder");
        fs::write(bin.join("python2.7"), "no program").expect("written");
        let empty = |name: &str| (name == "PYENV_ROOT").then(|| root.path().into());
        let found = python2(empty);
        assert!(found.is_none_or(|python| !python.starts_with(root.path())), "a text was taken");
    }
}
