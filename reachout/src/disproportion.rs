//! R3: a zone that overspends another resource than its WebSockets, and takes a material share of the fleet by it.
//!
//! One [`Overuse`] for each resource that the plan bounds: the R2 budget, spent on slots above 1.10 of the plan's bound, with
//! the same judgement of slots. The rule holds when one of them is overspent and the zone's share of what the fleet uses of it is
//! above `materiality`: what is little for the fleet is nobody's business. A share that is not known is not above it.

use crate::{
    decision::{Decision, Event, Rule},
    detector::Usage,
    policy::Policy,
    slot::{Judgement, SLOTS_PER_HOUR, SlotIndex},
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

    /// As [`Detector::exclude`](crate::detector::Detector::exclude).
    pub fn exclude(&mut self, slots: impl IntoIterator<Item = SlotIndex>) {
        let Some(next) = self.next else { return };
        let mut judgements: Vec<Judgement> = self.window.iter().collect();
        let start = next.back(self.window.len());
        for slot in slots.into_iter().filter(|slot| *slot >= start) {
            if let Some(judgement) = judgements.get_mut(slot.since(start) as usize) {
                *judgement = Judgement::Unknown;
            }
        }
        self.window = Window::default();
        judgements.into_iter().for_each(|judgement| self.window.push(judgement));
    }

    /// More than the R2 budget was spent since the last settlement.
    pub fn is_overspent(&self, policy: &Policy) -> bool {
        policy.is_sustained(self.window.count(Judgement::Over)) && policy.is_sustained(self.unsettled_over())
    }

    /// Over time since the last settlement, of the last 30 days.
    pub fn over_hours(&self) -> f64 {
        f64::from(self.unsettled_over()) / SLOTS_PER_HOUR
    }

    /// Back to normal, as the detector says it of WebSockets: of 14 days enough is known, and their 95th percentile is within the bound.
    pub fn is_normal(&self, policy: &Policy) -> bool {
        let (normal, detection) = (policy.slots.normal, policy.detection());
        let before = self.window.len().saturating_sub(normal) as usize;
        let (mut known, mut above) = (0_u32, 0_u32);
        for judgement in self.window.iter().skip(before) {
            known += u32::from(judgement.is_known());
            above += u32::from(matches!(judgement, Judgement::Tolerated | Judgement::Over));
        }
        let known = f64::from(known);
        let may_be_above = known - (known * detection.normal_percentile - 1e-6).ceil();
        known >= detection.normal_coverage * f64::from(normal) && f64::from(above) <= may_be_above
    }

    fn unsettled_over(&self) -> u32 {
        let Some(next) = self.next else { return 0 };
        let settled = self.settled.since(next.back(self.window.len())) as usize;
        self.window.iter().skip(settled).filter(|judgement| *judgement == Judgement::Over).count() as u32
    }
}

/// R3's word on the newest slot, for [`Zone::decide`](crate::zone::Zone::decide): an open case takes it as no news. Each resource
/// that is over in this slot comes with the zone's share of the fleet's use of it.
pub fn decide<'a>(
    policy: &Policy,
    slot: SlotIndex,
    usage: &Usage,
    overuse: impl IntoIterator<Item = (&'a Overuse, Option<f64>)>,
) -> Option<Decision> {
    overuse
        .into_iter()
        .any(|(resource, share)| is_disproportionate(policy, resource, share))
        .then(|| word(slot, usage, Event::CaseOpened))
}

/// The resource is overspent, and the share of it is material.
pub fn is_disproportionate(policy: &Policy, resource: &Overuse, share: Option<f64>) -> bool {
    share.is_some_and(|share| share > policy.detection().materiality) && resource.is_overspent(policy)
}

/// R3's own "back to normal": that of every resource that the plan bounds, and of WebSockets.
pub fn closable(slot: SlotIndex, usage: &Usage) -> Decision {
    word(slot, usage, Event::Closable)
}

fn word(slot: SlotIndex, usage: &Usage, event: Event) -> Decision {
    Decision {
        at: slot.end(),
        event,
        rule: Some(Rule::R3),
        over_hours: usage.over_hours,
        counted_spikes: usage.counted_spikes,
        coverage: usage.coverage,
    }
}
