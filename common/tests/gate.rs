//! The gate's arithmetic: rates against a bucket that is filled and emptied by hand, and the ends of entries.

use proptest::{collection::vec, prelude::*};
use weir_common::gate::{BY_CONFIGURATION, BY_OPERATOR, BY_VERDICT, Bucket, NEVER, PrefixEntry};

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
