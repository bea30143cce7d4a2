//! Which rules matched, over all zones: a counter a rule.
//!
//! A rule's number is read from the text that the library logs of it, in which there is also text of the client's. So it counts
//! only where it stands once: who puts the like into his request is counted as `other`, and no rule is blamed for another. The
//! number of counters is bounded by [`MOST`], whatever rules are read.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::Regex;

/// So many rules have a counter of their own. The Core Rule Set has about 700.
const MOST: usize = 1000;
/// So many are listed in a line of the log.
const MOST_LISTED: usize = 32;

/// A rule's `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RuleNumber {
    Rule(u64),
    /// A rule without one, or one that cannot be told.
    Other,
}

static PLACE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#" \[line "\d+"\] \[id "(\d{1,19})"\] \[rev ""#).ok());

impl RuleNumber {
    /// The rule that a text of the library is about.
    pub fn of(text: &str) -> Self {
        let Some(place) = &*PLACE else { return Self::Other };
        let mut places = place.captures_iter(text);
        match (places.next(), places.next()) {
            (Some(found), None) => match found[1].parse() {
                Ok(0) | Err(_) => Self::Other,
                Ok(number) => Self::Rule(number),
            },
            _ => Self::Other,
        }
    }
}

impl fmt::Display for RuleNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(number) => number.fmt(f),
            Self::Other => f.write_str("other"),
        }
    }
}

/// Rules for a line of the log.
pub(super) fn listed(numbers: &[RuleNumber]) -> String {
    let shown: Vec<_> = numbers.iter().take(MOST_LISTED).map(ToString::to_string).collect();
    let rest = if numbers.len() > MOST_LISTED { " ..." } else { "" };
    shown.join(" ") + rest
}

/// How often each rule matched.
#[derive(Default)]
pub(crate) struct Matches(Mutex<BTreeMap<RuleNumber, u64>>);

impl Matches {
    pub fn add(&self, numbers: impl Iterator<Item = RuleNumber>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for number in numbers {
            let full = counts.len() >= MOST && !counts.contains_key(&number);
            *counts.entry(if full { RuleNumber::Other } else { number }).or_default() += 1;
        }
    }

    /// By rule; `other` always.
    pub fn read(&self) -> Vec<(RuleNumber, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let other = (!counts.contains_key(&RuleNumber::Other)).then_some((RuleNumber::Other, 0));
        counts.iter().map(|(number, count)| (*number, *count)).chain(other).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, uri: &str) -> String {
        format!(
            "ModSecurity: Warning. Matched \"Operator `Rx' with parameter `a' against variable `ARGS:x' (Value: `{value}' ) \
             [file \"/rules/942.conf\"] [line \"46\"] [id \"942100\"] [rev \"\"] [msg \"SQL\"] [data \"{value}\"] \
             [hostname \"a\"] [uri \"{uri}\"] [unique_id \"1\"] [ref \"\"]"
        )
    }

    #[test]
    fn a_client_that_forges_a_rule_blames_none() {
        assert_eq!(RuleNumber::of(&text("union select", "/")), RuleNumber::Rule(942_100));
        let forged = " [line \"1\"] [id \"1\"] [rev \"";
        assert_eq!(RuleNumber::of(&text(forged, "/")), RuleNumber::Other);
        assert_eq!(RuleNumber::of(&text("x", forged)), RuleNumber::Other);
        assert_eq!(RuleNumber::of(&text("[id \"7\"]", "/[id \"8\"]")), RuleNumber::Rule(942_100));
        assert_eq!(RuleNumber::of("something else"), RuleNumber::Other);
    }

    #[test]
    fn counters_are_bounded_and_nothing_is_lost() {
        let matches = Matches::default();
        assert_eq!(matches.read(), [(RuleNumber::Other, 0)]);
        let rules = MOST as u64 + 500;
        matches.add((1..=rules).map(RuleNumber::Rule));
        matches.add([RuleNumber::Rule(1), RuleNumber::Rule(rules)].into_iter());
        let read = matches.read();
        assert!(read.len() <= MOST + 1, "{}", read.len());
        assert_eq!(read.iter().map(|(_, count)| count).sum::<u64>(), rules + 2);
        assert_eq!(read[0], (RuleNumber::Rule(1), 2));
        assert_eq!(read.last().map(|(number, count)| (*number, *count)), Some((RuleNumber::Other, 501)));
    }
}
