//! Signs of abuse in what the kernel and the proxy count, each against the zone's own baseline.
//!
//! Four families: *source* (a few prefixes hold the sockets), *behaviour* (sockets that say nothing either way, lifetimes that
//! are all alike), *handshake* (upgrades that are not answered by 101, sockets that never send a request) and *shape*
//! (tenfold within 60 s, out of a level that was not rising). Being above the guideline is none of them. A family speaks when
//! its sign has held for 30 s. The baseline is a mean over about a day; it stands still while any sign holds, so an attack
//! does not become normal by lasting, and a family says nothing before its baseline is an hour old.

use crate::params::Abuse as Params;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use time::{Duration, OffsetDateTime};

/// What a zone looks like at one moment; about one each 10 s, at most one a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub at: OffsetDateTime,
    /// Live sockets of the zone.
    pub live: u64,
    /// The source prefixes with most of them, largest first.
    pub prefixes: Vec<PrefixCount>,
    /// Share of the live sockets, older than a few seconds, without a byte either way.
    pub silent: f64,
    /// Standard deviation of the lifetimes of sockets closed lately, over their mean; none if there are too few.
    pub lifetime_spread: Option<f64>,
    /// Share of the last minute's upgrades that were not answered by 101.
    pub unanswered: f64,
    /// Share of the last minute's sockets that sent no request.
    pub requestless: f64,
    /// The host suffers: the zone is at its abuse cap, or accept queues drop.
    pub harm: bool,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    pub families: Vec<Finding>,
    /// The prefixes that hold the sockets; empty unless the source family speaks.
    pub prefixes: Vec<PrefixCount>,
    pub live: u64,
    pub harm: bool,
}

/// One zone's baselines and running signs. Derived: lost, it is silent until its baselines are an hour old again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    baseline: Baseline,
    /// Of the last `shape_seconds`, oldest first.
    samples: VecDeque<(OffsetDateTime, u64)>,
    /// The level that a jump started from, while it lasts.
    jumped_from: Option<u64>,
    since: [Option<OffsetDateTime>; 4],
    last: Option<OffsetDateTime>,
    shape_silent_until: Option<OffsetDateTime>,
}

/// Means over about a day of quiet time, but for the level, which is of the last 10 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Baseline {
    seconds: f64,
    top: f64,
    silent: f64,
    lifetime_spread: f64,
    unanswered: f64,
    requestless: f64,
    level: f64,
}

const DAY_SECONDS: f64 = 86_400.0;
const LEVEL_SECONDS: f64 = 600.0;
/// Lifetimes that differ by less than this part of their mean are a program's.
const ALIKE: f64 = 0.1;
/// A prefix with a smaller share of the zone's sockets is not refused.
const PREFIX_SHARE: f64 = 0.1;
/// A jump starts from a level that had not even doubled in 10 minutes: popularity has a rising tail before it.
const NO_TAIL: f64 = 2.0;

impl Signals {
    /// Our own restart looks like a jump from 0.
    pub fn restarted(&mut self, params: &Params, at: OffsetDateTime) {
        self.samples.clear();
        self.jumped_from = None;
        self.shape_silent_until = Some(at + Duration::minutes(params.restart_silence_minutes.into()));
    }

    pub fn observe(&mut self, params: &Params, seen: &Observation) -> Findings {
        let elapsed = self.last.map_or(0.0, |last| (seen.at - last).as_seconds_f64().clamp(0.0, 60.0));
        self.last = Some(seen.at);
        let top = seen.top_share(params);
        let signs = [
            self.share(params, top, self.baseline.top).map(|baseline| (baseline, top)),
            self.behaviour(params, seen),
            self.handshake(params, seen),
            self.shape(params, seen),
        ];
        let counts = seen.live >= params.minimum_live;
        let mut families = Vec::new();
        for ((since, sign), family) in self.since.iter_mut().zip(signs).zip(Family::ALL) {
            let Some((baseline, now)) = sign.filter(|_| counts) else {
                *since = None;
                continue;
            };
            let began = *since.get_or_insert(seen.at);
            if seen.at - began >= Duration::seconds(params.confirm_seconds.into()) {
                families.push(Finding { family, baseline, now, since: began });
            }
        }
        if self.since.iter().all(Option::is_none) {
            self.baseline.learn(elapsed, seen, top);
        }
        let concentrated = families.iter().any(|finding| finding.family == Family::Source);
        let prefixes = if concentrated { seen.large_prefixes(params) } else { Vec::new() };
        Findings { families, prefixes, live: seen.live, harm: seen.harm }
    }

