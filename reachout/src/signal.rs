//! Signs of abuse in what the kernel counts, each against the zone's own baseline.
//!
//! Four families: *source* (a few prefixes hold the sockets), *behaviour* (sockets that say nothing either way, lifetimes that
//! are all alike), *handshake* (upgrades that are not answered by 101, sockets that never send a request) and *shape*
//! (tenfold within 60 s, out of a level that was not rising, and to twice of what is usual). Being above the guideline is none of
//! them. A family speaks when its sign has held for 30 s, by looks that are so far apart: one look does not confirm itself. A baseline
//! is a mean over about a day; all of them stand still while any sign holds, also in a zone that is too small to have one, so an
//! attack does not become normal by lasting. What has held for a day, and no verdict refuses, becomes normal within about a week.
//! A sign says nothing before its own baseline is an hour old. What nobody has looked at is unknown: it is no sign, and no baseline
//! learns from it.

use crate::params::Abuse as Params;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use time::{Duration, OffsetDateTime};

/// A part of a number of things. Of none it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub part: u64,
    pub of: u64,
}

/// What a zone looks like at one moment; about one each 10 s, at least one a minute, at most one a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub at: OffsetDateTime,
    /// Live sockets of the zone.
    pub live: u64,
    /// The number of the look at sockets that prefixes, silent and requestless ones are of. Until the next they say nothing new.
    pub look: u64,
    /// The source prefixes with most of them, largest first.
    pub prefixes: Vec<PrefixCount>,
    /// Sockets whose prefixes were counted; 0 if nobody has looked lately.
    pub sourced: u64,
    /// Live WebSockets, older than a few seconds, without a byte either way.
    pub silent: Share,
    /// Standard deviation of the lifetimes of sockets closed lately, over their mean; none if there are too few.
    pub lifetime_spread: Option<f64>,
    /// Of the last minute's upgrades those that were not answered by 101. One that weir has refused is none.
    pub unanswered: Share,
    /// Sockets that sent no request.
    pub requestless: Share,
    /// The host suffers: the zone is at its abuse cap, or accept queues drop.
    pub harm: bool,
    /// A verdict refuses prefixes now: nothing of it becomes normal.
    pub is_refused: bool,
}

/// A source prefix and its live sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixCount {
    /// `192.0.2.0/24`, `2001:db8::/48`.
    pub prefix: String,
    pub live: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    Source,
    Behaviour,
    Handshake,
    Shape,
}

/// A family that speaks, with the numbers that made it: shares, or live sockets for the shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub family: Family,
    pub baseline: f64,
    pub now: f64,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What an observation amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub families: Vec<Finding>,
    /// The prefixes that hold the sockets; empty unless the source family speaks.
    pub prefixes: Vec<PrefixCount>,
    /// The same, whether or not that is a sign.
    pub largest: Vec<PrefixCount>,
    pub live: u64,
    pub harm: bool,
}

/// One zone's baselines and running signs. Derived: lost, it is silent until its baselines are an hour old again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    baseline: Baseline,
    /// Of the last `shape_seconds`, oldest first.
    samples: VecDeque<(OffsetDateTime, u64)>,
    /// The level that a jump started from, while it lasts.
    jumped_from: Option<u64>,
    since: [Option<OffsetDateTime>; 4],
    /// Since when no baseline has learned for the sake of a sign, counted or not.
    unlearned_since: Option<OffsetDateTime>,
    /// The last look, and when it was first seen.
    look: Option<(u64, OffsetDateTime)>,
    last: Option<OffsetDateTime>,
    shape_silent_until: Option<OffsetDateTime>,
}

/// Means over about a day of quiet time, but for the level, which is of the last 10 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Baseline {
    top: Mean,
    silent: Mean,
    lifetime_spread: Mean,
    unanswered: Mean,
    requestless: Mean,
    usual: Mean,
    level: Mean,
}

/// A mean, and over how much time it was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    value: f32,
    seconds: f32,
}

