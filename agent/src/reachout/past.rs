//! From the ledger's file to a [`Mind`]: entries say what was decided, detectors and slots what was seen.
//!
//! A detector was written before some slot; what was judged since is observed again. Nothing is decided by that: every decision was
//! written with its slot.

use std::collections::HashMap;

use weir_config::Bounds;
use weir_reachout::{
    abuse::Abuse,
    detector::Detector,
    fact::Fact,
    policy::Policy,
    signal::Signals,
    slot::SlotIndex,
    surge::Surge,
    zone::{ReplayError, Terms, Zone},
};

use super::{
    building::Building,
    mind::{Configured, Known, Mind, policies},
    spending::{Spending, Spent},
    watch::Watch,
};
use crate::ledger::{GuidelineRow, LedgerError, Store};

/// Why what was decided is not known. Nothing is decided until it is.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the ledger says what cannot have been, so no case is gone on with: {0}")]
    Replay(#[from] ReplayError),
}

/// Everything that the policy knows.
pub fn read(store: &Store, policy: Policy) -> Result<Mind, PastError> {
    let mut known = policies(&store.policies()?);
    known.insert(policy.version().clone(), policy.clone());
    let mut dialogues: HashMap<String, Zone> = HashMap::new();
    let mut regions: HashMap<String, Abuse> = HashMap::new();
    let mut forbidden = None;
    store.each(|entry| {
        let fact = entry.fact()?;
        if forbidden.is_some() || matches!(fact, Fact::ByHand { .. }) {
            return Ok(());
        }
        if fact.is_of_abuse() {
            let region = regions.entry(entry.zone.clone()).or_insert_with(|| Abuse::new(entry.zone.clone()));
            forbidden = region.follow(&entry, |version| known.get(version)).err();
            return Ok(());
        }
        let zone = dialogues.entry(entry.zone.clone()).or_insert_with(|| Zone::new(entry.zone.clone()));
        forbidden = zone.follow(&entry, |version| known.get(version)).err();
        Ok(())
    })?;
    if let Some(error) = forbidden {
        return Err(error.into());
    }
    let memory = store.memory()?;
    let building = memory.building.as_deref().and_then(Building::decode).unwrap_or_else(Building::new);
    // What was judged since a detector was written was judged by this one; the configuration's follows it.
    let last = memory
        .adopted
        .last()
        .and_then(|(_, version)| known.values().find(|policy| policy.version().as_str() == version).cloned());
    let mut mind = Mind::new(last.clone().unwrap_or(policy), last.is_some(), building);
    // The last one of each zone, and the one before it, which the slot under way may still be judged by.
    let mut guidelines: HashMap<u32, (GuidelineRow, Option<(SlotIndex, u64)>)> = HashMap::new();
    for row in memory.guidelines {
        let before = guidelines.get(&row.zone).map(|(last, _)| (row.slot, last.guideline));
        guidelines.insert(row.zone, (row, before));
    }
    let running = mind.building.index();
    let mut changes: HashMap<u32, (SlotIndex, u64)> = HashMap::new();
    let mut detectors: HashMap<u32, (Detector, Surge)> = HashMap::new();
    for row in memory.detectors {
        // One that cannot be read begins anew: its zone is judged by less, never by something else.
        match serde_json::from_slice(&row.data) {
            Ok(detector) => drop(detectors.insert(row.zone, detector)),
            Err(error) => tracing::error!(zone = row.zone, %error, "a detector begins anew"),
        }
    }
    let mut signs: HashMap<u32, Signals> = HashMap::new();
    for row in memory.signs {
        // Baselines that cannot be read are learned anew; until then there are no signs.
        signs.extend(Signals::decode(&row.data).map(|signals| (row.zone, signals)));
    }
    let mut spent: HashMap<u32, Spent> = HashMap::new();
    for row in memory.overuse {
        let read = Spent::decode(&row.data).filter(|spent| spent.bounds() != Bounds::default());
        spent.extend(read.map(|spent| (row.zone, spent)));
    }
    for id in 0..memory.zones.len() as u32 {
        let name = memory.zones.get(&id).cloned().unwrap_or_default();
        let (is, plan, before) = match guidelines.remove(&id) {
            Some((row, before)) => (row.guideline, row.plan, before),
            None => (u64::MAX, String::new(), None),
        };
        changes.extend(before.map(|before| (id, before)));
        let guideline = before.filter(|(from, _)| running < *from).map_or(is, |(_, was)| was);
        let (detector, surge) = detectors.remove(&id).unwrap_or_default();
        let dialogue = dialogues.remove(&name).unwrap_or_else(|| Zone::new(name.clone()));
        let region = regions.remove(&name).unwrap_or_else(|| Abuse::new(name.clone()));
        let spending = spent.remove(&id).map(|spent| Box::new(Spending::of(spent)));
        let watch = Watch::new(signs.remove(&id).unwrap_or_default(), region);
        mind.put_back(Known {
            is: Configured {
                name: name.into(),
                plan: plan.into(),
                guideline: is,
                bounds: spending.as_ref().map(|spending| spending.spent.bounds()).unwrap_or_default(),
                terms: Terms::default(),
            },
            guideline,
            configured: false,
            detector,
            surge,
            dialogue,
            watch,
            spending,
            last: None,
        });
    }
    catch_up(store, &mut mind, &changes)?;
    Ok(mind)
}

/// `changes`: from which slot on a zone has the guideline that it has, and which it had before.
fn catch_up(
    store: &Store,
    mind: &mut Mind,
    changes: &HashMap<u32, (SlotIndex, u64)>,
) -> Result<(), LedgerError> {
    let policy = mind.policy().clone();
    let oldest = mind.zones.iter().filter_map(|known| known.detector.next()).min();
    // Zones that no detector was written of yet are in the running day's slots from their first on.
    let from = oldest.filter(|_| mind.zones.iter().all(|known| known.detector.next().is_some()));
    store.recent(from.unwrap_or_default(), |slot, id, packed| {
        let Some(known) = mind.zones.get_mut(id as usize) else { return };
        if known.detector.next().is_none_or(|next| next <= slot) {
            let before = changes.get(&id).filter(|(from, _)| slot < *from);
            let guideline = before.map_or(known.is.guideline, |(_, was)| *was);
            known.detector.observe(&policy, slot, packed.judgement());
            // What a verdict covers is unknown, and so is nothing that is far above.
            if packed.judgement().is_known() {
                known.surge.observe(&policy, &packed.kept(slot), guideline);
            }
        }
    })?;
    Ok(())
}