    /// The baseline, if this share is large enough, and larger than usual, to be a sign.
    fn share(&self, params: &Params, now: f64, baseline: f64) -> Option<f64> {
        let is_sign = self.knows(params) && now >= params.share && now >= params.baseline_ratio * baseline;
        is_sign.then_some(baseline)
    }

    fn behaviour(&self, params: &Params, seen: &Observation) -> Option<(f64, f64)> {
        let silent =
            self.share(params, seen.silent, self.baseline.silent).map(|baseline| (baseline, seen.silent));
        let usual = self.baseline.lifetime_spread;
        let alike =
            seen.lifetime_spread.filter(|spread| *spread <= ALIKE && usual >= params.baseline_ratio * spread);
        silent.or(alike.filter(|_| self.knows(params) && usual > ALIKE).map(|spread| (usual, spread)))
    }

    fn handshake(&self, params: &Params, seen: &Observation) -> Option<(f64, f64)> {
        let unanswered = self.share(params, seen.unanswered, self.baseline.unanswered);
        let requestless = self.share(params, seen.requestless, self.baseline.requestless);
        let unanswered = unanswered.map(|baseline| (baseline, seen.unanswered));
        unanswered.or(requestless.map(|baseline| (baseline, seen.requestless)))
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
        let live = seen.live as f64;
        let tenfold = |from: u64| live >= params.shape_ratio * (from.max(1)) as f64;
        let flat = |from: &u64| *from as f64 <= NO_TAIL * self.baseline.level.max(1.0);
        self.jumped_from = match self.jumped_from {
            Some(from) if live * 2.0 >= params.shape_ratio * from as f64 => Some(from),
            _ => before.filter(flat).filter(|from| self.knows(params) && tenfold(*from)),
        };
        self.jumped_from.map(|from| (from as f64, live))
    }

    fn knows(&self, params: &Params) -> bool {
        self.baseline.seconds >= f64::from(params.baseline_minutes) * 60.0
    }
}

impl Family {
    const ALL: [Self; 4] = [Self::Source, Self::Behaviour, Self::Handshake, Self::Shape];
}

impl Observation {
    fn top_share(&self, params: &Params) -> f64 {
        let top: u64 = self.prefixes.iter().take(params.top_prefixes).map(|prefix| prefix.live).sum();
        top as f64 / self.live.max(1) as f64
    }

    fn large_prefixes(&self, params: &Params) -> Vec<PrefixCount> {
        let large = |prefix: &&PrefixCount| prefix.live as f64 >= PREFIX_SHARE * self.live as f64;
        self.prefixes.iter().take(params.top_prefixes).filter(large).cloned().collect()
    }
}

impl Baseline {
    fn learn(&mut self, elapsed: f64, seen: &Observation, top: f64) {
        let first = self.seconds == 0.0;
        self.seconds += elapsed;
        // A plain mean at first, then one that forgets.
        let part = if first { 1.0 } else { elapsed / self.seconds.clamp(elapsed.max(1.0), DAY_SECONDS) };
        let toward = |mean: &mut f64, now: f64, part: f64| *mean += (now - *mean) * part;
        toward(&mut self.top, top, part);
        toward(&mut self.silent, seen.silent, part);
        toward(&mut self.unanswered, seen.unanswered, part);
        toward(&mut self.requestless, seen.requestless, part);
        if let Some(spread) = seen.lifetime_spread {
            toward(&mut self.lifetime_spread, spread, part);
        }
        let level_part =
            if first { 1.0 } else { elapsed / self.seconds.clamp(elapsed.max(1.0), LEVEL_SECONDS) };
        toward(&mut self.level, seen.live as f64, level_part);
    }
}
