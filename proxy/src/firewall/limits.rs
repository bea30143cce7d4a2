//! Rates by key, each a GCRA of the crate `governor`: `burst` requests at once, then one every `window / requests`.
//!
//! A key is hashed with a secret to 128 bits, so a long header costs no more memory than a short one and nobody can look for two
//! keys that share a rate. At most `max_keys` are told apart: keys that have been silent long enough to have all of their burst
//! again make room (looked for at most once a second); without room, all new keys share one rate, and that is counted. So
//! neither memory nor a limit gives way to a crowd of addresses.

mod store;

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
};
use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use weir_config::{LimitKey, RateLimit, RuleId};

use super::{
    Block,
    counts::{Counts, Stage, kept},
    facts::{Facts, joined},
};
use crate::request::reason::Reason;
use store::{Key, Store};

/// Between two looks for keys that can be forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// What a refused client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub limit: RuleId,
    pub requests: u32,
    pub window: Duration,
    /// Until the next request passes; at least a second.
    pub retry_after_seconds: u64,
}

impl Exceeded {
    /// `Retry-After`, and the fields of draft-ietf-httpapi-ratelimit-headers-10: what the limit is, and that nothing is left.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Self { limit, requests, window, retry_after_seconds } = self;
        headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after_seconds));
        let policy = format!("\"{limit}\";q={requests};w={}", window.as_secs().max(1));
        let left = format!("\"{limit}\";r=0;t={retry_after_seconds}");
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            // An id is ASCII without quotes.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// A limit whose state outlives the snapshot.
pub(crate) struct Bucket<C: Clock = DefaultClock> {
    limit: RateLimit,
    governor: RateLimiter<Key, Store, C, NoOpMiddleware<C::Instant>>,
    store: Store,
    secrets: [RandomState; 2],
    start: C::Instant,
    /// Nanoseconds since `start`.
    swept: AtomicU64,
}

impl<C: Clock> Bucket<C> {
    fn new(limit: &RateLimit, clock: C) -> Self {
        let requests = limit.requests.max(1);
        let one = (limit.window / requests).max(Duration::from_nanos(1));
        let burst = NonZeroU32::new(limit.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(one).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let start = clock.now();
        let store = Store::new(limit.max_keys);
        Self {
            limit: limit.clone(),
            governor: RateLimiter::new(quota, store.clone(), clock),
            store,
            secrets: [RandomState::new(), RandomState::new()],
            start,
            swept: AtomicU64::new(0),
        }
    }

    /// Takes one request of the key, or says how long to wait.
    fn take(&self, facts: &Facts<'_>, counts: &Counts) -> Result<(), Duration> {
        let key = self.key(facts);
        if !self.has_room(key) {
            counts.crowded.add();
        }
        self.governor.check_key(&key).map_err(|until| until.wait_time_from(self.governor.clock().now()))
    }

    /// Whether the key has a rate of its own, after a look for room if need be.
    fn has_room(&self, key: Key) -> bool {
        if self.store.has_room(key) {
            return true;
        }
        let now: u64 = self.governor.clock().now().duration_since(self.start).into();
        let swept = self.swept.load(Relaxed);
        let due = now.saturating_sub(swept) >= SWEEP.as_nanos() as u64 || swept == 0;
        if due && self.swept.compare_exchange(swept, now.max(1), Relaxed, Relaxed).is_ok() {
            self.governor.retain_recent();
        }
        self.store.has_room(key)
    }

    fn key(&self, facts: &Facts<'_>) -> Key {
        let [high, low] = [&self.secrets[0], &self.secrets[1]].map(|secret| {
            let mut hasher = secret.build_hasher();
            for part in &self.limit.key {
                match part {
                    LimitKey::Client => self.limit.client(facts.address).hash(&mut hasher),
                    LimitKey::Zone => facts.zone.hash(&mut hasher),
                    LimitKey::Path => facts.path().hash(&mut hasher),
                    LimitKey::Header(name) => {
                        let value = http::HeaderName::from_bytes(name.as_bytes())
                            .ok()
                            .filter(|name| facts.headers.contains_key(name))
                            .map(|name| joined(facts.headers, &name));
                        value.hash(&mut hasher);
                    }
                }
            }
            hasher.finish()
        });
        Key(u128::from(high) << 64 | u128::from(low))
    }
}

struct Limit {
    id: RuleId,
    bucket: Arc<Bucket>,
    dry_run: bool,
    counts: Arc<Counts>,
}

/// The limits of a scope.
#[derive(Default)]
pub(crate) struct Limits(Vec<Limit>);

impl Limits {
    /// A limit that is the same but for `dry_run` goes on with its state.
    pub fn build(limits: &[RateLimit], before: Option<&Self>) -> Self {
        let before = before.map_or(&[][..], |before| &before.0);
        let compile = |limit: &RateLimit| {
            let limit = RateLimit { dry_run: false, ..limit.clone() };
            let known = before.iter().find(|known| known.bucket.limit == limit);
            known.map_or_else(
                || Arc::new(Bucket::new(&limit, DefaultClock::default())),
                |known| known.bucket.clone(),
            )
        };
        let build = |limit: &RateLimit| Limit {
            id: limit.id.clone(),
            bucket: compile(limit),
            dry_run: limit.dry_run,
            counts: kept(before.iter().map(|limit| (&limit.id, &limit.counts)), &limit.id),
        };
        Self(limits.iter().map(build).collect())
    }

    /// Every limit is asked, in order, until one refuses: what those before it have counted stays counted.
    pub fn check(&self, facts: &Facts<'_>) -> Result<(), Block> {
        for Limit { id, bucket, dry_run, counts } in &self.0 {
            let Err(wait) = bucket.take(facts, counts) else { continue };
            counts.matched.add();
            if *dry_run {
                counts.dry_run.add();
                continue;
            }
            counts.blocked.add();
            let exceeded = Exceeded {
                limit: id.clone(),
                requests: bucket.limit.requests,
                window: bucket.limit.window,
                retry_after_seconds: whole_seconds(wait),
            };
            return Err(Block { exceeded: Some(exceeded), ..Block::new(Reason::RateLimited, id) });
        }
        Ok(())
    }

    pub fn counts(&self) -> impl Iterator<Item = (Stage, &RuleId, &Counts)> {
        self.0.iter().map(|limit| (Stage::Limit, &limit.id, &*limit.counts))
    }
}

/// Rounded up, at least one.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests;
