//! Signs of abuse of every zone, and what follows from them: the zone's [`Abuse`] region, fed with what the kernel counts.
//!
//! Every 10 s all zones' live sockets are read, and those are observed that show something: a sign, a verdict, or twice the sockets of
//! the last 10 minutes. The others take turns, so that each is observed once in 50 s and its baselines learn. Baselines are kept with
//! the slots, a twelfth of the zones with each; they are derived, and an hour of them may be lost. Verdicts are entries of the ledger,
//! like everything that is decided.

use time::{Duration, OffsetDateTime};
use weir_common::{
    reason::Refusal,
    zone::{Lifetime, ZoneUsage},
};
use weir_reachout::{
    abuse::{Abuse, AbuseStep},
    actor::{Person, Reason},
    limit::Effect as Does,
    params::Abuse as Params,
    refusal::Refused,
    signal::{Findings, Observation, Share, Signals},
    slot::SlotIndex,
    verdict::Measure,
};

use super::mind::{Known, Mind, Turn, stored};
use crate::{ledger::SignsRow, sights::Sight};

/// Between two rounds.
pub const ROUND: Duration = Duration::seconds(10);
/// Rounds in which every zone is observed: within the minute that the shape of a jump is told by.
const TURNS: u32 = 5;
/// A zone with so many times the sockets of the last 10 minutes is observed in every round.
const RISING: f64 = 2.0;
/// Counts are told of the last one to two of these.
const WINDOW: Duration = Duration::MINUTE;
/// After a longer time without an observation nothing is known of the last minute.
const LOST: Duration = Duration::minutes(3);
/// Sockets that have to have ended for their lifetimes to say something.
const ENDED: u64 = 20;

/// What is seen of zones, by their slots in the kernel.
pub trait Eyes {
    /// Live kernel sockets.
    fn live(&self, slot: u32) -> u64;
    fn totals(&self, slot: u32) -> Totals;
    /// Kernel memory of the zone's sockets, and of all; none if nobody has looked lately.
    fn memory(&self, slot: u32) -> Option<u64>;
    fn all_memory(&self) -> u64;
    /// None if nobody has looked lately.
    fn sight(&self, slot: u32) -> Option<&Sight>;
}

/// Counts of a zone that only grow, while its slot is its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub admitted: u64,
    pub released: u64,
    /// Ended WebSockets, the sum of their [`Lifetime`]s, and of the squares.
    pub lived: u64,
    pub lived_sum: u64,
    pub lived_squares: u64,
    /// Upgrades that were refused at the zone's abuse cap.
    pub capped: u64,
    /// Both ways.
    pub bytes: u64,
}

impl Totals {
    pub fn of(usage: &ZoneUsage) -> Self {
        Self {
            admitted: usage.admitted_total,
            released: usage.released_total,
            lived: usage.lived_total,
            lived_sum: usage.lived_sum,
            lived_squares: usage.lived_squares,
            capped: usage.refused[Refusal::AbuseCap.counter()],
            bytes: usage.rx_bytes.wrapping_add(usage.tx_bytes),
        }
    }

    /// None if the counts are another's, or were begun anew.
    pub fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            admitted: self.admitted.checked_sub(before.admitted)?,
            released: self.released.checked_sub(before.released)?,
            lived: self.lived.checked_sub(before.lived)?,
            lived_sum: self.lived_sum.checked_sub(before.lived_sum)?,
            // It may pass over the end of its word.
            lived_squares: self.lived_squares.wrapping_sub(before.lived_squares),
            capped: self.capped.checked_sub(before.capped)?,
            bytes: self.bytes.checked_sub(before.bytes)?,
        })
    }

    /// Standard deviation of the lifetimes, over their mean.
    fn lifetime_spread(&self) -> Option<f64> {
        let (count, sum) = (self.lived as f64, self.lived_sum as f64);
        if self.lived < ENDED || self.lived_sum < self.lived * Lifetime::LEAST_TOLD {
            return None;
        }
        let mean = sum / count;
        Some((self.lived_squares as f64 / count - mean * mean).max(0.0).sqrt() / mean)
    }
}

/// One zone under watch.
#[derive(Clone, Debug)]
pub struct Watch {
    pub signals: Signals,
    pub region: Abuse,
    window: Window,
}

/// The counts at the ends of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    slot: u32,
    older: Option<(OffsetDateTime, Totals)>,
    newer: Option<(OffsetDateTime, Totals)>,
}

impl Window {
    /// What was counted in the last minute or two; none if that is not known.
    fn turn(&mut self, now: OffsetDateTime, slot: u32, totals: Totals) -> Option<Totals> {
        let is_lost = |at: OffsetDateTime| now < at || now - at > LOST;
        let (at, before) = self.newer.filter(|(at, _)| self.slot == slot && !is_lost(*at)).unzip();
        if before.is_none_or(|before: Totals| totals.since(&before).is_none()) {
            *self = Self { slot, older: None, newer: Some((now, totals)) };
            return None;
        }
        if at.is_some_and(|at| now - at >= WINDOW) {
            (self.older, self.newer) = (self.newer, Some((now, totals)));
        }
        let (_, from) = self.older.or(self.newer)?;
        totals.since(&from)
    }
}

impl Watch {
    pub fn new(signals: Signals, region: Abuse) -> Self {
        Self { signals, region, window: Window::default() }
    }

    fn is_restless(&self, params: &Params, now: OffsetDateTime, live: u64) -> bool {
        let rises = live >= params.minimum_live && live as f64 >= RISING * self.signals.level();
        rises || self.signals.is_restless(now) || self.region.verdict().is_some()
    }