/// A sign that holds: what is normal, what is, and when it was looked at.
#[derive(Clone, Copy)]
struct Sign {
    baseline: f64,
    now: f64,
    at: OffsetDateTime,
}

/// How fast baselines learn.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    Usual,
    /// What was strange for a day.
    Slow,
}

/// A sign that is older needs no hurry.
const RESTLESS: Duration = Duration::minutes(30);
/// What was a sign for so long, and was not refused, begins to be learned, so many times slower than else.
const CHRONIC: Duration = Duration::DAY;
const SLOWER: f32 = 7.0;
const DAY_SECONDS: f32 = 86_400.0;
const LEVEL_SECONDS: f32 = 600.0;
/// Lifetimes that differ by less than this part of their mean are a program's.
const ALIKE: f64 = 0.1;
/// A prefix with a smaller share of the zone's sockets is not refused.
const PREFIX_SHARE: f64 = 0.1;
/// A jump starts from a level that had not even doubled in 10 minutes (popularity has a rising tail before it), and goes above
/// twice of what is usual (clients that were lost and come back do not).
const NO_TAIL: f64 = 2.0;
/// A share of fewer is no sign.
const SAMPLE: u64 = 20;
/// The top prefixes of so few sockets, in sockets a prefix, hold most of them whoever they are: nothing is learned of it.
const SPREAD: u64 = 4;
/// The number of the form that [`Signals::encode`] writes.
const FORM: u8 = 1;
const MEANS: usize = 7;

impl Signals {
    /// Our own restart looks like a jump from 0.
    pub fn restarted(&mut self, params: &Params, at: OffsetDateTime) {
        self.samples.clear();
        self.jumped_from = None;
        self.shape_silent_until = Some(at + Duration::minutes(params.restart_silence_minutes.into()));
    }

    /// A sign is young, so that the next observation should come soon.
    pub fn is_restless(&self, now: OffsetDateTime) -> bool {
        self.since.iter().flatten().any(|since| now - *since < RESTLESS)
    }

    /// The level of the last 10 minutes.
    pub fn level(&self) -> f64 {
        self.baseline.level.value.into()
    }

