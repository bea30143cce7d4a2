//! `docs/reachout.md` says what the code does: its parameters and its JSON line.

use weir_reachout::{decision::Decision, params::PolicyParams};

const DOCUMENT: &str = include_str!("../../docs/reachout.md");

#[test]
fn every_parameter_is_documented_with_its_default() {
    let defaults = serde_json::to_value(PolicyParams::default()).expect("writes");
    for (section, params) in
        defaults.as_object().expect("sections").iter().filter(|(_, params)| params.is_object())
    {
        for (name, default) in params.as_object().expect("parameters") {
            let row = format!("| `{section}.{name}` | ");
            let (_, rest) = DOCUMENT.split_once(&row).unwrap_or_else(|| panic!("{row} is missing"));
            let written: f64 = rest.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
            assert_eq!(Some(written), default.as_f64(), "{section}.{name}");
        }
    }
}

#[test]
fn the_documented_line_is_one_that_is_written() {
    let line = DOCUMENT.lines().find(|line| line.starts_with("{\"at\"")).expect("a line");
    let decision: Decision = serde_json::from_str(line).expect("reads");
    assert_eq!(serde_json::to_string(&decision).expect("writes"), line);
}
