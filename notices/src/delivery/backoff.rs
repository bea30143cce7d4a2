//! When a message is tried again: half a minute, then twice as long each time, up to four hours, spread by a quarter either way
//! so that what failed together does not come back together. The spread follows from the key and the attempt: no randomness.

use sha2::{Digest as _, Sha256};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// The pause after this many attempts; not shorter than what the receiver asked for.
pub fn pause(key: &str, attempts: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST);
    let digest = Sha256::digest(format!("{key}#{attempts}"));
    // 0.75 to 1.25.
    let spread = 0.75 + f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX) / 2.0;
    doubled.mul_f64(spread).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_four_hours_and_are_spread() {
        for attempts in 1..200 {
            let pause = pause("k", attempts, None);
            let middle = 30.0 * 2_f64.powi(attempts.min(17) as i32 - 1);
            let middle = middle.min(14_400.0);
            let share = pause.as_secs_f64() / middle;
            assert!((0.749..=1.251).contains(&share), "{attempts}: {share}");
        }
        let spread: std::collections::HashSet<_> =
            (0..50).map(|n| pause(&format!("k{n}"), 3, None)).collect();
        assert!(spread.len() > 40, "{} of 50 differ", spread.len());
        assert_eq!(pause("k", 3, None), pause("k", 3, None));
    }

    #[test]
    fn receiver_that_asks_for_longer_gets_it() {
        let hour = Duration::from_secs(3600);
        assert_eq!(pause("k", 1, Some(hour)), hour);
        assert!(pause("k", 1, Some(Duration::from_secs(1))) > Duration::from_secs(20));
    }
}
