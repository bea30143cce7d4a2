//! Other resources than WebSockets, where a plan bounds them: what a zone takes of each in a slot, against its plan and beside the fleet.
//! Rule R3 is made of it (`weir_reachout::disproportion`), and so is the plan that is offered.
//!
//! Bytes and upgrades are counts that grow, read when a slot begins and when the next one does; a slot with a restart or a gap at one of its
//! ends is unknown, and so is the memory of a slot in which sockets were not listed often enough. "The fleet" is this host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use weir_config::Bounds;
use weir_reachout::{
    disproportion::{self, Overuse},
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
const SLOT_SECONDS: f64 = weir_reachout::slot::SLOT_SECONDS as f64;

/// What a zone has spent, in the order of [`bounds`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent([Account; 3]);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    overuse: Overuse,
    /// Slots by the class of their mean, by part of the past.
    past: BTreeMap<u32, BTreeMap<u16, u32>>,
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
}

/// The host as a whole, at the beginning of the running slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fleet {
    running: Option<SlotIndex>,
    bytes: u64,
    admitted: u64,
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
    fn note(&mut self, slot: SlotIndex, value: f64) {
        let part = slot.number() / PART_SLOTS;
        *self.past.entry(part).or_default().entry(class(value)).or_default() += 1;
        self.past.retain(|kept, _| kept + PARTS > part);
    }

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
        at.map_or(0.0, |(class, _)| upper_end(class))
    }
}

impl Spent {
    pub fn decode(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    pub fn settle(&mut self, until: SlotIndex) {
        self.0.iter_mut().for_each(|account| account.overuse.settle(until));
    }

    /// The 95th percentile of the window, of what the plan bounds; WebSockets are the slots' to say.
    pub fn p95(&self) -> Resources {
        let [memory, bytes, upgrades] = &self.0;
        Resources {
            websockets: 0.0,
            socket_memory_bytes: memory.p95(),
            bytes_per_second: bytes.p95(),
            upgrades_per_second: upgrades.p95(),
        }
    }
}

impl Spending {
    /// A zone's, if its plan bounds something.
    pub fn wanted(bounds: &Bounds, spent: Option<Spent>) -> Option<Box<Self>> {
        (*bounds != Bounds::default()).then(|| {
            let spent = spent.unwrap_or_default();
            Box::new(Self { spent, bounds: *bounds, ..Self::default() })
        })
    }

    /// What was kept, before it is known what the plan bounds.
    pub fn of(spent: Spent) -> Self {
        Self { spent, ..Self::default() }
    }

    pub fn row(&self, id: u32) -> Option<SignsRow> {
        Some(SignsRow { zone: id, data: serde_json::to_vec(&self.spent).ok()? })
    }

    /// What was used of each in the slot that is over; none of what is not known.
    fn used(&self, closed: SlotIndex, now: &Reading) -> [Option<f64>; 3] {
        let memory = (self.memory_readings >= READINGS)
            .then(|| self.memory_sum as f64 / f64::from(self.memory_readings));
        let is_whole = |began: &Reading| {
            began.slot == now.slot
                && began.at - closed.start() <= AT_THE_END
                && now.at - closed.end() <= AT_THE_END
        };
        let rates = self.began.filter(is_whole).and_then(|began| {
            let seconds = (now.at - began.at).as_seconds_f64();
            let since = now.totals.since(&began.totals)?;
            (seconds > 0.0).then(|| (since.bytes as f64 / seconds, since.admitted as f64 / seconds))
        });
        let (bytes, upgrades) = rates.unzip();
        [memory, bytes, upgrades]
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
        if self.fleet.running != Some(running) {
            let (closed, fleet) = self.turn_fleet(running, eyes, watched);
            for (slot, id) in &bounded {
                let reading = Reading { at: now, slot: *slot, totals: eyes.totals(*slot) };
                if let Some(closed) = closed {
                    self.judge_spending(*id, closed, &reading, &fleet, turn);
                }
                self.begin_slot(*id, reading);
            }
        }
        for (slot, id) in bounded {
            let spending = self.zones.get_mut(id as usize).and_then(|known| known.spending.as_mut());
            if let (Some(spending), Some(bytes)) = (spending, eyes.memory(slot)) {
                spending.memory_sum += bytes;
                spending.memory_readings += 1;
            }
        }
    }

