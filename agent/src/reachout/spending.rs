//! Other resources than WebSockets, where a plan bounds them: what a zone takes of each in a slot, against its plan and beside the fleet.
//! Rule R3 is made of it (`weir_reachout::disproportion`), and so is the plan that is offered.
//!
//! Bytes and upgrades are counts that grow, read when a slot begins and when the next one does; a slot with a restart or a gap at one of its
//! ends is unknown. Bytes of live sockets reach the counts with the audits: without one shortly before both readings they are unknown too,
//! and so is the memory of a slot in which sockets were not listed often enough. "The fleet" is this host.
//!
//! What the plan does not bound is unknown: its window moves on, and it opens nothing.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use weir_config::Bounds;
use weir_reachout::{
    case::Case,
    decision::{Event, Rule},
    disproportion::{self, Overuse},
    policy::Policy,
    recommend::Resources,
    slot::{Judgement, Slot, SlotIndex},
    zone::Input,
};

use super::{
    mind::{Mind, Turn},
    say,
    watch::{Eyes, Totals},
};
use crate::ledger::SignsRow;

/// A slot's counts are known if they were read within this after its ends.
const AT_THE_END: Duration = Duration::seconds(30);
/// Readings of memory that make a slot's mean known, of about thirty.
const READINGS: u32 = 20;
/// A past of 30 days is kept in parts, of which the oldest is forgotten.
const PART_SLOTS: u32 = 5 * 288;
const PARTS: u32 = 6;

/// What a zone has spent, in the order of [`RESOURCES`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    accounts: [Account; 3],
    /// What its plan bounded when this was written.
    bounds: [Option<u64>; 3],
    /// Which of them the last case was opened for.
    by: [bool; 3],
    /// They are back to normal, and it was said.
    normal: bool,
}

const RESOURCES: [&str; 3] = ["socket_memory_bytes", "bytes_per_second", "upgrades_per_second"];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    overuse: Overuse,
    /// Slots by the class of their mean, by part of the past.
    past: BTreeMap<u32, BTreeMap<u16, u32>>,
    /// Sums of the means of a part's slots, the zone's and the fleet's, in thousandths.
    means: BTreeMap<u32, (u64, u64)>,
}

/// One zone whose plan bounds something.
#[derive(Clone, Debug, Default)]
pub struct Spending {
    pub spent: Spent,
    /// By what the running slot is judged: what was in force at its start.
    bounds: Bounds,
    began: Option<Reading>,
    memory_sum: u64,
    memory_readings: u32,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: OffsetDateTime,
    slot: u32,
    totals: Totals,
    /// An audit was shortly before.
    is_fresh: bool,
}

/// The host as a whole, in the running slot.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    running: Option<SlotIndex>,
    /// Each watched zone's counts when the slot began.
    began: Option<Counts>,
    memory_sum: u64,
    memory_readings: u32,
}

#[derive(Clone, Debug)]
struct Counts {
    at: OffsetDateTime,
    is_fresh: bool,
    /// By the zone's number: its slot in the kernel, bytes and upgrades.
    of: HashMap<u32, (u32, u64, u64)>,
}

impl Counts {
    /// Bytes and upgrades a second since then; what zones used that are not watched any more, or only since, is in neither.
    fn rates_until(&self, now: &Self) -> Option<(f64, f64)> {
        let seconds = (now.at - self.at).as_seconds_f64();
        let (mut bytes, mut upgrades) = (0_u64, 0_u64);
        for (id, (slot, bytes_now, upgrades_now)) in &now.of {
            let Some((_, bytes_then, upgrades_then)) = self.of.get(id).filter(|(then, ..)| then == slot)
            else {
                continue;
            };
            bytes = bytes.saturating_add(bytes_now.saturating_sub(*bytes_then));
            upgrades = upgrades.saturating_add(upgrades_now.saturating_sub(*upgrades_then));
        }
        (seconds > 0.0).then(|| (bytes as f64 / seconds, upgrades as f64 / seconds))
    }
}

/// The slot was read at both of its ends.
fn is_whole(slot: SlotIndex, began: OffsetDateTime, ended: OffsetDateTime) -> bool {
    began - slot.start() <= AT_THE_END && ended - slot.end() <= AT_THE_END
}

fn bounds(bounds: &Bounds) -> [Option<u64>; 3] {
    [bounds.socket_memory_bytes, bounds.bytes_per_second, bounds.upgrades_per_second]
}

/// Means in classes an eighth of an octave wide; told by their upper end, so that what is offered has room for what was used.
fn class(value: f64) -> u16 {
    if value < 1.0 { 0 } else { (value.log2() * 8.0).floor() as u16 + 1 }
}

