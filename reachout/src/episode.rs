//! Episodes, spikes and counted spikes: a fold over judged slots in time order.
//!
//! An episode starts at an over slot and ends after 1 h of under slots (12 of them since its last over slot); it is a spike
//! from 10 min of over time on, and counted if it starts at least 20 h after the last counted one started. An unknown slot
//! changes nothing: it neither ends an episode nor lengthens it.

use crate::{
    policy::SlotCounts,
    slot::{Judgement, SlotIndex},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The fold's state after the last slot that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Episodes {
    open: Option<Episode>,
    last_counted: Option<SlotIndex>,
    /// Starts of counted spikes, in order; older ones than [`Episodes::forget_before`] asked for are gone.
    counted: VecDeque<SlotIndex>,
    /// The latest over slot of any counted spike.
    counted_until: Option<SlotIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Episode {
    start: SlotIndex,
    last_over: SlotIndex,
    over: u32,
    /// Under slots since the last over one.
    gap: u32,
    counted: bool,
}

/// A spike was counted by the slot that was just taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub start: SlotIndex,
    /// The slot by which it became a spike.
    pub by: SlotIndex,
    /// As far as its episode is known to go on.
    pub until: SlotIndex,
}

impl Episodes {
    pub fn step(&mut self, slots: &SlotCounts, at: SlotIndex, judgement: Judgement) -> Option<Counted> {
        match judgement {
            Judgement::Unknown => None,
            Judgement::Within | Judgement::Tolerated => {
                if let Some(episode) = &mut self.open {
                    episode.gap += 1;
                    if episode.gap >= slots.gap {
                        self.open = None;
                    }
                }
                None
            }
            Judgement::Over => self.over(slots, at),
        }
    }

    fn over(&mut self, slots: &SlotCounts, at: SlotIndex) -> Option<Counted> {
        let fresh = Episode { start: at, last_over: at, over: 0, gap: 0, counted: false };
        let episode = self.open.get_or_insert(fresh);
        (episode.last_over, episode.gap) = (at, 0);
        episode.over += 1;
        let becomes_spike = episode.over == slots.spike;
        let far_enough = self.last_counted.is_none_or(|last| episode.start.since(last) >= slots.counted_gap);
        if becomes_spike && far_enough {
            episode.counted = true;
            self.last_counted = Some(episode.start);
            self.counted.push_back(episode.start);
        }
        if episode.counted {
            self.counted_until = Some(at);
        }
        (becomes_spike && far_enough).then_some(Counted { start: episode.start, by: at, until: at })
    }

    /// Starts of counted spikes from `from` on, in order.
    pub fn counted_from(&self, from: SlotIndex) -> impl Iterator<Item = SlotIndex> + Clone {
        self.counted.iter().copied().skip_while(move |start| *start < from)
    }

    /// True if an over slot of a counted spike lies at `from` or later.
    pub fn counted_spike_since(&self, from: SlotIndex) -> bool {
        self.counted_until.is_some_and(|until| until >= from)
    }

    /// The open episode's first slot.
    pub fn open_since(&self) -> Option<SlotIndex> {
        self.open.map(|episode| episode.start)
    }

    /// True while an episode is open that is a spike, counted or not.
    pub fn is_spiking(&self, slots: &SlotCounts) -> bool {
        self.open.is_some_and(|episode| episode.over >= slots.spike)
    }

    pub fn forget_before(&mut self, from: SlotIndex) {
        while self.counted.front().is_some_and(|start| *start < from) {
            self.counted.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    /// One letter a slot: `o`ver, `u`nder, `?`.
    fn counted(history: &str) -> Vec<(u32, u32)> {
        let slots = Policy::default().slots;
        let mut episodes = Episodes::default();
        let judge = |letter| match letter {
            'o' => Judgement::Over,
            'u' => Judgement::Within,
            _ => Judgement::Unknown,
        };
        let steps = history.chars().enumerate();
        steps
            .filter_map(|(i, letter)| episodes.step(&slots, SlotIndex(i as u32), judge(letter)))
            .map(|counted| (counted.start.0, counted.by.0))
            .collect()
    }

    #[test]
    fn ten_minutes_of_over_time_need_not_be_in_one_piece() {
        assert_eq!(counted("uo"), []);
        assert_eq!(counted("uoo"), [(1, 2)]);
        assert_eq!(counted(&format!("o{}o", "u".repeat(11))), [(0, 12)]);
    }

    #[test]
    fn an_hour_of_under_slots_ends_an_episode_and_unknown_time_does_not() {
        assert_eq!(counted(&format!("o{}o", "u".repeat(12))), []);
        assert_eq!(counted(&format!("o{}{}o", "u".repeat(11), "?".repeat(500))), [(0, 512)]);
        assert_eq!(counted(&format!("o{}?uo", "u".repeat(11))), []);
    }

    #[test]
    fn a_spike_counts_from_twenty_hours_after_the_last_counted_start() {
        let gap = |n: usize| format!("oo{}oo", "u".repeat(n));
        assert_eq!(counted(&gap(237)), [(0, 1)]);
        assert_eq!(counted(&gap(238)), [(0, 1), (240, 241)]);
        // Three peaks in a day count once, whatever lies between them.
        assert_eq!(counted(&format!("oo{0}oo{0}oo", "u".repeat(100))), [(0, 1)]);
    }
}
