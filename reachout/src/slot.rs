//! Aligned slots of 5 minutes: what the policy judges.
//!
//! A slot's value is the time-mean of the zone's live WebSockets over the fleet, its completeness the part of the slot (in
//! time and in hosts) that the value rests on. What is missing adds nothing to the mean, so an incomplete value is a lower
//! bound: it can prove that a slot is over, never that it is under. Judged against the guideline in force at the slot's
//! start, a slot becomes a [`Judgement`]; only that is kept by the detector, so a later plan never judges it again.

use crate::policy::Policy;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Length of a slot.
pub const SLOT_SECONDS: i64 = 300;
const SLOT_MS: u32 = 300_000;
pub(crate) const SLOTS_PER_HOUR: f64 = 12.0;

/// Sums of shares and counts that should be equal differ in the last bits; nothing real is as near as this.
const EPSILON: f64 = 1e-9;

/// The number of a slot since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotIndex(pub(crate) u32);

impl SlotIndex {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The slot that holds this moment; before 1970 the first one.
    pub fn containing(at: OffsetDateTime) -> Self {
        Self::of_seconds(at.unix_timestamp())
    }

    /// The first slot that starts at this moment or later.
    pub fn from_on(at: OffsetDateTime) -> Self {
        let slot = Self::containing(at);
        if slot.start() < at { slot.next() } else { slot }
    }

    /// Slots since 1970-01-01T00:00:00Z.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The slot of that number.
    pub const fn of_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn of_seconds(unix: i64) -> Self {
        Self(u32::try_from(unix.div_euclid(SLOT_SECONDS).max(0)).unwrap_or(u32::MAX))
    }

    pub fn start(self) -> OffsetDateTime {
        moment(i64::from(self.0) * SLOT_SECONDS)
    }

    /// The next slot's start: the date of every decision on this slot.
    pub fn end(self) -> OffsetDateTime {
        moment((i64::from(self.0) + 1) * SLOT_SECONDS)
    }

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// `n` slots earlier; the first one if there are not as many.
    pub fn back(self, n: u32) -> Self {
        Self(self.0.saturating_sub(n))
    }

    /// `n` slots later.
    pub fn forth(self, n: u32) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// Slots from `earlier` to this one; 0 if it is not earlier.
    pub fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

fn moment(unix: i64) -> OffsetDateTime {
    // A u32 of slots ends in the year 42,801; `time` without `large-dates` ends in 9999.
    OffsetDateTime::from_unix_timestamp(unix).unwrap_or_else(|_| time::PrimitiveDateTime::MAX.assume_utc())
}

/// A slot that is over and done with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub index: SlotIndex,
    /// Time-mean of live WebSockets; a lower bound unless the slot is complete.
    pub value: f64,
    /// Highest count that was seen, for the plot and for evidence.
    pub max: f64,
    /// The part of the slot that is known, 0 to 1.
    pub complete: f64,
}

impl Slot {
    pub fn is_complete(&self) -> bool {
        self.complete >= 1.0 - EPSILON
    }

    /// Against the guideline that was in force at the slot's start.
    pub fn judge(&self, policy: &Policy, guideline: u64) -> Judgement {
        let above = |ratio: f64| {
            let bound = ratio * guideline as f64;
            self.value > bound + bound * EPSILON
        };
        let detection = policy.detection();
        if above(detection.over_ratio) {
            Judgement::Over
        } else if !self.is_complete() {
            Judgement::Unknown
        } else if above(detection.normal_ratio) {
            Judgement::Tolerated
        } else {
            Judgement::Within
        }
    }
}

/// What a slot is to the policy. The two kinds of *under* differ only for "back to normal".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Judgement {
    /// Not known well enough, or left out because an attack's verdict covers it.
    Unknown = 0,
    /// Under, at most at the guideline.
    Within = 1,
    /// Under, between the guideline and 1.10 of it.
    Tolerated = 2,
    /// Above 1.10 of the guideline.
    Over = 3,
}

impl Judgement {
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Within, Self::Tolerated, Self::Over];

    pub fn is_under(self) -> bool {
        matches!(self, Self::Within | Self::Tolerated)
    }

    pub fn is_known(self) -> bool {
        self != Self::Unknown
    }

    /// What two views of one slot prove together: late data can turn the unknown into something known and prove a slot
    /// over; it never makes an over slot anything less.
    pub fn with_late(self, late: Self) -> Self {
        if late as u8 > self as u8 { late } else { self }
    }
}

