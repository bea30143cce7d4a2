//! The audit of the doomed: the host's number of sockets that wait to be ended, against the tags that say so.
//!
//! A number that is too high has the agent walk the socket list every second for nothing; one that is too low has sockets above a cap
//! live on. It is compared as a slot's counts are: what was ever doomed and what is still tell how many came and went during the list.

use super::distance;

/// The host's number, read beside the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub live: u64,
    pub ever: u64,
}

impl Reading {
    fn gone(self) -> u64 {
        self.ever.wrapping_sub(self.live)
    }
}

/// Count minus truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoomedDrift {
    pub sockets: i64,
    /// Nothing moved while it was seen, so it is known to the unit.
    pub exact: bool,
    reading: Reading,
}

/// The difference, if the number is outside of what the list allows.
pub fn compare(before: Reading, after: Reading, seen: u64) -> Option<DoomedDrift> {
    let gone = after.gone().wrapping_sub(before.gone());
    let sockets = distance(before.live, gone, after.ever.wrapping_sub(before.ever), seen);
    (sockets != 0).then_some(DoomedDrift { sockets, exact: before == after, reading: after })
}

/// Only what both passes saw is suspect, and exact only if nothing moved in between.
pub fn confirm(earlier: Option<DoomedDrift>, later: Option<DoomedDrift>) -> Option<DoomedDrift> {
    let (earlier, later) = (earlier?, later?);
    let same_side = earlier.sockets.signum() == later.sockets.signum();
    same_side.then_some(DoomedDrift { exact: later.exact && earlier == later, ..later })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(live: u64, ever: u64) -> Reading {
        Reading { live, ever }
    }

    #[test]
    fn a_quiet_number_must_agree_to_the_unit() {
        assert_eq!(compare(of(2, 9), of(2, 9), 2), None);
        let high = compare(of(3, 9), of(3, 9), 2).unwrap();
        assert_eq!((high.sockets, high.exact), (1, true));
        assert_eq!(compare(of(u64::MAX, 9), of(u64::MAX, 9), 1).unwrap().sockets, -2, "below 0");
    }

    #[test]
    fn what_came_or_went_meanwhile_is_no_drift_and_proves_nothing() {
        for seen in 1..=5 {
            assert_eq!(compare(of(3, 9), of(3, 11), seen), None, "2 came, 2 went: {seen} in the list");
        }
        assert!(!compare(of(3, 9), of(3, 11), 6).unwrap().exact);
        let still = compare(of(3, 9), of(3, 9), 2);
        assert!(confirm(still, still).unwrap().exact);
        assert!(!confirm(still, compare(of(3, 10), of(3, 10), 2)).unwrap().exact, "one came and one went");
        assert_eq!(confirm(still, None), None);
        assert_eq!(confirm(still, compare(of(3, 9), of(3, 9), 4)), None, "above and below is no drift");
    }
}
