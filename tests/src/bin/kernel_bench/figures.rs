//! Figures: a median with its spread, as a table for people or as JSON.

use std::{
    fmt::{self, Display, Formatter},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

#[derive(Serialize)]
pub struct Row {
    pub part: &'static str,
    pub what: String,
    pub unit: &'static str,
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
    pub rounds: usize,
}

/// All rows, in the order in which they were measured.
#[derive(Default, Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row of what the rounds gave.
    pub fn add(&mut self, part: &'static str, what: &str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let (Some(lowest), Some(highest)) = (values.first(), values.last()) else { return };
        let median = values[values.len() / 2];
        eprintln!("   {what}: {median:.1} {unit}");
        let (lowest, highest, rounds) = (*lowest, *highest, values.len());
        self.rows.push(Row { part, what: what.to_owned(), unit, median, lowest, highest, rounds });
    }

    /// Adds a count, which is no matter of rounds.
    pub fn count(&mut self, part: &'static str, what: &str, unit: &'static str, value: u64) {
        self.add(part, what, unit, vec![value as f64]);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                writeln!(f, "\n{part}")?;
            }
            let Row { what, unit, median, lowest, highest, rounds, .. } = row;
            if *rounds > 1 {
                writeln!(f, "  {what:<66} {median:>11.1} {unit:<14} {lowest:.1} to {highest:.1}")?;
            } else {
                writeln!(f, "  {what:<66} {median:>11.1} {unit}")?;
            }
        }
        Ok(())
    }
}

/// Lets every case have its turn in each round, and keeps what each gave.
pub fn turns<C>(rounds: usize, cases: &mut [C], measure: impl FnMut(&mut C) -> f64) -> Vec<Vec<f64>> {
    quiet_turns(rounds, cases, Duration::ZERO, || true, measure).values
}

/// What rounds gave, and how many of them are kept although they were disturbed.
pub struct Rounds {
    pub values: Vec<Vec<f64>>,
    pub disturbed: usize,
}

/// The same; a round before or after which it is not quiet is taken again, until `patience` is over. Then what was disturbed has to do.
pub fn quiet_turns<C>(
    rounds: usize,
    cases: &mut [C],
    patience: Duration,
    mut is_quiet: impl FnMut() -> bool,
    mut measure: impl FnMut(&mut C) -> f64,
) -> Rounds {
    // One that does not count: caches and tables are as they will be after it.
    for case in cases.iter_mut() {
        measure(case);
    }
    let end = Instant::now() + patience;
    let (mut quiet, mut disturbed) = (Vec::with_capacity(rounds), Vec::new());
    while quiet.len() < rounds && (quiet.len() + disturbed.len() < rounds || Instant::now() < end) {
        while !is_quiet() && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        let before = is_quiet();
        let round: Vec<f64> = cases.iter_mut().map(&mut measure).collect();
        if before && is_quiet() { quiet.push(round) } else { disturbed.push(round) }
    }
    // The latest ones: nearest to the others in time.
    disturbed.drain(..disturbed.len().min((quiet.len() + disturbed.len()).saturating_sub(rounds)));
    let all = quiet.iter().chain(&disturbed);
    let of_case = |at: usize| all.clone().filter_map(|round| round.get(at).copied()).collect();
    Rounds { values: (0..cases.len()).map(of_case).collect(), disturbed: disturbed.len() }
}
