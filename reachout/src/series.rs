//! A zone's history from a CSV file, as slots.
//!
//! One header line; then by position the time (RFC 3339, or `YYYY-MM-DD HH:MM:SS` in UTC), the live count and, optionally,
//! the completeness of that count (0 to 1; 1 if absent). Rows may come in any order. The series' *step* is the most common
//! time between two rows; a row holds from its time to the next row's if that comes within 1.5 steps (or 15 s), else for one
//! step: where rows are absent nothing is known. Steps below 5 minutes are averaged over their slots, longer ones, up to
//! 1 h, are spread over them. If the step is a whole number of slots, a row stands for the slots from the one that it lies
//! in (up to 15 s before a slot counts as in it), so that an absent row is exactly as many unknown slots, whatever the
//! minute the series is taken at. Rows of one time are averaged, and are as complete as the least complete of them.

use crate::slot::{SLOT_SECONDS, Slot, SlotBuilder, SlotIndex};
use std::{fmt, io, io::BufRead, iter::Peekable};
use time::{
    OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339, macros::format_description,
};

const SLOT_MS: i64 = SLOT_SECONDS * 1000;
const LONGEST_STEP_MS: i64 = 3_600_000;
/// A row is late or early by as much without meaning anything; and the shortest time that a row holds.
const JITTER_MS: i64 = 15_000;

/// Why a file is no usage series.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    #[error("reading the series failed: {0}")]
    Read(#[from] io::Error),
    #[error("the file is empty; it needs a header line, then one row a time")]
    Empty,
    #[error("line 1 is a row, not a header; put a line like `timestamp,live,complete` before it")]
    NoHeader,
    #[error("there is no row after the header line")]
    NoRows,
    #[error("line {line}, column {column}: {fault}")]
    Row { line: usize, column: Column, fault: Fault },
    #[error("rows are mostly {minutes} min apart; use a series with a step of at most 1 h")]
    StepTooLong { minutes: i64 },
}

/// A column by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Timestamp,
    Live,
    Complete,
    Further,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timestamp => "1 (timestamp)",
            Self::Live => "2 (live count)",
            Self::Complete => "3 (complete)",
            Self::Further => "4",
        })
    }
}

/// What is wrong with a field, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("`{0}` is no time; write it as 2024-01-31T23:55:00Z or 2024-01-31 23:55:00 (UTC)")]
    NotATime(String),
    #[error("`{0}` is not between 1970 and 9999; is it in seconds or local time?")]
    OutOfRange(String),
    #[error(
        "`{0}` is no count; write a number of at least 0, and leave the whole row out where nothing is known"
    )]
    NotACount(String),
    #[error("`{0}` is no share; write 0 to 1, or leave the column out")]
    NotAShare(String),
    #[error("there is no live count; write `timestamp,live`")]
    NoCount,
    #[error("there are more than three columns; keep timestamp, live count and completeness, in this order")]
    TooManyColumns,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    at_ms: i64,
    live: f64,
    complete: f64,
}

/// A series that was read whole and found good: rows in order, each time once.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    rows: Vec<Row>,
    step_ms: i64,
}

impl Series {
    pub fn read(mut reader: impl BufRead) -> Result<Self, SeriesError> {
        let mut text = String::new();
        if reader.read_line(&mut text)? == 0 {
            return Err(SeriesError::Empty);
        }
        if row(&text).is_ok() {
            return Err(SeriesError::NoHeader);
        }
        let mut rows = Vec::new();
        for line in 2.. {
            text.clear();
            if reader.read_line(&mut text)? == 0 {
                break;
            }
            if !text.trim().is_empty() {
                rows.push(row(&text).map_err(|(column, fault)| SeriesError::Row { line, column, fault })?);
            }
        }
        Self::of(rows)
    }

    fn of(mut rows: Vec<Row>) -> Result<Self, SeriesError> {
        if rows.is_empty() {
            return Err(SeriesError::NoRows);
        }
        rows.sort_by_key(|row| row.at_ms);
        let step_ms = usual_step(&rows);
        if step_ms > LONGEST_STEP_MS {
            return Err(SeriesError::StepTooLong { minutes: step_ms / 60_000 });
        }
        if step_ms % SLOT_MS == 0 {
            rows.iter_mut().for_each(|row| row.at_ms = (row.at_ms + JITTER_MS).div_euclid(SLOT_MS) * SLOT_MS);
        }
        Ok(Self { rows: each_time_once(rows), step_ms })
    }

    /// The time between two rows of this series.
    pub fn step(&self) -> time::Duration {
        time::Duration::milliseconds(self.step_ms)
    }

    /// Slots of which something is known, in order.
    pub fn slots(&self) -> Slots<'_> {
        Slots { rows: self.rows.iter().peekable(), step_ms: self.step_ms, left: None, building: None }
    }
}

