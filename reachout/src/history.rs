//! A zone's stored past, for plots, reports and evidence. Judgements are exact, values are kept to about 1 %.

use crate::slot::{Judgement, SlotIndex};

/// One slot as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PastSlot {
    pub index: SlotIndex,
    /// Time-mean of live WebSockets; of an unknown slot a lower bound.
    pub value: f64,
    /// Highest count that was seen.
    pub max: f64,
    pub judgement: Judgement,
}

/// From this slot on the zone had this guideline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuidelineFrom {
    pub slot: SlotIndex,
    pub guideline: u64,
    pub plan: String,
}

/// The slots of a span in order. Slots that are not there are unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub slots: Vec<PastSlot>,
    /// In order; the first is the one in force when the span begins.
    pub guidelines: Vec<GuidelineFrom>,
}

impl History {
    /// The guideline in force at a slot's start.
    pub fn guideline_at(&self, slot: SlotIndex) -> Option<u64> {
        let before = self.guidelines.iter().take_while(|from| from.slot <= slot).last();
        before.or(self.guidelines.first()).map(|from| from.guideline)
    }
}
