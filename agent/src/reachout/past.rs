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
    surge::Surge,
    zone::{ReplayError, Terms, Zone},
};

use super::{
    building::Building,
    mind::{Configured, Known, Mind, policies},
    spending::{Spending, Spent},
    watch::Watch,
};
use crate::ledger::{LedgerError, Store};

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
    let mut mind = Mind::new(policy, building);
    let mut guidelines: HashMap<u32, (u64, String)> =
        memory.guidelines.into_iter().map(|row| (row.zone, (row.guideline, row.plan))).collect();
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
        spent.extend(Spent::decode(&row.data).map(|spent| (row.zone, spent)));
    }
    for id in 0..memory.zones.len() as u32 {
        let name = memory.zones.get(&id).cloned().unwrap_or_default();
        let (guideline, plan) = guidelines.remove(&id).unwrap_or((u64::MAX, String::new()));
        let (detector, surge) = detectors.remove(&id).unwrap_or_default();
        let dialogue = dialogues.remove(&name).unwrap_or_else(|| Zone::new(name.clone()));
        let region = regions.remove(&name).unwrap_or_else(|| Abuse::new(name.clone()));
        let watch = Watch::new(signs.remove(&id).unwrap_or_default(), region);
        mind.put_back(Known {
            is: Configured {
                name: name.into(),
                plan: plan.into(),
                guideline,
                bounds: Bounds::default(),
                terms: Terms::default(),
            },
            guideline,
            configured: false,
            detector,
            surge,
            dialogue,
            watch,
            // What its plan bounds, the configuration has to say.
            spending: spent.remove(&id).map(|spent| Box::new(Spending::of(spent))),
            last: None,
        });
    }
    catch_up(store, &mut mind)?;
    Ok(mind)
}

fn catch_up(store: &Store, mind: &mut Mind) -> Result<(), LedgerError> {
    let policy = mind.policy().clone();
    let oldest = mind.zones.iter().filter_map(|known| known.detector.next()).min();
    // Zones that no detector was written of yet are in the running day's slots from their first on.
    let from = oldest.filter(|_| mind.zones.iter().all(|known| known.detector.next().is_some()));
    store.recent(from.unwrap_or_default(), |slot, id, packed| {
        let Some(known) = mind.zones.get_mut(id as usize) else { return };
        if known.detector.next().is_none_or(|next| next <= slot) {
            known.detector.observe(&policy, slot, packed.judgement());
        }
    })?;
    Ok(())
}
