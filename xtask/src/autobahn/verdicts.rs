//! What the suite found, per way to the echo server and case, and where the ways differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The way to the echo server without weir.
pub const DIRECT: &str = "direct";

/// A case's verdict: on the behaviour, on the close, and the close code that the suite saw.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    behaviour: String,
    close: String,
    code: Option<u64>,
}

/// By way, then by case.
#[derive(Default)]
pub struct Verdicts(BTreeMap<String, BTreeMap<String, Verdict>>);

impl Verdicts {
    /// Reads the suite's `index.json`.
    pub fn read(index: &Path) -> Result<Self> {
        let text = fs::read_to_string(index).with_context(|| format!("cannot read {}", index.display()))?;
        let ways: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_str(&text).with_context(|| format!("cannot understand {}", index.display()))?;
        let text = |case: &Value, key: &str| case[key].as_str().unwrap_or("missing").to_owned();
        let verdict = |case: &Value| Verdict {
            behaviour: text(case, "behavior"),
            close: text(case, "behaviorClose"),
            code: case["remoteCloseCode"].as_u64(),
        };
        let of_way = |cases: BTreeMap<String, Value>| {
            cases.iter().map(|(id, case)| (id.clone(), verdict(case))).collect()
        };
        Ok(Self(ways.into_iter().map(|(way, cases)| (way, of_way(cases))).collect()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.get(DIRECT).is_none_or(BTreeMap::is_empty)
    }

    /// The cases in which some way has another verdict than the one without weir, or none.
    pub fn differing(&self) -> Vec<String> {
        let cases: BTreeSet<&String> = self.0.values().flat_map(BTreeMap::keys).collect();
        let differs = |case: &&&String| {
            let mut verdicts = self.0.values().map(|of_way| of_way.get(**case));
            let first = verdicts.next().flatten();
            first.is_none() || verdicts.any(|verdict| verdict != first)
        };
        cases.iter().filter(differs).map(|case| (*case).clone()).collect()
    }

    /// Takes the verdicts of cases that were run again.
    pub fn replace(&mut self, newer: Self) {
        for (way, cases) in newer.0 {
            self.0.entry(way).or_default().extend(cases);
        }
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, cases) in &self.0 {
            let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
            cases.values().for_each(|verdict| *sums.entry(&verdict.behaviour).or_default() += 1);
            let sums: Vec<_> = sums.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
            writeln!(f, "{way:<10} {} cases: {}", cases.len(), sums.join(", "))?;
        }
        let differing = self.differing();
        if differing.is_empty() {
            return writeln!(f, "every verdict through weir is the echo server's own");
        }
        writeln!(f, "{} verdicts differ:", differing.len())?;
        for case in differing {
            for (way, cases) in &self.0 {
                match cases.get(&case) {
                    Some(Verdict { behaviour, close, code }) => {
                        let code = code.map_or("none".into(), |code| code.to_string());
                        writeln!(f, "  {case:<8} {way:<10} {behaviour}, close {close}, code {code}")?;
                    }
                    None => writeln!(f, "  {case:<8} {way:<10} not run")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Verdicts {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), json).expect("written");
        Verdicts::read(file.path()).expect("verdicts")
    }

    const CASE: &str =
        r#"{"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000, "reportfile": "x"}"#;

    #[test]
    fn equal_verdicts_do_not_differ() {
        let verdicts = read(&format!(r#"{{"direct": {{"1.1.1": {CASE}}}, "weir ws": {{"1.1.1": {CASE}}}}}"#));
        assert!(verdicts.differing().is_empty() && !verdicts.is_empty());
        assert!(verdicts.to_string().contains("echo server's own"), "{verdicts}");
    }

    #[test]
    fn another_code_another_verdict_and_a_missing_case_differ() {
        for other in
            [CASE.replace("1000", "1006"), CASE.replace("1000", "null"), CASE.replacen("OK", "FAILED", 1)]
        {
            let verdicts =
                read(&format!(r#"{{"direct": {{"1.1.1": {CASE}}}, "weir ws": {{"1.1.1": {other}}}}}"#));
            assert_eq!(verdicts.differing(), ["1.1.1"], "{other}");
        }
        let mut verdicts = read(&format!(r#"{{"direct": {{"1.1.1": {CASE}}}, "weir ws": {{}}}}"#));
        assert_eq!(verdicts.differing(), ["1.1.1"]);
        verdicts.replace(read(&format!(r#"{{"weir ws": {{"1.1.1": {CASE}}}}}"#)));
        assert!(verdicts.differing().is_empty());
    }

    #[test]
    fn a_suite_that_ran_nothing_is_empty() {
        assert!(read(r#"{"direct": {}}"#).is_empty());
    }
}