fn upper_end(class: u16) -> f64 {
    if class == 0 { 0.0 } else { (f64::from(class) / 8.0).exp2() }
}

impl Account {
    fn note(&mut self, slot: SlotIndex, value: f64, fleet: Option<f64>) {
        let part = slot.number() / PART_SLOTS;
        *self.past.entry(part).or_default().entry(class(value)).or_default() += 1;
        self.past.retain(|kept, _| kept + PARTS > part);
        if let Some(fleet) = fleet {
            let thousandths = |value: f64| (value * 1000.0).round() as u64;
            let (own, all) = self.means.entry(part).or_default();
            *own = own.saturating_add(thousandths(value));
            *all = all.saturating_add(thousandths(fleet));
        }
        self.means.retain(|kept, _| kept + PARTS > part);
    }

    /// The zone's part of what the fleet used in the slots in which both are known.
    fn share(&self) -> Option<f64> {
        let sums = self.means.values().map(|(own, all)| (*own as f64, *all as f64));
        let (own, all) = sums.fold((0.0, 0.0), |(own, all), part| (own + part.0, all + part.1));
        (all > 0.0).then(|| own / all)
    }

    /// Infinite if nothing is known.
    fn p95(&self) -> f64 {
        let mut classes: BTreeMap<u16, u32> = BTreeMap::new();
        for (class, slots) in self.past.values().flatten() {
            *classes.entry(*class).or_default() += slots;
        }
        let count: u32 = classes.values().sum();
        let rank = (f64::from(count) * 0.95).ceil() as u32;
        let mut below = 0;
        let at = classes.into_iter().find(|(_, slots)| {
            below += slots;
            below >= rank
        });
        at.map_or(f64::INFINITY, |(class, _)| upper_end(class))
    }
}

impl Spent {
    pub fn decode(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    pub fn settle(&mut self, until: SlotIndex) {
        self.accounts.iter_mut().for_each(|account| account.overuse.settle(until));
        self.normal = false;
    }

    /// These slots belong to an attack.
    pub fn exclude(&mut self, slots: impl Iterator<Item = SlotIndex> + Clone) {
        self.accounts.iter_mut().for_each(|account| account.overuse.exclude(slots.clone()));
    }

    /// The 95th percentile of the window, of what the plan bounds; of the rest nothing is known. WebSockets are the slots' to say.
    pub fn p95(&self, plan: &Bounds) -> Resources {
        let mut used = self.accounts.iter().zip(bounds(plan));
        let mut next = || {
            let bounded = used.next().filter(|(_, bound)| bound.is_some());
            bounded.map_or(f64::INFINITY, |(account, _)| account.p95())
        };
        Resources {
            websockets: 0.0,
            socket_memory_bytes: next(),
            bytes_per_second: next(),
            upgrades_per_second: next(),
        }
    }

    /// What its plan bounded when this was written.
    pub fn bounds(&self) -> Bounds {
        let [socket_memory_bytes, bytes_per_second, upgrades_per_second] = self.bounds;
        Bounds { socket_memory_bytes, bytes_per_second, upgrades_per_second }
    }

    /// Everything that the last case was opened for has a larger bound now, or none.
    pub fn is_freed_by(&self, plan: &Bounds) -> bool {
        let raised = |was: Option<u64>, is: Option<u64>| was.is_some_and(|was| is.is_none_or(|is| is > was));
        let mut opened = self.by.iter().zip(self.bounds.into_iter().zip(bounds(plan)));
        self.by.contains(&true) && opened.all(|(by, (was, is))| !by || raised(was, is))
    }

    /// One more slot, beside what the fleet used in it; tells which resources were over.
    fn observe(
        &mut self,
        policy: &Policy,
        closed: SlotIndex,
        limits: [Option<u64>; 3],
        used: [Option<f64>; 3],
        fleet: [Option<f64>; 3],
    ) -> [Judgement; 3] {
        let mut judgements = [Judgement::Unknown; 3];
        let seen = limits.into_iter().zip(used).zip(fleet);
        for ((account, judgement), ((bound, used), fleet)) in
            self.accounts.iter_mut().zip(&mut judgements).zip(seen)
        {
            if let (Some(bound), Some(value)) = (bound, used) {
                account.note(closed, value, fleet);
                *judgement = Slot { index: closed, value, max: value, complete: 1.0 }.judge(policy, bound);
            }
            account.overuse.observe(policy, closed, *judgement);
        }
        judgements
    }
}

impl Spending {
    /// A zone's, if its plan bounds something.
    pub fn wanted(bounds: &Bounds, spent: Option<Spent>) -> Option<Box<Self>> {
        (*bounds != Bounds::default()).then(|| {
            let mut spent = spent.unwrap_or_default();
            spent.bounds = self::bounds(bounds);
            Box::new(Self { spent, bounds: *bounds, ..Self::default() })
        })
    }

