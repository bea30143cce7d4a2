//! R3: a zone that overspends another resource than its WebSockets, and takes a material share of the fleet by it.
//!
//! One [`Overuse`] for each resource that the plan bounds: the R2 budget, spent on slots above 1.10 of the plan's bound, with
//! the same judgement of slots. The rule holds when one of them is overspent and the zone's dominant share of the fleet is
//! above `materiality`: what is little for the fleet is nobody's business.

use crate::{
    decision::{Decision, Event, Rule},
    detector::Usage,
    policy::Policy,
    slot::{Judgement, SlotIndex},
    window::Window,
};
use serde::{Deserialize, Serialize};

/// The budget of one resource over the last 30 days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overuse {
    window: Window,
    next: Option<SlotIndex>,
    settled: SlotIndex,
}

impl Overuse {
    /// The slot of this resource, judged by [`Slot::judge`](crate::slot::Slot::judge) against the plan's bound. Slots that
    /// were passed over are unknown; earlier ones change nothing.
    pub fn observe(&mut self, policy: &Policy, slot: SlotIndex, judgement: Judgement) {
        let next = *self.next.get_or_insert(slot);
        if slot < next {
            return;
        }
        let unknown = slot.since(next).min(policy.slots.window) as usize;
        let judged = std::iter::repeat_n(Judgement::Unknown, unknown).chain([judgement]);
        for judgement in judged {
            self.window.push(judgement);
            if self.window.len() > policy.slots.window {
                self.window.pop();
            }
        }
        self.next = Some(slot.next());
    }

    /// As [`Detector::settle`](crate::detector::Detector::settle).
    pub fn settle(&mut self, until: SlotIndex) {
        self.settled = until;
    }

    /// More than the R2 budget was spent since the last settlement.
    pub fn is_overspent(&self, policy: &Policy) -> bool {
        let Some(next) = self.next else { return false };
        if !policy.is_sustained(self.window.count(Judgement::Over)) {
            return false;
        }
        let settled = self.settled.since(next.back(self.window.len())) as usize;
        let over = self.window.iter().skip(settled).filter(|judgement| *judgement == Judgement::Over);
        policy.is_sustained(over.count() as u32)
    }
}

/// R3's word on the newest slot, for [`Zone::decide`](crate::zone::Zone::decide): an open case takes it as no news.
pub fn decide<'a>(
    policy: &Policy,
    slot: SlotIndex,
    usage: &Usage,
    overuse: impl IntoIterator<Item = &'a Overuse>,
    dominant_share: f64,
) -> Option<Decision> {
    let material = dominant_share > policy.detection().materiality;
    let overspent = material && overuse.into_iter().any(|resource| resource.is_overspent(policy));
    overspent.then(|| Decision {
        at: slot.end(),
        event: Event::CaseOpened,
        rule: Some(Rule::R3),
        over_hours: usage.over_hours,
        counted_spikes: usage.counted_spikes,
        coverage: usage.coverage,
    })
}
