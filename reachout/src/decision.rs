//! What the detector may say. It has no word for a limit: that needs a person, a delivered contact and time (see
//! [`limit`](crate::limit)).

use crate::slot::SlotIndex;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::{OffsetDateTime, macros::format_description};

/// One decision on one slot, dated at the slot's end. As JSON it is the line that `weir simulate --json` prints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub event: Event,
    /// The rule that opened the case; of the others only R3's own "back to normal" is the work of one rule.
    pub rule: Option<Rule>,
    /// Over time in the last 30 days, to a hundredth of an hour in JSON.
    #[serde(serialize_with = "hundredths")]
    pub over_hours: f64,
    /// Counted spikes that started in the last 30 days.
    pub counted_spikes: u32,
    /// Known part of the last 30 days, or of the time since the first slot if that is shorter; to 0.0001 in JSON.
    #[serde(serialize_with = "ten_thousandths")]
    pub coverage: f64,
}

impl Decision {
    /// The slot that was decided on.
    pub fn slot(&self) -> SlotIndex {
        SlotIndex::containing(self.at).back(1)
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// One more occasion.
    SpikeCounted,
    /// Three quarters of a budget are spent. Internal: nobody is told.
    Flagged,
    /// A rule was fulfilled.
    CaseOpened,
    /// The zone is back to normal: its case may be closed.
    Closable,
    /// The zone was flagged and is not any more.
    Unflagged,
}

/// Why a case was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rule {
    /// Repeated: four occasions over at least a week.
    R1,
    /// Sustained: more than 36 hours over.
    R2,
    /// Disproportionate: as R2 on another resource, and a material share of the fleet.
    R3,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::R1 => "R1, repeated",
            Self::R2 => "R2, sustained",
            Self::R3 => "R3, disproportionate",
        })
    }
}

/// The line for people: `2024-01-07 12:05  case opened (R2, sustained)  36.1 h over, 1 counted spike, 100 % known`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
        let at = self.at.format(format).map_err(|_| fmt::Error)?;
        let event = match self.event {
            Event::SpikeCounted => "spike counted",
            Event::Flagged => "flagged",
            Event::CaseOpened => "case opened",
            Event::Closable => "closable",
            Event::Unflagged => "unflagged",
        };
        let what = match self.rule {
            Some(rule) => format!("{event} ({rule})"),
            None => event.to_owned(),
        };
        let spikes = if self.counted_spikes == 1 { "spike" } else { "spikes" };
        let known = (self.coverage * 100.0).floor();
        write!(
            f,
            "{at}  {what:<35}  {:.1} h over, {} counted {spikes}, {known} % known",
            self.over_hours, self.counted_spikes
        )
    }
}

fn hundredths<S: serde::Serializer>(hours: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((hours * 100.0).round() / 100.0)
}

fn ten_thousandths<S: serde::Serializer>(share: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((share * 10_000.0).round() / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn r2() -> Decision {
        Decision {
            at: datetime!(2024-01-07 12:05 UTC),
            event: Event::CaseOpened,
            rule: Some(Rule::R2),
            over_hours: 433.0 / 12.0,
            counted_spikes: 1,
            coverage: 1.0,
        }
    }

    #[test]
    fn json_line_is_the_documented_one() {
        let opened = r#"{"at":"2024-01-07T12:05:00Z","event":"case_opened","rule":"R2","over_hours":36.08,"counted_spikes":1,"coverage":1.0}"#;
        assert_eq!(serde_json::to_string(&r2()).expect("writes"), opened);
        let flagged = Decision { event: Event::Flagged, rule: None, coverage: 0.53217, ..r2() };
        let line = r#"{"at":"2024-01-07T12:05:00Z","event":"flagged","rule":null,"over_hours":36.08,"counted_spikes":1,"coverage":0.5322}"#;
        assert_eq!(serde_json::to_string(&flagged).expect("writes"), line);
    }

    #[test]
    fn line_for_people_says_the_rule_in_words() {
        let line = "2024-01-07 12:05  case opened (R2, sustained)          36.1 h over, 1 counted spike, 100 % known";
        assert_eq!(r2().to_string(), line);
    }
}
