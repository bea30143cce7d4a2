//! What a run has given: samples by row, contender and figure, and what is told of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    contender::Kind,
    load::Sample,
    rows::{Figure, Goal, Row},
};

/// The middle of what was measured, and its ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Self { median, low, high })
    }
}

/// One figure of weir's beside the best peer's.
pub struct Verdict {
    pub ratio: Option<(f64, Kind)>,
    pub goal: Option<Goal>,
    pub held: Option<bool>,
}

/// What each contender got of each figure, a sample a round.
type Samples = BTreeMap<(Figure, Kind), Vec<f64>>;

#[derive(Default)]
pub struct Report {
    rows: Vec<(Row, Samples)>,
    failures: Vec<String>,
}

impl Report {
    pub fn add(&mut self, row: Row, kind: Kind, sample: Sample) {
        let at = self.rows.iter().position(|(known, _)| *known == row).unwrap_or_else(|| {
            self.rows.push((row, BTreeMap::new()));
            self.rows.len() - 1
        });
        for (figure, value) in sample {
            self.rows[at].1.entry((figure, kind)).or_default().push(value);
        }
    }

    pub fn failed(&mut self, row: &Row, kind: Kind, why: &anyhow::Error) {
        self.failures.push(format!("{row}, {kind}: {why:#}"));
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().map(|(row, _)| row)
    }

    /// Who was measured, in order.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<_> =
            self.rows.iter().flat_map(|(_, figures)| figures.keys().map(|(_, kind)| *kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// A row's figures, in order.
    pub fn figures(&self, row: &Row) -> Vec<Figure> {
        let found = self.rows.iter().find(|(known, _)| known == row);
        let mut figures: Vec<_> =
            found.into_iter().flat_map(|(_, figures)| figures.keys().map(|(figure, _)| *figure)).collect();
        figures.dedup();
        figures
    }

    pub fn get(&self, row: &Row, figure: Figure, kind: Kind) -> Option<Spread> {
        let (_, figures) = self.rows.iter().find(|(known, _)| known == row)?;
        Spread::of(figures.get(&(figure, kind))?)
    }

    pub fn verdict(&self, row: &Row, figure: Figure) -> Verdict {
        let ours = self.get(row, figure, Kind::Weir);
        let peers = self.kinds().into_iter().filter(|kind| kind.is_peer());
        let measured = peers.filter_map(|kind| Some((self.get(row, figure, kind)?.median, kind)));
        // What is more than a peer has is better only of a rate.
        let best = if figure == Figure::Rate {
            measured.max_by(|a, b| a.0.total_cmp(&b.0))
        } else {
            measured.min_by(|a, b| a.0.total_cmp(&b.0))
        };
        let ratio = ours.zip(best).map(|(ours, (best, kind))| (ours.median / best, kind));
        let goal = row.goal(figure);
        let held = match goal {
            Some(Goal::Ratio(most)) => ratio.map(|(ratio, _)| ratio <= most),
            Some(Goal::AtMost(most)) => ours.map(|ours| ours.median <= most),
            None => None,
        };
        Verdict { ratio, goal, held }
    }

    pub fn json(&self) -> Value {
        let mut rows = Vec::new();
        for (row, figures) in &self.rows {
            for (figure, kind) in figures.keys() {
                let Some(Spread { median, low, high }) = self.get(row, *figure, *kind) else { continue };
                rows.push(json!({
                    "row": row.to_string(), "figure": figure, "contender": kind.name(),
                    "median": median, "low": low, "high": high,
                }));
            }
        }
        json!({ "rows": rows, "failures": self.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Security, Work};

    const ROW: Row = Row { security: Security::Ws, work: Work::Upgrades { at_once: 1 } };

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        let spread = Spread::of(&[9.0, 1.0, 4.0]).expect("a spread");
        assert_eq!(spread, Spread { median: 4.0, low: 1.0, high: 9.0 });
        assert_eq!(Spread::of(&[1.0, 2.0]).expect("a spread").median, 1.5);
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn weir_is_held_against_the_best_peer_and_nobody_else() {
        let mut report = Report::default();
        for (kind, micros) in
            [(Kind::Direct, 1.0), (Kind::WeirUncounted, 2.0), (Kind::Nginx, 80.0), (Kind::Haproxy, 100.0)]
        {
            report.add(ROW, kind, vec![(Figure::CpuMicros, micros)]);
        }
        report.add(ROW, Kind::Weir, vec![(Figure::CpuMicros, 76.0)]);
        let verdict = report.verdict(&ROW, Figure::CpuMicros);
        assert_eq!(verdict.ratio, Some((0.95, Kind::Nginx)));
        assert_eq!(verdict.held, Some(true));
        report.add(ROW, Kind::Weir, vec![(Figure::CpuMicros, 90.0)]);
        assert_eq!(report.verdict(&ROW, Figure::CpuMicros).held, Some(false));
    }
}
