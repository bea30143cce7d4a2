//! The alerting rules, by Prometheus' own tool: each is well-formed, fires for what it is about, has a runbook, and asks for
//! metrics that are documented.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(root().join("deploy/prometheus"))
        .output()
        .expect("promtool, which `cargo xtask setup` installs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

/// The names of the alerts.
fn alerts(text: &str, key: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let (_, rest) = line.split_once(key)?;
        Some(rest.split([',', ' ']).next()?.to_owned())
    };
    text.lines().filter_map(name).collect()
}

#[test]
fn rules_are_what_prometheus_takes() {
    promtool(&["check", "rules", "weir.rules.yml"]);
}

#[test]
fn every_alert_fires_for_what_it_is_about() {
    promtool(&["test", "rules", "weir.rules.test.yml"]);
    let tested = alerts(&read("deploy/prometheus/weir.rules.test.yml"), "alertname: ");
    assert_eq!(tested, alerts(&read("deploy/prometheus/weir.rules.yml"), "alert: "));
}

#[test]
fn every_alert_has_a_runbook() {
    let runbooks = alerts(&read("docs/runbooks.md"), "## ");
    assert_eq!(runbooks, alerts(&read("deploy/prometheus/weir.rules.yml"), "alert: "));
}

#[test]
fn rules_ask_for_metrics_that_there_are() {
    let (rules, documented) = (read("deploy/prometheus/weir.rules.yml"), read("docs/metrics.md"));
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut asked = 0;
    for word in expressions.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')) {
        if word.starts_with("weir_") {
            asked += 1;
            assert!(documented.contains(&format!("`{word}`")), "docs/metrics.md has no {word}");
        }
    }
    assert!(asked >= 10);
}