    /// The slot that is over, if it is the one before, and what the host used in it.
    fn turn_fleet(
        &mut self,
        running: SlotIndex,
        eyes: &impl Eyes,
        watched: &[(u32, u32)],
    ) -> (Option<SlotIndex>, Resources) {
        let before = self.fleet;
        let mut next = Fleet { running: Some(running), ..Fleet::default() };
        let mut websockets = 0.0;
        for (slot, id) in watched {
            let totals = eyes.totals(*slot);
            next.bytes = next.bytes.wrapping_add(totals.bytes);
            next.admitted = next.admitted.wrapping_add(totals.admitted);
            websockets += self.zones.get(*id as usize).and_then(|known| known.last).map_or(0.0, |s| s.value);
        }
        self.fleet = next;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / SLOT_SECONDS;
        let used = Resources {
            websockets,
            socket_memory_bytes: eyes.all_memory() as f64,
            bytes_per_second: rate(next.bytes, before.bytes),
            upgrades_per_second: rate(next.admitted, before.admitted),
        };
        (before.running.filter(|closed| closed.next() == running), used)
    }

    /// What was used in the slot that is over, by the first reading after it.
    fn judge_spending(
        &mut self,
        id: u32,
        closed: SlotIndex,
        reading: &Reading,
        fleet: &Resources,
        turn: &mut Turn,
    ) {
        let is_covered = self.is_covered(id, closed);
        let usage = self.usage(&self.zones[id as usize]);
        let known = &mut self.zones[id as usize];
        let Some(spending) = &mut known.spending else { return };
        let (used, limits) = (spending.used(closed, reading), bounds(&spending.bounds));
        let mut is_over = false;
        for ((account, used), bound) in spending.spent.0.iter_mut().zip(used).zip(limits) {
            let Some(bound) = bound else { continue };
            let judged = used.filter(|_| !is_covered).map(|value| {
                account.note(closed, value);
                Slot { index: closed, value, max: value, complete: 1.0 }.judge(&self.policy, bound)
            });
            let judgement = judged.unwrap_or(Judgement::Unknown);
            is_over |= judgement == Judgement::Over;
            account.overuse.observe(&self.policy, closed, judgement);
        }
        // What counts is kept at once; a killed agent loses an hour of the rest, which is unknown then.
        turn.batch.overuse.extend(spending.row(id).filter(|_| is_over));
        let [memory, bytes, upgrades] = used.map(|used| used.unwrap_or(0.0));
        let resources = Resources {
            websockets: known.last.filter(|last| last.index == closed).map_or(0.0, |last| last.value),
            socket_memory_bytes: memory,
            bytes_per_second: bytes,
            upgrades_per_second: upgrades,
        };
        let share = resources.dominant_share(fleet);
        let overuse = spending.spent.0.iter().map(|account| &account.overuse);
        let decision = disproportion::decide(&self.policy, closed, &usage, overuse, share);
        let Some(decision) = decision.filter(|_| known.dialogue.open_case().is_none()) else { return };
        let [socket_memory_bytes, bytes_per_second, upgrades_per_second] = limits;
        let mut evidence = say::evidence(&decision, known);
        evidence["resources"] = json!({
            "used": resources,
            "bounds": {
                "socket_memory_bytes": socket_memory_bytes,
                "bytes_per_second": bytes_per_second,
                "upgrades_per_second": upgrades_per_second,
            },
            "dominant_share": (share * 10_000.0).round() / 10_000.0,
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
