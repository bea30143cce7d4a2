//! A value of the TOML, read as the type that is wanted.
//!
//! Every getter says what is wrong in words for whoever wrote the file, with an example of what is right.

use std::{borrow::Cow, ops::RangeInclusive, path::PathBuf, time::Duration};

use toml::{Spanned, de::DeValue};

use super::{Keys, Section};
use crate::{
    error::Problem,
    nearest::nearest,
    source::{At, Report},
};

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    name: Cow<'a, str>,
    at: At<'a>,
    value: &'a DeValue<'a>,
    report: &'a Report,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        name: Cow<'a, str>,
        within: At<'a>,
        value: &'a Spanned<DeValue<'a>>,
        report: &'a Report,
    ) -> Self {
        Self { name, at: within.source().at(value.span().start), value: value.get_ref(), report }
    }

    pub fn at(&self) -> At<'a> {
        self.at
    }

    pub fn report(&self) -> &'a Report {
        self.report
    }

    pub fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.problem(Problem::new(message, remedy));
    }

    pub fn problem(&self, problem: Problem) {
        self.report.add(self.at, problem);
    }

    /// What it is, for a message.
    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    fn mistyped<T>(&self, wanted: &str, example: &str) -> Option<T> {
        self.fault(
            format!("`{}` is {}, and has to be {wanted}", self.name, self.kind()),
            format!("for example {} = {example}", self.name),
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
            if let DeValue::String(text) = item.value {
                return Some((&**text, item));
            }
            let message = format!("an item of `{}` is {}, and has to be a string", self.name, item.kind());
            item.fault(message, format!("for example {} = {example}", self.name));
            None
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

    /// A number, with or without a point. Its range is for whoever asks.
    pub fn decimal(&self, example: f64) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(written) if written.radix() == 10 => written.as_str().parse::<f64>().ok(),
            DeValue::Float(written) => written.as_str().replace('_', "").parse::<f64>().ok(),
            _ => None,
        };
        match number {
            Some(number) => Some(number),
            None => self.mistyped("a number", &format!("{example:?}")),
        }
    }

    /// A duration within a range.
    pub fn duration(&self, range: RangeInclusive<Duration>, example: Duration) -> Option<Duration> {
        self.duration_or(range, example, "")
    }

    fn duration_or(
        &self,
        range: RangeInclusive<Duration>,
        example: Duration,
        other: &str,
    ) -> Option<Duration> {
        let example = format!("\"{}\"", humantime::format_duration(example));
        let DeValue::String(text) = self.value else {
            return self.mistyped("a string with a number and a unit", &example);
        };
        let remedy = format!("for example {} = {example}; units are ms, s, m, h, d{other}", self.name);
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

    /// A duration within a range, or `"none"`.
    pub fn duration_or_none(
        &self,
        range: RangeInclusive<Duration>,
        example: Duration,
    ) -> Option<Option<Duration>> {
        match self.value {
            DeValue::String(text) if text == "none" => Some(None),
            _ => self.duration_or(range, example, ", or \"none\"").map(Some),
        }
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
