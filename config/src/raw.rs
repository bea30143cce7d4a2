//! The TOML as it is written: which keys a section has, and values read by the type that is wanted.
//!
//! Nothing here stops at a fault: each getter reports what is wrong and returns `None`, so that one run finds everything.
//! The key lists are the contract; `docs/configuration.md` has to name every one of them (a test says so).

use std::{borrow::Cow, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    error::Problem,
    nearest::nearest,
    source::{At, Report},
};

/// The keys of a section.
pub(crate) struct Keys {
    /// As a reader of the file would call it.
    pub section: &'static str,
    pub keys: &'static [&'static str],
}

pub(crate) static ROOT: Keys = Keys {
    section: "the top of the file",
    keys: &["instance", "zones_dir", "proxy", "agent", "plans", "zones"],
};
pub(crate) static ZONE_FILE: Keys = Keys { section: "a zone file", keys: &["zones"] };
pub(crate) static PROXY: Keys = Keys {
    section: "[proxy]",
    keys: &[
        "http",
        "https",
        "user",
        "accounting",
        "forwarded",
        "header_timeout",
        "tls_handshake_timeout",
        "keep_alive_timeout",
        "connect_timeout",
        "response_timeout",
        "drain_timeout",
        "retry_after",
    ],
};
pub(crate) static AGENT: Keys = Keys {
    section: "[agent]",
    keys: &[
        "admin",
        "ledger",
        "cgroup",
        "tag_users",
        "max_zones",
        "audit_interval",
        "program_stats",
        "kernel_log",
    ],
};
pub(crate) static PLAN: Keys =
    Keys { section: "[plans.NAME]", keys: &["guideline", "abuse_cap", "socket_cap"] };
pub(crate) static ZONE: Keys =
    Keys { section: "[[zones]]", keys: &["name", "hosts", "plan", "origin", "tls"] };
pub(crate) static TLS: Keys = Keys { section: "tls", keys: &["cert", "key"] };

/// All of them. A key that is found in the wrong section is looked up here.
static ALL: [&Keys; 6] = [&ROOT, &PROXY, &AGENT, &PLAN, &ZONE, &TLS];

/// A table whose keys have been checked. A section that the file lacks is an empty one.
pub(crate) struct Section<'a> {
    keys: &'static Keys,
    at: At<'a>,
    table: Option<&'a DeTable<'a>>,
    report: &'a Report,
}

impl<'a> Section<'a> {
    /// Opens a table and reports the keys that it should not have.
    pub fn open(keys: &'static Keys, at: At<'a>, table: &'a DeTable<'a>, report: &'a Report) -> Self {
        for (key, _) in table.iter().filter(|(key, _)| !keys.keys.contains(&key.get_ref().as_ref())) {
            report.add(at.source().at(key.span().start), unknown_key(key.get_ref(), keys));
        }
        Self { keys, at, table: Some(table), report }
    }

    pub fn absent(keys: &'static Keys, at: At<'a>, report: &'a Report) -> Self {
        Self { keys, at, table: None, report }
    }

    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.keys.keys.contains(&key), "{key} is not in the list of {}", self.keys.section);
        let value = self.table?.get(key)?;
        Some(Value::new(Cow::Borrowed(key), self.at, value, self.report))
    }

    /// As [`Section::get`], but its absence is a fault.
    pub fn required(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let message = format!("{} has no `{key}`", self.keys.section);
            self.fault(message, format!("add {key} = {example}"));
        }
        value
    }

    /// Opens the table under `key`.
    pub fn section(&self, key: &'static str, keys: &'static Keys) -> Self {
        let opened = self.get(key).and_then(|value| value.section(keys));
        opened.unwrap_or(Self::absent(keys, self.at, self.report))
    }

    pub fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.add(self.at, Problem::new(message, remedy));
    }
}

