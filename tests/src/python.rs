//! Peers of another language: Python with the packages `websockets`, `h2` with `wsproto`, and `aiosmtpd`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::host;

/// As `cargo xtask test` installs it.
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

/// The interpreter: what `WEIR_TEST_PYTHON` names, else one of an environment that is made in cargo's folder.
///
/// # Panics
/// If it can neither be found nor made.
pub fn interpreter() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match env::var_os("WEIR_TEST_PYTHON") {
        Some(named) => PathBuf::from(named),
        None => made(&host::profile_folder().join("weir-test-python")),
    })
}

fn made(folder: &Path) -> PathBuf {
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    if fs::read_to_string(&complete).ok() != Some(PACKAGES.join(" ")) {
        let _ = fs::remove_dir_all(folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-deps"]).args(PACKAGES));
        fs::write(complete, PACKAGES.join(" ")).expect("a file");
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("{command:?} does not start ({error}): install Python, or name one with {PACKAGES:?} in WEIR_TEST_PYTHON")
    });
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed; name a Python with {PACKAGES:?} in WEIR_TEST_PYTHON: {why}"
    );
}