    fn observation(
        &mut self,
        now: OffsetDateTime,
        live: u64,
        slot: u32,
        eyes: &impl Eyes,
        harm: bool,
    ) -> Observation {
        let lately = self.window.turn(now, slot, eyes.totals(slot));
        let sight = eyes.sight(slot);
        Observation {
            at: now,
            live,
            look: sight.map_or(0, |sight| sight.look),
            prefixes: sight.map(|sight| sight.prefixes.clone()).unwrap_or_default(),
            sourced: sight.map_or(0, |sight| sight.sourced),
            silent: sight.map(|sight| sight.silent).unwrap_or_default(),
            requestless: sight.map(|sight| sight.requestless).unwrap_or_default(),
            lifetime_spread: lately.and_then(|lately| lately.lifetime_spread()),
            unanswered: lately.map(|lately| Share::new(lately.released, lately.admitted)).unwrap_or_default(),
            harm: harm || lately.is_some_and(|lately| lately.capped > 0),
            is_refused: self.region.verdict().is_some_and(|verdict| *verdict.measure() != Measure::Observe),
        }
    }

    /// Baselines as they are kept.
    pub fn row(&self, id: u32) -> Option<SignsRow> {
        Some(SignsRow { zone: id, data: self.signals.encode()? })
    }
}

impl Mind {
    /// The process is new: that everybody comes back is no sign.
    pub fn restarted(&mut self, now: OffsetDateTime) {
        let params = self.policy.params().abuse.clone();
        self.zones.iter_mut().for_each(|known| known.watch.signals.restarted(&params, now));
    }

    /// One round over the zones, which are slots in the kernel and numbers here. `harm`: the host's accept queues drop. True if some
    /// zone shows a sign, so that its sockets should be looked at soon again.
    pub fn watch(
        &mut self,
        now: OffsetDateTime,
        harm: bool,
        eyes: &impl Eyes,
        watched: &[(u32, u32)],
    ) -> (Turn, bool) {
        let (mut turn, mut restless) = (Turn::default(), false);
        self.round = self.round.wrapping_add(1);
        self.spend(now, eyes, watched, &mut turn);
        let params = self.policy.params().abuse.clone();
        let mut unwatched = self.accused.clone();
        for (slot, id) in watched {
            unwatched.remove(id);
            let Some(known) = self.zones.get_mut(*id as usize) else { continue };
            let live = eyes.live(*slot);
            let is_restless = known.watch.is_restless(&params, now, live);
            restless |= is_restless;
            if !is_restless && id % TURNS != self.round % TURNS {
                continue;
            }
            let seen = known.watch.observation(now, live, *slot, eyes, harm);
            let findings = known.watch.signals.observe(&params, &seen);
            if findings.families.len() < 2 && known.watch.region.verdict().is_none() {
                continue;
            }
            self.decide(*id, now, &findings, &mut turn);
        }
        // Of zones that are configured no more nothing is seen, and what they are accused of ends.
        for id in unwatched {
            self.decide(id, now, &Findings::default(), &mut turn);
        }
        (turn, restless)
    }

    fn decide(&mut self, id: u32, now: OffsetDateTime, findings: &Findings, turn: &mut Turn) {
        let Some(known) = self.zones.get(id as usize) else { return };
        match known.watch.region.decide(&self.policy, now, findings) {
            Ok(step) => self.step(id, now, step, turn),
            Err(refused) => {
                tracing::error!(zone = %known.is.name, %refused, "signs of abuse have no consequence");
            }
        }
    }

    /// A person lets a verdict go on past its day, or ends it.
    pub fn on_verdict(
        &mut self,
        id: u32,
        now: OffsetDateTime,
        by: Person,
        reason: Reason,
        goes_on: bool,
    ) -> Result<Turn, Refused> {
        let region = &self.zones[id as usize].watch.region;
        let step = if goes_on {
            region.attend(&self.policy, now, by, reason)?
        } else {
            region.end(&self.policy, now, by, reason)?
        };
        let mut turn = Turn::default();
        self.step(id, now, step, &mut turn);
        Ok(turn)
    }

    fn step(&mut self, id: u32, now: OffsetDateTime, step: AbuseStep, turn: &mut Turn) {
        let AbuseStep { entries, commands, next } = step;
        self.zones[id as usize].watch.region = next;
        if !entries.is_empty() {
            turn.batch.policy = Some(stored(&self.policy));
        }
        turn.batch.drafts.extend(entries);
        self.note_accused(id);
        for command in commands {
            self.command(id, now, command, turn);
        }
    }

    /// Keeps the list of zones with a verdict.
    pub fn note_accused(&mut self, id: u32) {
        let is_accused = |zone: &Known| zone.watch.region.verdict().is_some();
        if self.zones.get(id as usize).is_some_and(is_accused) {
            self.accused.insert(id);
        } else {
            self.accused.remove(&id);
        }
    }

    /// Zones with a verdict.
    pub fn accused(&self) -> impl Iterator<Item = &Known> {
        self.accused.iter().filter_map(|id| self.zones.get(*id as usize))
    }

    /// Prefixes that verdicts refuse now, each until when, and of which zone.
    pub fn refused(&self, now: OffsetDateTime) -> Vec<(String, OffsetDateTime)> {
        let leases = self.accused().filter_map(|known| known.watch.region.verdict()?.lease(now).ok());
        let prefixes = leases.flat_map(|lease| match lease.effect() {
            Does::RefusePrefixes { prefixes } => {
                prefixes.iter().map(|prefix| (prefix.clone(), lease.until())).collect()
            }
            Does::RefuseUpgradesAbove { .. } => Vec::new(),
        });
        prefixes.collect()
    }

    /// True if the slot belongs to an attack on the zone.
    pub(super) fn is_covered(&self, id: u32, slot: SlotIndex) -> bool {
        self.zones.get(id as usize).is_some_and(|known| known.watch.region.covers(slot))
    }
}