    /// What was kept, before it is known what the plan bounds now.
    pub fn of(spent: Spent) -> Self {
        Self { bounds: spent.bounds(), spent, ..Self::default() }
    }

    pub fn row(&self, id: u32) -> Option<SignsRow> {
        Some(SignsRow { zone: id, data: serde_json::to_vec(&self.spent).ok()? })
    }

    /// What was used of each in the slot that is over; none of what is not known.
    fn used(&self, closed: SlotIndex, now: &Reading) -> [Option<f64>; 3] {
        let memory = (self.memory_readings >= READINGS)
            .then(|| self.memory_sum as f64 / f64::from(self.memory_readings));
        let began = self.began.filter(|began| began.slot == now.slot && is_whole(closed, began.at, now.at));
        let rates = began.and_then(|began| {
            let seconds = (now.at - began.at).as_seconds_f64();
            let since = now.totals.since(&began.totals)?;
            (seconds > 0.0).then(|| (since.bytes as f64 / seconds, since.admitted as f64 / seconds))
        });
        let (bytes, upgrades) = rates.unzip();
        let is_fresh = now.is_fresh && began.is_some_and(|began| began.is_fresh);
        [memory, bytes.filter(|_| is_fresh), upgrades]
    }
}

impl Mind {
    /// Takes a reading, and judges the slot that is over.
    pub(super) fn spend(
        &mut self,
        now: OffsetDateTime,
        eyes: &impl Eyes,
        watched: &[(u32, u32)],
        turn: &mut Turn,
    ) {
        let bounded: Vec<(u32, u32)> = watched
            .iter()
            .copied()
            .filter(|(_, id)| self.zones.get(*id as usize).is_some_and(|known| known.spending.is_some()))
            .collect();
        if bounded.is_empty() {
            return;
        }
        let running = SlotIndex::containing(now);
        // Whoever says what one zone's sockets hold has looked at all of them.
        let is_fresh = watched.first().is_some_and(|(slot, _)| eyes.memory(*slot).is_some());
        if self.fleet.running != Some(running) {
            let (closed, fleet) = self.turn_fleet(now, is_fresh, eyes, watched);
            for (slot, id) in &bounded {
                let reading = Reading { at: now, slot: *slot, totals: eyes.totals(*slot), is_fresh };
                if let Some(closed) = closed {
                    self.judge_spending(*id, closed, &reading, fleet, turn);
                }
                self.begin_slot(*id, reading);
            }
        }
        if is_fresh {
            self.fleet.memory_sum = self.fleet.memory_sum.saturating_add(eyes.all_memory());
            self.fleet.memory_readings += 1;
        }
        for (slot, id) in bounded {
            let spending = self.zones.get_mut(id as usize).and_then(|known| known.spending.as_mut());
            if let (Some(spending), Some(bytes)) = (spending, eyes.memory(slot)) {
                spending.memory_sum += bytes;
                spending.memory_readings += 1;
            }
        }
    }

    /// The slot that is over, if it is the one before, and what the host used in it; none of what is not known.
    fn turn_fleet(
        &mut self,
        now: OffsetDateTime,
        is_fresh: bool,
        eyes: &impl Eyes,
        watched: &[(u32, u32)],
    ) -> (Option<SlotIndex>, [Option<f64>; 3]) {
        let counts = |(slot, id): &(u32, u32)| {
            let totals = eyes.totals(*slot);
            (*id, (*slot, totals.bytes, totals.admitted))
        };
        let counts = Counts { at: now, is_fresh, of: watched.iter().map(counts).collect() };
        let running = SlotIndex::containing(now);
        let before = std::mem::take(&mut self.fleet);
        let closed = before.running.filter(|closed| closed.next() == running);
        let began = before.began.filter(|began| closed.is_some_and(|closed| is_whole(closed, began.at, now)));
        let (bytes, upgrades) = began.as_ref().and_then(|began| began.rates_until(&counts)).unzip();
        let bytes = bytes.filter(|_| is_fresh && began.is_some_and(|began| began.is_fresh));
        let memory = (before.memory_readings >= READINGS)
            .then(|| before.memory_sum as f64 / f64::from(before.memory_readings));
        self.fleet = Fleet { running: Some(running), began: Some(counts), ..Fleet::default() };
        (closed, [memory, bytes, upgrades])
    }

