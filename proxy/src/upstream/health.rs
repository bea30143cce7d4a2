//! Whether an origin is left out for a while, from what its connections and answers came to. Nothing is sent to find out.
//!
//! An origin that fails [`Rule::max_fails`] times in a row within [`Rule::timeout`] is left out for that time. When it is
//! over, requests try it again: one more failure leaves it out for twice as long, one success forgets everything. It is a
//! zone's own view: another zone with the same origin has another, so that no customer can have an origin of somebody else's
//! left out.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The longest time, as a multiple of the first.
const LONGEST: u32 = 32;

/// When an origin is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// 0 is never.
    pub max_fails: u32,
    pub timeout: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Health {
    /// There is something to forget. Spares the lock while all is well.
    troubled: AtomicBool,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    fails: u32,
    /// Of the first of these failures.
    since: Option<Instant>,
    out: Option<Out>,
}

#[derive(Debug)]
struct Out {
    until: Instant,
    lasted: Duration,
}

impl Health {
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is left out now.
    pub fn is_out(&self, now: Instant) -> bool {
        self.troubled.load(Relaxed) && self.trouble().out.as_ref().is_some_and(|out| now < out.until)
    }

    /// Notes a failure. Says for how long the origin is left out, if it is from now on.
    pub fn failed(&self, rule: Rule, now: Instant) -> Option<Duration> {
        if rule.max_fails == 0 {
            return None;
        }
        let mut trouble = self.trouble();
        self.troubled.store(true, Relaxed);
        let lasts = match &trouble.out {
            // Asked although it is left out, because all are.
            Some(out) if now < out.until => return None,
            Some(out) => (out.lasted * 2).min(rule.timeout * LONGEST),
            None => {
                let old = trouble.since.is_none_or(|since| now.duration_since(since) > rule.timeout);
                if old {
                    (trouble.fails, trouble.since) = (0, Some(now));
                }
                trouble.fails += 1;
                if trouble.fails < rule.max_fails {
                    return None;
                }
                rule.timeout
            }
        };
        trouble.out = Some(Out { until: now + lasts, lasted: lasts });
        Some(lasts)
    }

    /// Notes a success. True if the origin had been left out.
    pub fn succeeded(&self) -> bool {
        if !self.troubled.load(Relaxed) {
            return false;
        }
        let mut trouble = self.trouble();
        self.troubled.store(false, Relaxed);
        std::mem::take(&mut *trouble).out.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { max_fails: 3, timeout: Duration::from_secs(10) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_leave_an_origin_out_for_a_growing_time() {
        let (health, start) = (Health::default(), Instant::now());
        assert_eq!(health.failed(RULE, start), None);
        assert_eq!(health.failed(RULE, start), None);
        assert!(!health.is_out(start));
        assert_eq!(health.failed(RULE, start), Some(RULE.timeout));
        assert!(health.is_out(after(start, 9)));
        assert_eq!(health.failed(RULE, after(start, 9)), None, "it was asked for want of another");
        let mut now = after(start, 10);
        assert!(!health.is_out(now));
        for seconds in [20, 40, 80, 160, 320, 320] {
            assert_eq!(health.failed(RULE, now), Some(Duration::from_secs(seconds)));
            now = after(now, seconds);
        }
    }

    #[test]
    fn one_success_forgets_everything() {
        let (health, start) = (Health::default(), Instant::now());
        for _ in 0..3 {
            health.failed(RULE, start);
        }
        assert!(health.succeeded());
        assert!(!health.is_out(start));
        assert!(!health.succeeded());
        assert_eq!(health.failed(RULE, start), None);
        assert!(!health.succeeded(), "it had not been left out");
        assert_eq!([health.failed(RULE, start), health.failed(RULE, start)], [None, None]);
    }

    #[test]
    fn failures_that_are_far_apart_do_not_add_up() {
        let (health, start) = (Health::default(), Instant::now());
        for n in 0..10 {
            assert_eq!(health.failed(RULE, after(start, 6 * n)), None, "{n}");
        }
    }

    #[test]
    fn with_0_an_origin_is_never_left_out() {
        let (health, start) = (Health::default(), Instant::now());
        let never = Rule { max_fails: 0, ..RULE };
        assert!((0..100).all(|_| health.failed(never, start).is_none()));
        assert!(!health.is_out(start));
    }
}
