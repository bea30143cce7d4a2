//! A machine of its own for a test: this host's files under another systemd, in memory, gone when the test ends.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Boots, and runs a script of `tests/machine` as root, with the `files` in its working directory under these names. Needs
/// systemd-nspawn and overlayfs.
///
/// # Panics
/// With all that the script said, if it fails.
pub fn run(script: &str, files: &[(&str, &Path)]) {
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine");
    let folder = tempfile::tempdir().expect("a folder");
    let script_file = machine.join(script);
    for (name, path) in files.iter().copied().chain([(script, &*script_file)]) {
        fs::copy(path, folder.path().join(name))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let mut boot = Command::new("unshare");
    boot.args(["--mount", "--", "bash"]).arg(machine.join("boot.sh")).arg(folder.path()).arg(script);
    let output = boot.stdin(Stdio::null()).output().expect("unshare starts");
    if !output.status.success() {
        let said = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let why = String::from_utf8_lossy(&output.stderr);
        panic!("{script} failed: {why}\nconsole:\n{}\nthe script:\n{}", said("console"), said("log"));
    }
}
