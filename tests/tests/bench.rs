//! The benchmarks of the kernel programs and of the proxy, with sizes that say nothing: every part of them runs and gives its figures.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use weir_tests::host;

#[test]
fn the_benchmark_of_the_kernel_programs_measures_every_row() {
    let output = Command::new(host::profile_folder().join("weir-kernel-bench"))
        .args(["run", "--smoke", "--json"])
        .env("WEIR_BIN", host::weir())
        .output()
        .expect("the benchmark starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let parts: BTreeSet<_> = rows.iter().filter_map(|row| row["part"].as_str()).collect();
    assert_eq!(parts.len(), 5, "packets, connections, a cap's cost, its exactness, a flood: {parts:?}");
    let value = |what: &str| {
        let row = rows.iter().find(|row| row["what"].as_str().is_some_and(|text| text.contains(what)));
        row.and_then(|row| row["median"].as_f64()).unwrap_or_else(|| panic!("no row says {what:?}: {said}"))
    };
    for row in rows {
        assert!(row["median"].as_f64().is_some_and(f64::is_finite), "{row}");
    }
    // What does not hang on the machine's speed.
    assert_eq!(value("live WebSockets from here on"), 50.0);
    assert!(value("no flood, weir") > 0.0);
}

#[test]
fn the_benchmark_of_the_proxy_measures_every_row_of_every_contender() {
    let output = Command::new(host::profile_folder().join("weir-bench"))
        .args(["run", "--smoke", "--json", "--weir"])
        .arg(host::weir())
        .output()
        .expect("the benchmark starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    let mut measured: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for row in rows {
        assert!(row["median"].as_f64().is_some_and(f64::is_finite), "{row}");
        let text = |key: &str| row[key].as_str().expect("a text").to_owned();
        measured.entry(text("row")).or_default().insert(text("contender"));
    }
    let contenders = ["direct", "haproxy", "nginx", "weir", "weir, not counting"].map(str::to_owned);
    for (row, by) in &measured {
        assert_eq!(*by, BTreeSet::from(contenders.clone()), "{row}");
    }
    for kind in [
        "upgrade ws",
        "upgrade wss,",
        "resumed",
        "echo",
        "bulk",
        "idle",
        "churn",
        "latency",
        "against a bulk",
    ] {
        assert!(measured.keys().any(|row| row.contains(kind)), "no row of {kind}: {said}");
    }
    let cpu =
        |row: &Value| row["figure"] == "cpu_micros" && row["median"].as_f64().is_some_and(|us| us > 0.0);
    assert!(rows.iter().filter(|row| row["contender"] == "weir" && cpu(row)).count() > 10, "CPU is measured");
}
