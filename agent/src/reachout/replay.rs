//! The ledger's inputs once more: what the stored slots of a zone would be decided as today.

use weir_reachout::{
    abuse::Abuse,
    detector::Detector,
    ledger::Draft,
    signal::Signals,
    slot::SlotIndex,
    surge::Surge,
    zone::{Input, Zone},
};

use super::{
    mind::{Known, Mind},
    say,
    watch::Watch,
};
use crate::ledger::{LedgerError, Store};

/// Every entry that the policy would make on the zone's stored slots, if nobody did anything.
pub fn decisions(store: &Store, mind: &Mind, zone: &str) -> Result<Vec<Draft>, LedgerError> {
    let Some(is) = mind.zone(zone).map(|known| known.is.clone()) else { return Ok(Vec::new()) };
    let history = store.history(zone, SlotIndex::EPOCH, SlotIndex::of_number(u32::MAX))?;
    let mut known = Known {
        guideline: is.guideline,
        is,
        configured: true,
        detector: Detector::default(),
        surge: Surge::default(),
        dialogue: Zone::new(zone),
        watch: Watch::new(Signals::default(), Abuse::new(zone)),
        spending: None,
        last: None,
    };
    let mut drafts = Vec::new();
    for slot in &history.slots {
        known.guideline = history.guideline_at(slot.index).unwrap_or(known.guideline);
        for decision in known.detector.observe(mind.policy(), slot.index, slot.judgement) {
            let evidence = say::evidence(&decision, &known).to_string();
            let input = Input::Decided { decision, evidence };
            let step = known.dialogue.decide(mind.policy(), known.is.terms, slot.index.end(), input);
            if let Ok(step) = step {
                drafts.extend(step.entries);
                known.dialogue = step.next;
            }
        }
    }
    Ok(drafts)
}
