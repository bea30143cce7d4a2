//! A scrape of `/metrics`, read as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
pub struct Scrape {
    /// By name and labels, as they are written: `name{a="b",c="d"}`.
    samples: BTreeMap<String, f64>,
    /// Every family that is announced.
    families: BTreeSet<String>,
}

impl Scrape {
    /// # Panics
    /// If it is not the text format.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self { samples: BTreeMap::new(), families: BTreeSet::new() };
        for line in text.lines() {
            if let Some(announced) = line.strip_prefix("# TYPE ") {
                scrape.families.extend(announced.split(' ').next().map(str::to_owned));
            } else if !line.starts_with('#') && !line.is_empty() {
                let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                let before = scrape.samples.insert(name.to_owned(), value);
                assert!(before.is_none(), "a series appears twice: {name}");
            }
        }
        scrape
    }

    /// The value of a series, as it is written.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// The value of a series without labels or with these.
    ///
    /// # Panics
    /// If there is none.
    pub fn value(&self, series: &str) -> f64 {
        self.get(series).unwrap_or_else(|| panic!("the scrape has no {series}"))
    }

    /// The samples of one name: their labels, without braces, and their values.
    pub fn of(&self, name: &str) -> BTreeMap<&str, f64> {
        self.samples
            .iter()
            .filter_map(|(series, value)| {
                let rest = series.strip_prefix(name)?;
                match rest.strip_prefix('{') {
                    Some(labels) => Some((labels.strip_suffix('}')?, *value)),
                    None if rest.is_empty() => Some(("", *value)),
                    None => None,
                }
            })
            .collect()
    }

    /// The value of the one sample of `name` with this zone.
    pub fn of_zone(&self, name: &str, zone: &str) -> f64 {
        let label = format!("zone=\"{zone}\"");
        let found: Vec<f64> = self
            .of(name)
            .into_iter()
            .filter(|(labels, _)| labels.split(',').any(|pair| pair == label))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(found.len(), 1, "series of {name} for {zone}");
        found[0]
    }

    /// The names of all families.
    pub fn families(&self) -> &BTreeSet<String> {
        &self.families
    }
}
