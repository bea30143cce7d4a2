//! The rooms of the house depend on each other only as CONTRIBUTING.md says. Cargo forbids circles; the rest is
//! forbidden here.

use std::{collections::BTreeMap, env, process::Command};

use serde_json::Value;

/// Which of our crates each of our crates may depend on, in any kind of dependency.
const ARROWS: &[(&str, &[&str])] = &[
    ("weir-admin", &[]),
    ("weir-bench", &[]),
    ("weir-common", &[]),
    ("weir-config", &[]),
    ("xtask", &[]),
    ("weir-ebpf", &["weir-common"]),
    ("weir-reachout", &["weir-config"]),
    ("weir-proxy", &["weir-admin", "weir-common", "weir-config"]),
    ("weir-notices", &["weir-config", "weir-reachout"]),
    ("weir-agent", &["weir-admin", "weir-common", "weir-config", "weir-notices", "weir-reachout"]),
    ("weir", &["weir-agent", "weir-config", "weir-proxy", "weir-reachout"]),
    (
        "weir-tests",
        &["weir-agent", "weir-common", "weir-config", "weir-notices", "weir-proxy", "weir-reachout"],
    ),
];

/// What may not be found below a crate, however far down.
const NEVER_BELOW: &[(&str, &[&str])] = &[
    ("weir-proxy", &["aya", "aya-obj", "weir-agent"]),
    ("weir-reachout", &["tokio", "aya", "socket2"]),
    ("weir-common", &["aya", "libc", "nix", "serde"]),
];

#[test]
fn every_room_depends_only_on_those_it_may() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let rooms = rooms();
    let named: Vec<_> = rooms.keys().map(String::as_str).collect();
    let known: Vec<_> = allowed.keys().copied().collect();
    assert_eq!(named, known, "every room has a line in the table");

    for (room, dependencies) in &rooms {
        for dependency in dependencies {
            assert!(
                allowed[room.as_str()].contains(&dependency.as_str()),
                "{room} depends on {dependency}, which the table does not allow"
            );
        }
    }
}

#[test]
fn what_a_room_must_not_see_is_nowhere_below_it() {
    for (room, forbidden) in NEVER_BELOW {
        let below = below(room);
        assert_eq!(below.first().map(String::as_str), Some(*room));
        for name in *forbidden {
            assert!(
                !below.iter().any(|found| found == name),
                "{name} is below {room}: see `cargo tree -p {room} -e normal -i {name}`"
            );
        }
    }
}

/// Our crates, and which of our crates each names in its manifest.
fn rooms() -> BTreeMap<String, Vec<String>> {
    let text = cargo(&["metadata", "--format-version=1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata is JSON");
    let packages = list(&metadata["packages"]);
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    packages
        .iter()
        .map(|package| {
            let ours = list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["path"].is_string())
                .map(name)
                .collect();
            (name(package), ours)
        })
        .collect()
}

/// A crate and everything that it is built from, build scripts and tests left out.
fn below(room: &str) -> Vec<String> {
    let tree = ["tree", "--locked", "--prefix=none", "--format={p}"];
    let text = cargo(&[&tree[..], &["--edges=normal", "--package", room]].concat());
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn cargo(args: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {said}");
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}