    /// What was used in the slot that is over, by the first reading after it.
    fn judge_spending(
        &mut self,
        id: u32,
        closed: SlotIndex,
        reading: &Reading,
        fleet: [Option<f64>; 3],
        turn: &mut Turn,
    ) {
        let is_covered = self.is_covered(id, closed);
        let usage = self.usage(&self.zones[id as usize]);
        let known = &mut self.zones[id as usize];
        let Some(spending) = &mut known.spending else { return };
        let (used, limits) = (spending.used(closed, reading), bounds(&spending.bounds));
        let judged = if is_covered { [None; 3] } else { used };
        let spent = &mut spending.spent;
        let judgements = spent.observe(&self.policy, closed, limits, judged, fleet);
        // What is not bounded any more is judged by what was in force, and opens nothing.
        let in_force = bounds(&known.is.bounds);
        let bounded = |place: usize| limits[place].is_some() && in_force[place].is_some();
        let over: Vec<usize> =
            (0..3).filter(|at| bounded(*at) && judgements[*at] == Judgement::Over).collect();
        let decision = match known.dialogue.open_case().map(Case::rule) {
            None => {
                let accounts = over.iter().map(|at| &spent.accounts[*at]);
                let overuse = accounts.map(|account| (&account.overuse, account.share()));
                disproportion::decide(&self.policy, closed, &usage, overuse)
            }
            Some(Rule::R3) => {
                // As with WebSockets: an unknown slot ends nothing.
                let may_close = (0..3).all(|at| !bounded(at) || judgements[at].is_known());
                let mut bounded = spent.accounts.iter().zip(in_force).filter(|(_, bound)| bound.is_some());
                let normal = (may_close || spent.normal)
                    && usage.normal
                    && bounded.all(|(account, _)| account.overuse.is_normal(&self.policy));
                let was = std::mem::replace(&mut spent.normal, normal);
                (normal && !was).then(|| disproportion::closable(closed, &usage))
            }
            Some(_) => None,
        };
        let mut told = Vec::new();
        if decision.is_some_and(|decision| decision.event == Event::CaseOpened) {
            spent.by = [false; 3];
            for at in over {
                let (overuse, share) = (&spent.accounts[at].overuse, spent.accounts[at].share());
                if disproportion::is_disproportionate(&self.policy, overuse, share) {
                    spent.by[at] = true;
                    told.push(json!({
                        "resource": RESOURCES[at],
                        "bound": limits[at],
                        "over_hours": (overuse.over_hours() * 100.0).round() / 100.0,
                        "share": share.map(|share| (share * 10_000.0).round() / 10_000.0),
                    }));
                }
            }
        }
        // What counts is kept at once; a killed agent loses an hour of the rest, which is unknown then.
        let counts = decision.is_some() || judgements.contains(&Judgement::Over);
        turn.batch.overuse.extend(spending.row(id).filter(|_| counts));
        let Some(decision) = decision else { return };
        let [memory, bytes, upgrades] = used;
        let mut evidence = say::evidence(&decision, known);
        evidence["resources"] = json!({
            "used": {
                "websockets": known.last.filter(|last| last.index == closed).map(|last| last.value),
                "socket_memory_bytes": memory,
                "bytes_per_second": bytes,
                "upgrades_per_second": upgrades,
            },
            "bounds": RESOURCES.into_iter().zip(limits).collect::<BTreeMap<_, _>>(),
            "disproportionate": told,
        });
        *self.decisions_total.entry(decision.event).or_default() += 1;
        let evidence = evidence.to_string();
        if let Err(refused) = self.input(id, reading.at, Input::Decided { decision, evidence }, turn) {
            tracing::error!(zone = %self.zones[id as usize].is.name, %refused, "a decision has no consequence");
        }
    }

    fn begin_slot(&mut self, id: u32, reading: Reading) {
        let known = &mut self.zones[id as usize];
        let Some(spending) = &mut known.spending else { return };
        spending.bounds = known.is.bounds;
        spending.began = Some(reading);
        (spending.memory_sum, spending.memory_readings) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fleet_used_is_what_its_zones_used_while_they_were_watched() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let counts = |seconds: i64, of: &[(u32, (u32, u64, u64))]| Counts {
            at: at + Duration::seconds(seconds),
            is_fresh: true,
            of: of.iter().copied().collect(),
        };
        let before = counts(0, &[(0, (0, 5000, 50)), (1, (1, 1_000_000, 900)), (2, (2, 70, 7))]);
        // One is removed, one is another's slot, one is new, with all that was ever counted in it.
        let after = counts(100, &[(0, (0, 6000, 150)), (2, (9, 500_000, 8)), (3, (1, 900_000, 5))]);
        assert_eq!(before.rates_until(&after), Some((10.0, 1.0)));
        assert_eq!(before.rates_until(&before), None);
        let slot = SlotIndex::containing(at);
        assert!(is_whole(slot, at + AT_THE_END, slot.end()));
        assert!(!is_whole(slot, at + Duration::seconds(290), slot.end()), "begun in its middle");
    }
}