/// Collects one slot. Kept through a restart it goes on where it was; the gap stays unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotBuilder {
    index: SlotIndex,
    held_ms: u32,
    /// Count times milliseconds.
    area: f64,
    /// Milliseconds times completeness.
    known_ms: f64,
    max: f64,
}

impl SlotBuilder {
    pub fn new(index: SlotIndex) -> Self {
        Self { index, held_ms: 0, area: 0.0, known_ms: 0.0, max: 0.0 }
    }

    pub fn index(&self) -> SlotIndex {
        self.index
    }

    /// `live` WebSockets for `duration_ms`, summed over the part `complete` (0 to 1) of the fleet. What would make the slot
    /// longer than 5 minutes is cut off: a clock that went back cannot make a mean larger.
    pub fn hold(&mut self, duration_ms: u32, live: f64, complete: f64) {
        let duration_ms = duration_ms.min(SLOT_MS - self.held_ms);
        if duration_ms == 0 {
            return;
        }
        self.held_ms += duration_ms;
        self.area += f64::from(duration_ms) * live;
        self.known_ms += f64::from(duration_ms) * complete.clamp(0.0, 1.0);
        self.max = self.max.max(live);
    }

    pub fn finish(self) -> Slot {
        let length = f64::from(SLOT_MS);
        Slot { index: self.index, value: self.area / length, max: self.max, complete: self.known_ms / length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(value: f64, complete: f64) -> Slot {
        Slot { index: SlotIndex(0), value, max: value, complete }
    }

    #[test]
    fn exactly_110_percent_is_not_over() {
        let policy = Policy::default();
        for guideline in (10..20_000).step_by(10) {
            let bound = (guideline + guideline / 10) as f64;
            assert_eq!(slot(bound, 1.0).judge(&policy, guideline), Judgement::Tolerated, "G = {guideline}");
            assert_eq!(slot(bound + 0.01, 1.0).judge(&policy, guideline), Judgement::Over, "G = {guideline}");
        }
        assert_eq!(slot(1000.0, 1.0).judge(&policy, 1000), Judgement::Within);
    }

    #[test]
    fn incomplete_sum_is_a_lower_bound() {
        let policy = Policy::default();
        assert_eq!(slot(1101.0, 0.2).judge(&policy, 1000), Judgement::Over);
        assert_eq!(slot(1099.0, 0.99).judge(&policy, 1000), Judgement::Unknown);
        assert_eq!(slot(0.0, 0.0).judge(&policy, 1000), Judgement::Unknown);
        assert_eq!(slot(0.0, 1.0).judge(&policy, 0), Judgement::Within);
    }

    #[test]
    fn mean_is_weighted_by_time_and_missing_time_adds_nothing() {
        let mut builder = SlotBuilder::new(SlotIndex(7));
        builder.hold(60_000, 500.0, 1.0);
        builder.hold(180_000, 1000.0, 1.0);
        let slot = builder.clone().finish();
        assert_eq!((slot.value, slot.max, slot.complete), (700.0, 1000.0, 0.8));
        builder.hold(60_000, 0.0, 1.0);
        assert!(builder.clone().finish().is_complete());
        builder.hold(60_000, 1e9, 1.0);
        assert_eq!(builder.finish().value, 700.0, "a second minute that does not exist adds nothing");
    }

    #[test]
    fn three_hundred_seconds_make_a_complete_slot() {
        let mut builder = SlotBuilder::new(SlotIndex(0));
        for _ in 0..300 {
            builder.hold(1000, 3.3, 1.0);
        }
        let slot = builder.finish();
        assert!(slot.is_complete());
        assert_eq!(slot.judge(&Policy::default(), 3), Judgement::Tolerated);
    }

    #[test]
    fn slots_are_aligned_and_dated_at_their_end() {
        let at = time::macros::datetime!(2024-02-29 23:59:59.999 UTC);
        let index = SlotIndex::containing(at);
        assert_eq!(index.start(), time::macros::datetime!(2024-02-29 23:55 UTC));
        assert_eq!(index.end(), time::macros::datetime!(2024-03-01 00:00 UTC));
        assert_eq!(SlotIndex::containing(time::macros::datetime!(1969-12-31 0:00 UTC)), SlotIndex(0));
        assert_eq!(SlotIndex(u32::MAX).end().year(), 9999);
    }

    #[test]
    fn late_data_never_makes_a_slot_less_than_over() {
        for known in Judgement::ALL {
            assert_eq!(Judgement::Over.with_late(known), Judgement::Over);
            assert_eq!(Judgement::Unknown.with_late(known), known);
        }
    }
}
