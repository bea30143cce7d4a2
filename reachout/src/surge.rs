//! Operators hear of a zone that is far above its guideline for an hour, so that nobody is surprised by a great day.
//!
//! Popularity is not abuse and not yet a case: nothing follows but the telling, once until the zone is down for an hour.

use crate::{
    policy::Policy,
    slot::{Judgement, Slot},
};
use serde::{Deserialize, Serialize};

/// Per zone; 12 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surge {
    above: u32,
    below: u32,
    told: bool,
}

impl Surge {
    /// True if operators have to be told now. Unknown slots count neither way.
    pub fn observe(&mut self, policy: &Policy, slot: &Slot, guideline: u64) -> bool {
        if slot.value > policy.detection().surge_ratio * guideline as f64 {
            (self.above, self.below) = (self.above.saturating_add(1), 0);
        } else if slot.judge(policy, guideline) != Judgement::Unknown {
            (self.above, self.below) = (0, self.below.saturating_add(1));
            self.told &= self.below < policy.slots.gap;
        }
        let tell = self.above >= policy.slots.surge && !self.told;
        self.told |= tell;
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SlotIndex;

    fn told(values: &[f64]) -> Vec<usize> {
        let (policy, mut surge) = (Policy::default(), Surge::default());
        let slots = values.iter().map(|value| Slot {
            index: SlotIndex::EPOCH,
            value: *value,
            max: *value,
            complete: 1.0,
        });
        slots.enumerate().filter(|(_, slot)| surge.observe(&policy, slot, 1000)).map(|(n, _)| n).collect()
    }

    #[test]
    fn told_once_after_an_hour_far_above() {
        assert_eq!(told(&[vec![18_000.0; 50], vec![600.0; 11], vec![18_000.0; 50]].concat()), [11]);
        assert_eq!(told(&[vec![18_000.0; 50], vec![600.0; 12], vec![18_000.0; 50]].concat()), [11, 73]);
    }

    #[test]
    fn three_times_the_guideline_is_nothing_to_tell() {
        assert!(told(&[3000.0; 288]).is_empty());
    }
}
