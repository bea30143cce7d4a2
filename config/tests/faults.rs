//! Every fault of a configuration: where it is said to be, in which words, and with which remedy.

use std::path::Path;

use weir_config::{Config, ConfigError, Fault};

/// A valid configuration, but for what a case puts in place of one of its lines.
const GOOD: &str = r#"[proxy]
http = ["0.0.0.0:8080"]

[plans.free]
guideline = 500

[plans.business]
guideline = 100000

[[zones]]
name = "a.example"
plan = "free"
origin = "ws://127.0.0.1:9001"
"#;

fn faults(toml: &str) -> Vec<Fault> {
    match Config::parse(toml, Path::new("/etc/weir")) {
        Ok(_) => Vec::new(),
        Err(ConfigError { faults }) => faults,
    }
}

/// Checks the cases of a file: `### ` and a line of [`GOOD`], what stands in its place, `>>>`, and what is printed then,
/// without the folder.
#[track_caller]
fn check(cases: &str) {
    let cases = cases.strip_prefix("### ").expect("the first case").split("\n### ");
    for case in cases {
        let (input, expected) = case.split_once(">>>\n").expect("the end of the input");
        let (old, new) = input.split_once('\n').expect("a line of GOOD");
        assert!(GOOD.contains(old), "{old}");
        let found = faults(&GOOD.replacen(&format!("{old}\n"), new, 1));
        assert!(found.iter().all(|fault| fault.file == Path::new("/etc/weir/weir.toml")));
        let printed = without_keys(&ConfigError { faults: found }.to_string().replace("/etc/weir/", ""));
        assert_eq!(printed, expected.trim_end(), "with\n{new}");
    }
}

/// The keys of `[proxy]`, which grow, as `KEYS`.
fn without_keys(printed: &str) -> String {
    let short = |line: &str| match line.split_once(" has: http, https, ") {
        Some((before, keys)) if keys.contains(", retry_after") => format!("{before} has: KEYS"),
        _ => line.to_owned(),
    };
    printed.lines().map(short).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pattern_of_the_cases_is_valid() {
    assert_eq!(faults(GOOD), []);
}

#[test]
fn faults_of_top_level_name_their_place_and_the_remedy() {
    check(include_str!("faults/top_level.txt"));
}

#[test]
fn faults_of_proxy_name_their_place_and_the_remedy() {
    check(include_str!("faults/proxy.txt"));
}

#[test]
fn faults_of_agent_name_their_place_and_the_remedy() {
    check(include_str!("faults/agent.txt"));
}

#[test]
fn faults_of_listeners_name_their_place_and_the_remedy() {
    check(include_str!("faults/listeners.txt"));
}

#[test]
fn faults_of_plans_name_their_place_and_the_remedy() {
    check(include_str!("faults/plans.txt"));
}

#[test]
fn faults_of_origins_and_certificates_name_their_place_and_the_remedy() {
    check(include_str!("faults/origins_and_certificates.txt"));
}

#[test]
fn faults_of_zones_and_hosts_name_their_place_and_the_remedy() {
    check(include_str!("faults/zones_and_hosts.txt"));
}

#[test]
fn all_faults_are_reported_at_once() {
    let found = faults(
        "[proxy]\nhttp = [\"x\"]\nuser = 1\n[plans.p]\n[[zones]]\nname = \"a\"\nplan = \"q\"\norigin = \"tcp://b\"\nhost = 1\n",
    );
    let lines: Vec<_> = found.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 4, 7, 8, 9]);
}

#[test]
fn faults_of_xdp_name_their_place_and_the_remedy() {
    check(include_str!("faults/xdp.txt"));
}

#[test]
fn what_reaches_people_is_checked() {
    check(include_str!("faults/notices.txt"));
}

#[test]
fn columns_count_characters() {
    let found = faults("\"ä\" = 1\ninstance = \"äöü\" # ü\n[proxy] # ü\nhttp = [\"[::]:80\", \"ü\", 7]\n");
    let places: Vec<_> = found.iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(places, [(1, 1), (2, 12), (4, 20), (4, 25)]);
}

#[test]
fn an_error_prints_one_fault_after_the_other() {
    let error = Config::parse("[proxy]\nhttp = []\nusr = 1\n", Path::new("/etc/weir")).unwrap_err();
    let expected = r#"/etc/weir/weir.toml:2:8: there is no listener
    remedy: add http = ["0.0.0.0:80"] to [proxy], or https, or both
/etc/weir/weir.toml:3:1: unknown key `usr` in [proxy]
    remedy: did you mean `user`? [proxy] has: KEYS"#;
    assert_eq!(without_keys(&error.to_string()), expected);
}

#[test]
fn an_error_is_json_for_machines() {
    let error = Config::parse("x = ", Path::new("/etc/weir")).unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    let fault = &json["faults"][0];
    assert_eq!(
        (&fault["file"], &fault["line"], &fault["column"]),
        (&"/etc/weir/weir.toml".into(), &1.into(), &5.into())
    );
    assert!(fault["message"].is_string() && fault["remedy"].is_string());
}

#[test]
fn nesting_without_end_is_a_fault_and_no_overflow() {
    assert!(faults(&format!("x = {}", "[".repeat(100_000)))[0].message.starts_with("not valid TOML"));
    assert!(!faults(&format!("{} = 1", "a.".repeat(100_000) + "a")).is_empty());
}

#[test]
fn faults_of_the_firewall_name_their_place_and_the_remedy() {
    check(include_str!("faults/firewall.txt"));
}

#[test]
fn faults_of_policy_name_their_place_and_the_remedy() {
    check(include_str!("faults/policy.txt"));
}