/// The most common time between two rows; the shorter of two that are equally common, 5 minutes if there is one row.
fn usual_step(rows: &[Row]) -> i64 {
    let between = rows.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).filter(|step| *step > 0);
    let mut steps: Vec<i64> = between.map(without_jitter).collect();
    steps.sort_unstable();
    let (mut best, mut most) = (SLOT_MS, 0);
    for equal in steps.chunk_by(|a, b| a == b) {
        if equal.len() > most {
            (best, most) = (equal[0], equal.len());
        }
    }
    best
}

/// A whole number of slots if it is nearly that, else whole seconds.
fn without_jitter(step_ms: i64) -> i64 {
    let slots_ms = (step_ms + SLOT_MS / 2) / SLOT_MS * SLOT_MS;
    if slots_ms > 0 && (step_ms - slots_ms).abs() <= JITTER_MS {
        slots_ms
    } else if step_ms >= 1000 {
        (step_ms + 500) / 1000 * 1000
    } else {
        step_ms
    }
}

fn each_time_once(rows: Vec<Row>) -> Vec<Row> {
    let together = |rows: &[Row]| Row {
        at_ms: rows[0].at_ms,
        live: rows.iter().map(|row| row.live).sum::<f64>() / rows.len() as f64,
        complete: rows.iter().map(|row| row.complete).fold(1.0, f64::min),
    };
    rows.chunk_by(|a, b| a.at_ms == b.at_ms).map(together).collect()
}

/// See [`Series::slots`].
#[derive(Clone, Debug)]
pub struct Slots<'a> {
    rows: Peekable<std::slice::Iter<'a, Row>>,
    step_ms: i64,
    /// What of a row lies behind the slot that is being built, with its end.
    left: Option<(Row, i64)>,
    building: Option<SlotBuilder>,
}

impl Slots<'_> {
    /// The next piece of time for which something is known: a row, from its time to the end of its hold.
    fn piece(&mut self) -> Option<(Row, i64)> {
        if let Some(left) = self.left.take() {
            return Some(left);
        }
        let row = *self.rows.next()?;
        let longest = (self.step_ms * 3 / 2).max(JITTER_MS);
        let end_ms = match self.rows.peek() {
            Some(next) if next.at_ms - row.at_ms <= longest => next.at_ms,
            _ => row.at_ms + self.step_ms,
        };
        Some((row, end_ms))
    }
}

impl Iterator for Slots<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        while let Some((row, end_ms)) = self.piece() {
            let index = SlotIndex::of_seconds(row.at_ms.div_euclid(1000));
            let building = self.building.get_or_insert_with(|| SlotBuilder::new(index));
            if building.index() != index {
                self.left = Some((row, end_ms));
                return self.building.take().map(SlotBuilder::finish);
            }
            let slot_end_ms = (row.at_ms.div_euclid(SLOT_MS) + 1) * SLOT_MS;
            let held_ms = end_ms.min(slot_end_ms) - row.at_ms;
            building.hold(u32::try_from(held_ms).unwrap_or(0), row.live, row.complete);
            if end_ms > slot_end_ms {
                self.left = Some((Row { at_ms: slot_end_ms, ..row }, end_ms));
            }
        }
        self.building.take().map(SlotBuilder::finish)
    }
}

fn row(line: &str) -> Result<Row, (Column, Fault)> {
    let mut fields = line.trim_start_matches('\u{feff}').trim().split(',').map(field);
    let at_ms = timestamp(fields.next().unwrap_or_default()).map_err(|fault| (Column::Timestamp, fault))?;
    let live = fields.next().ok_or((Column::Live, Fault::NoCount))?;
    let live = number(live).ok_or_else(|| (Column::Live, Fault::NotACount(live.to_owned())))?;
    let complete = match fields.next() {
        None | Some("") => 1.0,
        Some(text) => number(text)
            .filter(|share| *share <= 1.0)
            .ok_or_else(|| (Column::Complete, Fault::NotAShare(text.to_owned())))?,
    };
    match fields.next() {
        None => Ok(Row { at_ms, live, complete }),
        Some(_) => Err((Column::Further, Fault::TooManyColumns)),
    }
}

fn field(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

fn timestamp(text: &str) -> Result<i64, Fault> {
    let plain = format_description!("[year]-[month]-[day] [hour]:[minute]:[second][optional [.[subsecond]]]");
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| PrimitiveDateTime::parse(text, plain).map(PrimitiveDateTime::assume_utc))
        .map_err(|_| Fault::NotATime(text.to_owned()))?;
    // The latest ones would be dated, at their slot's end, in the year 10,000.
    if at.unix_timestamp() < 0 || at.to_offset(time::UtcOffset::UTC).year() > 9998 {
        return Err(Fault::OutOfRange(text.to_owned()));
    }
    Ok(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}
