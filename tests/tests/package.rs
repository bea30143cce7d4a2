//! What is installed on a host: the units, and the Debian package on a machine with systemd.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use weir_tests::{host, machine};

/// systemd's own measure of what a service could do to its host, from 0 to 10; times ten.
const MOST_EXPOSED: [(&str, u32); 2] = [("weir-agent.service", 28), ("weir-proxy.service", 19)];

fn systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

fn analyze(arguments: &[&str]) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments);
    command
}

fn passes(command: &mut Command) {
    let output = command.output().expect("systemd-analyze starts");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    assert!(!String::from_utf8_lossy(&said).contains("nknown"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_units_are_sound() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for name in ["weir-agent.service", "weir-proxy.service", "weir.slice"] {
        let unit = fs::read_to_string(systemd().join(name)).expect("a unit");
        // Where the command is on a host that has it installed.
        let unit = unit.replace("/usr/bin/weir", host::weir().to_str().expect("UTF-8"));
        units.push(folder.path().join(name));
        fs::write(units.last().expect("a path"), unit).expect("written");
    }
    passes(analyze(&["verify", "--man=no"]).args(&units));
}

#[test]
fn the_units_give_no_more_than_the_processes_need() {
    for (unit, most) in MOST_EXPOSED {
        let threshold = format!("--threshold={most}");
        passes(analyze(&["security", "--offline=true", &threshold]).arg(systemd().join(unit)));
    }
    let capabilities = |unit: &str| {
        let text = fs::read_to_string(systemd().join(unit)).expect("a unit");
        let line = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        line.expect("a bounding set").to_owned()
    };
    assert_eq!(capabilities("weir-agent.service"), "CAP_BPF CAP_NET_ADMIN");
    assert_eq!(capabilities("weir-proxy.service"), "CAP_NET_BIND_SERVICE");
}

#[test]
fn the_package_is_installed_used_upgraded_removed_and_purged() {
    let package = env::var_os("WEIR_DEB").map(PathBuf::from);
    let package = package.expect("WEIR_DEB names the package, as `cargo xtask test` makes it");
    machine::run("package.sh", &[("weir.deb", &package), ("helper", &host::helper())]);
}
