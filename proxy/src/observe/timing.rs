//! How long something took, in buckets: two relaxed additions a duration, no lock, and no memory but the buckets'.

use std::time::Duration;

use crate::observe::counters::Counter;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Upper bounds, those of Prometheus' own clients down to 1 ms; what takes longer is in one more bucket.
pub(crate) const BOUNDS: [Duration; 13] = [
    ms(1),
    Duration::from_micros(2500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1000),
    ms(2500),
    ms(5000),
    ms(10_000),
];

/// Durations of one kind.
#[derive(Debug, Default)]
pub struct Timing {
    buckets: [Counter; BOUNDS.len() + 1],
    sum_us: Counter,
}

impl Timing {
    pub(crate) fn add(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket].add(1);
        self.sum_us.add(u64::try_from(took.as_micros()).unwrap_or(0));
    }

    /// Durations so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// Each bound with the durations up to it, then how many there are in all, and their sum. The buckets are read once, so
    /// that no bucket exceeds the total.
    pub(crate) fn read(&self) -> (Vec<(Duration, u64)>, u64, Duration) {
        let mut at_most = 0;
        let mut rising = self.buckets.iter().map(|bucket| {
            at_most += bucket.get();
            at_most
        });
        let buckets: Vec<_> = BOUNDS.into_iter().zip(rising.by_ref()).collect();
        let total = rising.next().unwrap_or_default();
        (buckets, total, Duration::from_micros(self.sum_us.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_every_bucket_that_it_does_not_exceed() {
        let timing = Timing::default();
        for took in [Duration::ZERO, ms(1), Duration::from_micros(1001), ms(70), ms(3_600_000)] {
            timing.add(took);
        }
        let (buckets, total, sum) = timing.read();
        let at_most = |bound| buckets.iter().find(|(of, _)| *of == bound).expect("a bucket").1;
        assert_eq!((at_most(ms(1)), at_most(Duration::from_micros(2500)), at_most(ms(50))), (2, 3, 3));
        assert_eq!((at_most(ms(100)), at_most(ms(10_000)), total), (4, 4, 5));
        assert_eq!(sum, Duration::from_micros(1000 + 1001 + 70_000 + 3_600_000_000));
    }
}