    /// The baselines as bytes; none if nothing was learned.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let means = self.baseline.each();
        let learned = means.iter().any(|mean| mean.seconds > 0.0);
        let words = means.iter().flat_map(|mean| [mean.value, mean.seconds]);
        learned.then(|| std::iter::once(FORM).chain(words.flat_map(f32::to_le_bytes)).collect())
    }

    /// What [`Signals::encode`] wrote; nothing of bytes that are none of it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        if *form != FORM || rest.len() != MEANS * 8 {
            return None;
        }
        let words = rest.chunks_exact(4).map(|word| word.try_into().map(f32::from_le_bytes));
        let words: Vec<f32> = words.collect::<Result<_, _>>().ok()?;
        if words.iter().any(|word| !word.is_finite() || *word < 0.0) {
            return None;
        }
        let mean = |n: usize| Mean { value: words[2 * n], seconds: words[2 * n + 1] };
        Some(Self { baseline: Baseline::of(std::array::from_fn(mean)), ..Self::default() })
    }

    pub fn observe(&mut self, params: &Params, seen: &Observation) -> Findings {
        let elapsed = self.last.map_or(0.0, |last| (seen.at - last).as_seconds_f32().clamp(0.0, 60.0));
        self.last = Some(seen.at);
        let (_, looked) = *match &mut self.look {
            Some(look) if look.0 == seen.look => look,
            look => look.insert((seen.look, seen.at)),
        };
        let top = seen.top(params);
        let signs = [
            self.share(params, top, &self.baseline.top).map(Sign::seen(looked)),
            self.behaviour(params, seen, looked),
            self.handshake(params, seen, looked),
            self.shape(params, seen).map(Sign::seen(seen.at)),
        ];
        let counts = seen.live >= params.minimum_live;
        // A jump of a few sockets is nothing; shares that are strange are not learned of a few either.
        let is_strange = signs[..3].iter().any(Option::is_some) || (counts && signs[3].is_some());
        let mut families = Vec::new();
        for ((since, sign), family) in self.since.iter_mut().zip(signs).zip(Family::ALL) {
            let Some(Sign { baseline, now, at }) = sign.filter(|_| counts) else {
                *since = None;
                continue;
            };
            let began = *since.get_or_insert(at);
            if at - began >= Duration::seconds(params.confirm_seconds.into()) {
                families.push(Finding { family, baseline, now, since: began });
            }
        }
        self.learn(params, elapsed, seen, top, is_strange);
        let largest = seen.large_prefixes(params);
        let concentrated = families.iter().any(|finding| finding.family == Family::Source);
        let prefixes = if concentrated { largest.clone() } else { Vec::new() };
        Findings { families, prefixes, largest, live: seen.live, harm: seen.harm }
    }

    fn learn(&mut self, params: &Params, elapsed: f32, seen: &Observation, top: Share, is_strange: bool) {
        self.baseline.level.learn(elapsed, Some(seen.live as f64), LEVEL_SECONDS, Pace::Usual);
        if !is_strange {
            self.unlearned_since = None;
            return self.baseline.learn(params, elapsed, seen, top, Pace::Usual);
        }
        let since = *self.unlearned_since.get_or_insert(seen.at);
        if seen.at - since > CHRONIC && !seen.is_refused {
            self.baseline.learn(params, elapsed, seen, top, Pace::Slow);
        }
    }

    /// The baseline and the share, if it is large enough, and larger than usual, to be a sign.
    fn share(&self, params: &Params, now: Share, baseline: &Mean) -> Option<(f64, f64)> {
        let (now, usual) = (now.value().filter(|_| now.of >= SAMPLE)?, f64::from(baseline.value));
        let is_sign = now >= params.share && now >= params.baseline_ratio * usual;
        (is_sign && baseline.is_known(params)).then_some((usual, now))
    }

    fn behaviour(&self, params: &Params, seen: &Observation, looked: OffsetDateTime) -> Option<Sign> {
        let baseline = &self.baseline.lifetime_spread;
        let usual = f64::from(baseline.value);
        let alike = |spread: &f64| {
            baseline.is_known(params)
                && *spread <= ALIKE
                && usual > ALIKE
                && usual >= params.baseline_ratio * spread
        };
        let silent = self.share(params, seen.silent, &self.baseline.silent);
        let alike = || seen.lifetime_spread.filter(alike).map(|spread| (usual, spread));
        silent.map(Sign::seen(looked)).or_else(|| alike().map(Sign::seen(seen.at)))
    }

    fn handshake(&self, params: &Params, seen: &Observation, looked: OffsetDateTime) -> Option<Sign> {
        let unanswered = self.share(params, seen.unanswered, &self.baseline.unanswered);
        let requestless = || self.share(params, seen.requestless, &self.baseline.requestless);
        unanswered.map(Sign::seen(seen.at)).or_else(|| requestless().map(Sign::seen(looked)))
    }

    fn shape(&mut self, params: &Params, seen: &Observation) -> Option<(f64, f64)> {
        let oldest = seen.at - Duration::seconds(params.shape_seconds.into());
        while self.samples.front().is_some_and(|(at, _)| *at < oldest || *at > seen.at) {
            self.samples.pop_front();
        }
        let before = self.samples.front().map(|(_, live)| *live);
        // About eight samples are enough to know a minute.
        let spacing = Duration::seconds_f64(f64::from(params.shape_seconds) / 8.0);
        if self.samples.back().is_none_or(|(at, _)| seen.at - *at >= spacing) {
            self.samples.push_back((seen.at, seen.live));
        }
        if self.shape_silent_until.is_some_and(|until| seen.at < until) {
            return None;
        }
        let (live, usual) = (seen.live as f64, f64::from(self.baseline.usual.value));
        let tenfold = |from: u64| live >= params.shape_ratio * (from.max(1)) as f64;
        let flat = |from: &u64| *from as f64 <= NO_TAIL * self.level().max(1.0);
        let jumps =
            |from: &u64| self.baseline.usual.is_known(params) && tenfold(*from) && live > NO_TAIL * usual;
        self.jumped_from = match self.jumped_from {
            // It lasts until it is half undone, or what is usual has come up to it.
            Some(from) if live * 2.0 >= params.shape_ratio * from.max(1) as f64 && live > NO_TAIL * usual => {
                Some(from)
            }
            _ => before.filter(flat).filter(jumps),
        };
        self.jumped_from.map(|from| (from as f64, live))
    }
}

