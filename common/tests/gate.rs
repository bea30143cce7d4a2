//! The gate's arithmetic: rates against a bucket that is filled and emptied by hand, and the ends of entries.

use proptest::{collection::vec, prelude::*};
use weir_common::gate::{
    BY_CONFIGURATION, BY_OPERATOR, BY_VERDICT, Bucket, NEVER, OTHER_CPUS_NS, PrefixEntry,
};

proptest! {
    #[test]
    fn a_bucket_lets_as_many_through_as_one_that_is_filled_by_hand(
        token_ns in 1..2_000_000_000_u64,
        burst in 1..300_u64,
        waits in vec(prop_oneof![Just(0), 0..3_000_000_000_u64, 0..600_000_000_000_u64], 1..600),
    ) {
        let burst_ns = (burst - 1) * token_ns;
        let mut now = 1_000_000_000_000;
        let mut bucket = Bucket { full_at_ns: 0 };
        // What is in it, in the time that it took to come.
        let mut level = burst * token_ns;
        for wait in waits {
            now += wait;
            level = (level + wait).min(burst * token_ns);
            let expected = level >= token_ns;
            if expected {
                level -= token_ns;
            }
            let taken = bucket.take(now, token_ns, burst_ns);
            prop_assert_eq!(taken.is_some(), expected);
            bucket = taken.unwrap_or(bucket);
        }
    }
}

proptest! {
    /// Whatever a source did under a rate, under the next one it waits no longer than a new source that has used its burst up.
    #[test]
    fn a_looser_rate_holds_for_sources_that_the_tighter_one_kept_out(
        (tight_token_ns, tight_burst) in (1..60_000_000_000_u64, 1..300_u64),
        (token_ns, burst) in (1..2_000_000_000_u64, 1..300_u64),
        taken in 1..400_u64,
    ) {
        let mut now = 1_000_000_000_000;
        let mut bucket = Bucket { full_at_ns: 0 };
        for _ in 0..taken {
            bucket = bucket.take(now, tight_token_ns, (tight_burst - 1) * tight_token_ns).unwrap_or(bucket);
        }
        let burst_ns = (burst - 1) * token_ns;
        match bucket.take(now, token_ns, burst_ns) {
            Some(less) => { bucket = less; now += token_ns; }
            None => now += token_ns + OTHER_CPUS_NS,
        }
        for _ in 0..3 {
            let less = bucket.take(now, token_ns, burst_ns);
            prop_assert!(less.is_some(), "{bucket:?} at {now}");
            bucket = less.unwrap_or(bucket);
            now += token_ns;
        }
        // And the debt is this rate's: no more than a burst is let through at once.
        let at_once = (0..burst + 1).take_while(|_| match bucket.take(now, token_ns, burst_ns) {
            Some(less) => { bucket = less; true }
            None => false,
        }).count() as u64;
        prop_assert!(at_once <= burst);
    }
}

#[test]
fn a_cpu_whose_clock_was_read_earlier_gets_no_token_for_it() {
    let (token_ns, burst_ns, now) = (1_000_000, 9_000_000, 1_000_000_000_000);
    let mut bucket = Bucket { full_at_ns: 0 };
    while let Some(less) = bucket.take(now, token_ns, burst_ns) {
        bucket = less;
    }
    for late_ns in [0, 1, 1_000, 50_000_000] {
        assert_eq!(bucket.take(now - late_ns, token_ns, burst_ns), None, "{late_ns}");
    }
}

#[test]
fn each_part_of_an_entry_holds_for_itself() {
    let entry = |by, until_boot_ns| PrefixEntry { until_boot_ns, prefix_len: 128, by };
    for by in [BY_OPERATOR, BY_VERDICT] {
        assert!(entry(by, 10).holds(9) && !entry(by, 10).holds(10));
        assert!(entry(by | BY_CONFIGURATION, 10).holds(10), "the configuration's part has no end");
        assert!(!entry(by | BY_CONFIGURATION, 10).has_end_after(10));
        assert!(entry(by, NEVER).holds(u64::MAX - 1));
    }
    assert!(entry(BY_CONFIGURATION, 0).holds(1) && !entry(BY_CONFIGURATION, NEVER).has_end_after(1));
    assert!(!entry(0, NEVER).holds(0), "nobody put it there");
}