fn unknown_key(key: &str, keys: &Keys) -> Problem {
    let message = format!("unknown key `{}` in {}", key.escape_debug(), keys.section);
    let has = format!("{} has: {}", keys.section, keys.keys.join(", "));
    if let Some(meant) = nearest(key, keys.keys.iter().copied()) {
        return Problem::new(message, format!("did you mean `{meant}`? {has}"));
    }
    match ALL.iter().find(|other| other.keys.contains(&key)) {
        Some(other) => Problem::new(message, format!("`{key}` belongs in {}; {has}", other.section)),
        None => Problem::new(message, has),
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    name: Cow<'a, str>,
    at: At<'a>,
    value: &'a DeValue<'a>,
    report: &'a Report,
}

impl<'a> Value<'a> {
    fn new(name: Cow<'a, str>, within: At<'a>, value: &'a Spanned<DeValue<'a>>, report: &'a Report) -> Self {
        Self { name, at: within.source().at(value.span().start), value: value.get_ref(), report }
    }

    pub fn at(&self) -> At<'a> {
        self.at
    }

    pub fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.problem(Problem::new(message, remedy));
    }

    pub fn problem(&self, problem: Problem) {
        self.report.add(self.at, problem);
    }

    fn mistyped<T>(&self, wanted: &str, example: &str) -> Option<T> {
        let kind = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let name = self.name.escape_debug();
        self.fault(
            format!("`{name}` is {kind}, and has to be {wanted}"),
            format!("for example {name} = {example}"),
        );
        None
    }

    pub fn text(&self, example: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.mistyped("a string", example),
        }
    }

    /// The strings of a list, each with its place; those that are none are reported.
    pub fn texts(&self, example: &str) -> Option<Vec<(&'a str, Value<'a>)>> {
        let DeValue::Array(items) = self.value else {
            return self.mistyped("a list of strings", example);
        };
        let text = |item| {
            let item = Value::new(self.name.clone(), self.at, item, self.report);
            match item.value {
                DeValue::String(text) => Some((&**text, item)),
                _ => item.mistyped("a list of strings", example),
            }
        };
        Some(items.iter().filter_map(text).collect())
    }

    pub fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.mistyped("true or false", "true"),
        }
    }

    /// A whole number within a range.
    pub fn number(&self, range: RangeInclusive<u64>, example: u64) -> Option<u64> {
        let DeValue::Integer(written) = self.value else {
            return self.mistyped("a whole number", &example.to_string());
        };
        let number = u64::from_str_radix(written.as_str(), written.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.fault(
                format!("`{}` is {written}, and has to be a number from {least} to {most}", self.name),
                format!("for example {} = {example}", self.name),
            );
        }
        number
    }

    /// A duration within a range.
    pub fn duration(&self, range: RangeInclusive<Duration>, example: Duration) -> Option<Duration> {
        let example = format!("\"{}\"", humantime::format_duration(example));
        let DeValue::String(text) = self.value else {
            return self.mistyped("a string with a number and a unit", &example);
        };
        let remedy = format!("for example {} = {example}; units are ms, s, m, h, d", self.name);
        match humantime::parse_duration(text) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(_) => {
                let [least, most] =
                    [range.start(), range.end()].map(|bound| humantime::format_duration(*bound));
                self.fault(
                    format!("`{}` is {text:?}, and has to be from {least} to {most}", self.name),
                    remedy,
                );
            }
            Err(error) => {
                self.fault(format!("`{}` is {text:?}, which is no duration: {error}", self.name), remedy)
            }
        }
        None
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let all = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let DeValue::String(text) = self.value else {
            return self.mistyped(&format!("one of {all}"), &format!("\"{}\"", choices.first()?.0));
        };
        let chosen = choices.iter().find(|(word, _)| word == text).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let remedy = match nearest(text, choices.iter().map(|(word, _)| *word)) {
                Some(meant) => format!("did you mean \"{meant}\"? It is one of {all}"),
                None => format!("write one of {all}"),
            };
            self.fault(format!("`{}` is {text:?}, which is not one of {all}", self.name), remedy);
        }
        chosen
    }

    /// A path, made absolute: a relative one begins at the folder of the file that it stands in.
    pub fn path(&self, example: &str) -> Option<PathBuf> {
        let text = self.text(example)?;
        if text.is_empty() || text.contains('\0') {
            self.fault(
                format!("`{}` is {text:?}, which is no path", self.name),
                format!("for example {example}"),
            );
            return None;
        }
        Some(self.at.source().folder().join(text))
    }

    pub fn section(&self, keys: &'static Keys) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Section::open(keys, self.at, table, self.report)),
            _ => {
                self.fault(
                    format!("`{}` has to be a table", self.name),
                    format!("a table has: {}", keys.keys.join(", ")),
                );
                None
            }
        }
    }

    /// The tables of `[[name]]`.
    pub fn sections(&self, keys: &'static Keys) -> Vec<Section<'a>> {
        let DeValue::Array(items) = self.value else {
            self.fault(
                format!("`{0}` has to be a list of tables", self.name),
                format!("write [[{0}]], with two brackets, above each", self.name),
            );
            return Vec::new();
        };
        let open = |item| Value::new(self.name.clone(), self.at, item, self.report).section(keys);
        items.iter().filter_map(open).collect()
    }

    /// The tables of a table whose keys are names.
    pub fn entries(&self, keys: &'static Keys) -> Vec<(&'a str, Section<'a>)> {
        let DeValue::Table(table) = self.value else {
            self.fault(
                format!("`{}` has to be a table of tables", self.name),
                format!("write {}", keys.section),
            );
            return Vec::new();
        };
        let entry = |(name, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let section =
                Value::new(Cow::Borrowed(name.get_ref()), self.at, value, self.report).section(keys)?;
            Some((name.get_ref().as_ref(), section))
        };
        table.iter().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../docs/configuration.md");
        for Keys { section, keys } in ALL {
            for key in *keys {
                assert!(
                    reference.contains(&format!("`{key}`")),
                    "docs/configuration.md says nothing of {key} of {section}"
                );
            }
        }
    }
}
