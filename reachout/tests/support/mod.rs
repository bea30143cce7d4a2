//! Helpers of the policy's tests: shapes of usage in days, and the policy written a second time without any cleverness.
#![allow(dead_code, reason = "each test crate uses its own part")]

pub mod naive;
pub mod shell;

use std::fmt::Write;
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    decision::{Decision, Event},
    detector::Detector,
    policy::Policy,
    slot::{Slot, SlotIndex},
};

/// Day 0, 00:00.
pub const DAY_0: OffsetDateTime = datetime!(2024-01-01 00:00 UTC);
pub const SLOTS_A_DAY: usize = 288;

/// A moment by day and `HH:MM`.
pub fn day(day: i64, clock: &str) -> OffsetDateTime {
    let (hours, minutes) = clock.split_once(':').expect("HH:MM");
    let (hours, minutes) = (hours.parse().expect("hours"), minutes.parse().expect("minutes"));
    DAY_0 + Duration::days(day) + Duration::hours(hours) + Duration::minutes(minutes)
}

/// One value a slot for `days` days: `value(days since day 0)` at the slot's start.
pub fn shape(days: usize, value: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..days * SLOTS_A_DAY).map(|slot| value(slot as f64 / SLOTS_A_DAY as f64)).collect()
}

/// True from `hour` of the day on for `minutes` of the day.
pub fn within(t: f64, hour: f64, minutes: f64) -> bool {
    let of_day = (t.fract() * 1440.0).round();
    (hour * 60.0..hour * 60.0 + minutes).contains(&of_day)
}

/// Decisions of `weir simulate` at G = 1000.
pub fn simulated(values: &[f64]) -> Vec<Decision> {
    let decisions = weir_reachout::simulate::simulate(&Policy::default(), 1000, csv(values).as_bytes());
    decisions.expect("a good series")
}

/// The shape as the CSV that `weir simulate` reads.
pub fn csv(values: &[f64]) -> String {
    let mut text = String::from("timestamp,live\n");
    for (slot, value) in values.iter().enumerate() {
        let at = DAY_0 + Duration::minutes(5 * slot as i64);
        let (h, m, s) = at.time().as_hms();
        writeln!(text, "{} {h:02}:{m:02}:{s:02},{value}", at.date()).expect("writes to a string");
    }
    text
}

/// Feeds a detector value by value.
pub fn feed(
    detector: &mut Detector,
    policy: &Policy,
    from: OffsetDateTime,
    values: &[f64],
    guideline: u64,
) -> Vec<Decision> {
    let first = SlotIndex::containing(from);
    let slots = values.iter().zip(0..).map(|(value, n)| Slot {
        index: first.forth(n),
        value: *value,
        max: *value,
        complete: 1.0,
    });
    slots.flat_map(|slot| detector.observe(policy, slot.index, slot.judge(policy, guideline))).collect()
}

/// The dates of one kind of decision.
pub fn dates(decisions: &[Decision], event: Event) -> Vec<OffsetDateTime> {
    decisions.iter().filter(|decision| decision.event == event).map(|decision| decision.at).collect()
}

/// Everything but the spikes.
pub fn without_spikes(decisions: &[Decision]) -> Vec<(OffsetDateTime, Event)> {
    let others = decisions.iter().filter(|decision| decision.event != Event::SpikeCounted);
    others.map(|decision| (decision.at, decision.event)).collect()
}
