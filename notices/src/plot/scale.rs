//! From time and counts to places in the picture, and the numbers at its axes.

use time::{Duration, OffsetDateTime, Time};
use weir_reachout::slot::SlotIndex;

/// The part of the picture that the curve is in, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// Where a slot and a count are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub frame: Frame,
    from: SlotIndex,
    slots: f64,
    top_count: f64,
}

impl Scale {
    /// `highest` is the highest count that has to be seen.
    pub fn new(frame: Frame, from: SlotIndex, until: SlotIndex, highest: f64) -> Self {
        let slots = f64::from(until.since(from).max(1));
        Self { frame, from, slots, top_count: highest.max(1.0) * 1.06 }
    }

    /// The left edge of a slot.
    pub fn x(&self, slot: SlotIndex) -> f64 {
        let (Frame { left, right, .. }, n) = (self.frame, f64::from(slot.since(self.from)));
        (left + (right - left) * n / self.slots).min(right)
    }

    pub fn y(&self, count: f64) -> f64 {
        let Frame { top, bottom, .. } = self.frame;
        bottom - (bottom - top) * (count / self.top_count).clamp(0.0, 1.0)
    }

    /// Round numbers from 0 to the top, five to nine of them.
    pub fn counts(&self) -> Vec<u64> {
        let rough = (self.top_count / 6.0).max(1.0);
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * magnitude).find(|step| *step >= rough);
        // Whole numbers only: 2.5 of anything is for tens.
        let step = step.unwrap_or(magnitude * 10.0).ceil().max(1.0);
        (0..=9_u32)
            .map(|n| f64::from(n) * step)
            .take_while(|n| *n <= self.top_count)
            .map(|n| n as u64)
            .collect()
    }

    /// Every midnight, and whether its date is written.
    pub fn midnights(&self, until: SlotIndex) -> Vec<(OffsetDateTime, bool)> {
        let (from, end) = (self.from.start(), until.start());
        let first = from.replace_time(Time::MIDNIGHT);
        let first = if first < from { first.saturating_add(Duration::DAY) } else { first };
        let days = (end - first).whole_days().max(0);
        let every = (days / 10 + 1).max(1);
        let midnight = |n: i64| first.saturating_add(Duration::days(n));
        // A year at most, whatever is asked for.
        (0..=days.min(366)).map(|n| (midnight(n), n % every == 0)).filter(|(at, _)| *at <= end).collect()
    }
}

/// `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(highest: f64) -> Scale {
        let frame = Frame { left: 0.0, right: 720.0, top: 0.0, bottom: 300.0 };
        let from = SlotIndex::containing(time::macros::datetime!(2026-10-28 07:35 UTC));
        Scale::new(frame, from, from.forth(8640), highest)
    }

    #[test]
    fn thousands_are_set_apart() {
        let written = [0, 999, 1000, 65_536, 1_234_567].map(thousands);
        assert_eq!(written, ["0", "999", "1,000", "65,536", "1,234,567"]);
    }

    #[test]
    fn axis_has_few_round_whole_numbers_whatever_the_counts() {
        for highest in [0.0, 1.0, 7.0, 26.0, 1100.0, 98_765.0, 12_000_000.0] {
            let scale = scale(highest);
            let counts = scale.counts();
            assert!((2..=9).contains(&counts.len()), "{highest}: {counts:?}");
            assert!(counts.windows(2).all(|two| two[0] < two[1]), "{highest}: {counts:?}");
            assert!(highest < 7.0 || counts.len() >= 4, "{highest}: {counts:?}");
        }
        assert_eq!(scale(1500.0).counts(), [0, 500, 1000, 1500]);
    }

    #[test]
    fn days_begin_at_midnight_utc() {
        let until = SlotIndex::containing(time::macros::datetime!(2026-11-27 07:35 UTC));
        let midnights = scale(1.0).midnights(until);
        assert_eq!(midnights.len(), 30);
        assert_eq!(midnights[0].0, time::macros::datetime!(2026-10-29 0:00 UTC));
        assert_eq!(midnights.iter().filter(|(_, written)| *written).count(), 10);
    }
}