impl Sign {
    fn seen(at: OffsetDateTime) -> impl Fn((f64, f64)) -> Self {
        move |(baseline, now)| Self { baseline, now, at }
    }
}

impl Family {
    const ALL: [Self; 4] = [Self::Source, Self::Behaviour, Self::Handshake, Self::Shape];
}

impl Share {
    pub const fn new(part: u64, of: u64) -> Self {
        Self { part, of }
    }

    /// One more, which is of the part or is not.
    pub fn count(&mut self, is_part: bool) {
        self.part += u64::from(is_part);
        self.of += 1;
    }

    /// Between 0 and 1.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.part.min(self.of) as f64 / self.of as f64)
    }
}

impl Observation {
    fn top(&self, params: &Params) -> Share {
        let part = self.prefixes.iter().take(params.top_prefixes).map(|prefix| prefix.live).sum();
        Share { part, of: self.sourced }
    }

    fn large_prefixes(&self, params: &Params) -> Vec<PrefixCount> {
        let large = |prefix: &&PrefixCount| prefix.live as f64 >= PREFIX_SHARE * self.sourced as f64;
        self.prefixes.iter().take(params.top_prefixes).filter(large).cloned().collect()
    }
}

impl Baseline {
    fn of([top, silent, lifetime_spread, unanswered, requestless, usual, level]: [Mean; MEANS]) -> Self {
        Self { top, silent, lifetime_spread, unanswered, requestless, usual, level }
    }

    fn each(&self) -> [Mean; MEANS] {
        let Self { top, silent, lifetime_spread, unanswered, requestless, usual, level } = *self;
        [top, silent, lifetime_spread, unanswered, requestless, usual, level]
    }

    /// All but the level, which is what it is, strange or not.
    fn learn(&mut self, params: &Params, elapsed: f32, seen: &Observation, top: Share, pace: Pace) {
        let is_spread = top.of >= SPREAD * params.top_prefixes as u64;
        self.top.learn(elapsed, top.value().filter(|_| is_spread), DAY_SECONDS, pace);
        self.silent.learn(elapsed, seen.silent.value(), DAY_SECONDS, pace);
        self.lifetime_spread.learn(elapsed, seen.lifetime_spread, DAY_SECONDS, pace);
        self.unanswered.learn(elapsed, seen.unanswered.value(), DAY_SECONDS, pace);
        self.requestless.learn(elapsed, seen.requestless.value(), DAY_SECONDS, pace);
        self.usual.learn(elapsed, Some(seen.live as f64), DAY_SECONDS, pace);
    }
}

impl Mean {
    /// A plain mean at first, then one that forgets what is longer ago than `most_seconds`.
    fn learn(&mut self, elapsed: f32, now: Option<f64>, most_seconds: f32, pace: Pace) {
        let Some(now) = now else { return };
        let is_first = self.seconds == 0.0;
        self.seconds = (self.seconds + elapsed).min(most_seconds);
        let part = match pace {
            _ if is_first => 1.0,
            Pace::Usual => elapsed / self.seconds,
            Pace::Slow => elapsed / (SLOWER * most_seconds),
        };
        self.value += (now as f32 - self.value) * part;
    }

    fn is_known(&self, params: &Params) -> bool {
        f64::from(self.seconds) >= f64::from(params.baseline_minutes) * 60.0
    }
}
