//! Families of very many series, written straight into the text.
//!
//! A series as prometheus' model of it costs several allocations and ten times the line that it becomes; a host has a million
//! of them when it has 100,000 zones. A test holds that the lines are those of prometheus' own encoder.

use std::fmt::Write as _;

use prometheus::proto::MetricType;

/// One family. Its head is written with its first series, so that a family without any is not there at all.
pub struct Lines<'text> {
    text: &'text mut String,
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    begun: bool,
}

impl<'text> Lines<'text> {
    /// A family that is a gauge.
    pub fn gauge(text: &'text mut String, name: &'static str, help: &'static str) -> Self {
        Self { text, name, help, kind: MetricType::GAUGE, begun: false }
    }

    /// A family that is a counter; its name ends in `_total`.
    pub fn counter(text: &'text mut String, name: &'static str, help: &'static str) -> Self {
        Self { text, name, help, kind: MetricType::COUNTER, begun: false }
    }

    /// Writes a series. `labels` come from [`labels`], for as many families as have them.
    pub fn series(&mut self, labels: &str, value: u64) {
        self.begin(labels);
        self.end(value);
    }

    /// Likewise, with a label more. Its value is written as it is: it must need no escape.
    pub fn series_with(&mut self, labels: &str, (name, is): (&str, &'static str), value: u64) {
        self.begin(labels);
        for part in [",", name, "=\"", is, "\""] {
            self.text.push_str(part);
        }
        self.end(value);
    }

    fn begin(&mut self, labels: &str) {
        if !self.begun {
            self.begun = true;
            let kind = if self.kind == MetricType::COUNTER { "counter" } else { "gauge" };
            let (name, help) = (self.name, self.help);
            // Writing into a `String` cannot fail.
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        for part in [self.name, "{", labels] {
            self.text.push_str(part);
        }
    }

    fn end(&mut self, value: u64) {
        self.text.push_str("} ");
        self.text.push_str(itoa::Buffer::new().format(value));
        self.text.push('\n');
    }
}

/// Appends `name="value"` pairs, escaped, as they stand between the braces of a series. There must be one at least.
pub fn labels(out: &mut String, pairs: &[(&str, &str)]) {
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;
    use crate::exposition::{counter, family, gauge, label};

    const NAMES: [&str; 5] = ["a", "with \"quotes\"", "back\\slash\\n", "line\nfeed", "été \u{1f30a}"];

    #[test]
    fn lines_are_those_of_prometheus_encoder() {
        let mut ours = String::new();
        let mut of_zones = Vec::new();
        for (at, name) in NAMES.iter().enumerate() {
            let mut pairs = String::new();
            labels(&mut pairs, &[("zone", name), ("plan", NAMES[NAMES.len() - 1 - at])]);
            of_zones.push(pairs);
        }
        let values = [0, 1, 4_294_967_296, 9_007_199_254_740_992, 17];
        let mut websockets = Lines::gauge(&mut ours, "weir_zone_websockets", "Live WebSockets.");
        of_zones.iter().zip(values).for_each(|(labels, value)| websockets.series(labels, value));
        let mut refused = Lines::counter(&mut ours, "weir_zone_refused_total", "Refusals by reason.");
        of_zones
            .iter()
            .zip(values)
            .for_each(|(labels, value)| refused.series_with(labels, ("reason", "abuse_cap"), value));
        Lines::gauge(&mut ours, "weir_nothing", "A family without series.");

        let pairs = |at: usize| vec![label("zone", NAMES[at]), label("plan", NAMES[NAMES.len() - 1 - at])];
        let gauges = (0..NAMES.len()).map(|at| gauge(pairs(at), values[at] as f64)).collect();
        let counters = (0..NAMES.len()).map(|at| {
            let mut labels = pairs(at);
            labels.push(label("reason", "abuse_cap"));
            counter(labels, values[at])
        });
        let theirs = [
            family("weir_zone_websockets", "Live WebSockets.", MetricType::GAUGE, gauges),
            family("weir_zone_refused_total", "Refusals by reason.", MetricType::COUNTER, counters.collect()),
        ];
        assert_eq!(ours, TextEncoder::new().encode_to_string(&theirs).unwrap());
        let mut bytes = Vec::new();
        TextEncoder::new().encode(&theirs, &mut bytes).unwrap();
        assert_eq!(ours.as_bytes(), bytes);
    }
}
