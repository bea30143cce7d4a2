//! A queue of judged slots, as runs of 2 bytes: what a zone's last 30 days cost in memory.
//!
//! A quiet zone is a handful of runs; the worst one, another judgement each slot, is 17 KiB for 30 days. Totals by judgement
//! are kept while slots come and go, so every budget is read without a walk.

use crate::slot::Judgement;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Up to 16,383 equal slots: judgement in the upper 2 bits, length below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Run(u16);

const LENGTH_BITS: u32 = 14;
const LONGEST: u16 = (1 << LENGTH_BITS) - 1;

impl Run {
    fn one(judgement: Judgement) -> Self {
        Self(((judgement as u16) << LENGTH_BITS) | 1)
    }

    fn judgement(self) -> Judgement {
        Judgement::ALL[usize::from(self.0 >> LENGTH_BITS)]
    }

    fn len(self) -> u16 {
        self.0 & LONGEST
    }
}

/// Slots in order, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    runs: VecDeque<Run>,
    totals: [u32; 4],
}

impl Window {
    pub fn push(&mut self, judgement: Judgement) {
        self.totals[judgement as usize] += 1;
        match self.runs.back_mut() {
            Some(run) if run.judgement() == judgement && run.len() < LONGEST => run.0 += 1,
            _ => self.runs.push_back(Run::one(judgement)),
        }
    }

    /// The oldest slot leaves.
    pub fn pop(&mut self) -> Option<Judgement> {
        let run = self.runs.front_mut()?;
        let judgement = run.judgement();
        run.0 -= 1;
        if run.len() == 0 {
            self.runs.pop_front();
        }
        self.totals[judgement as usize] -= 1;
        Some(judgement)
    }

    pub fn count(&self, judgement: Judgement) -> u32 {
        self.totals[judgement as usize]
    }

    pub fn known(&self) -> u32 {
        self.len() - self.count(Judgement::Unknown)
    }

    pub fn len(&self) -> u32 {
        self.totals.iter().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = Judgement> {
        self.runs.iter().flat_map(|run| std::iter::repeat_n(run.judgement(), run.len().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_as_a_queue_of_single_slots(steps in prop::collection::vec((0usize..4, 1usize..40, 0usize..30), 0..40)) {
            let (mut window, mut naive) = (Window::default(), VecDeque::new());
            for (judgement, pushes, pops) in steps {
                for _ in 0..pushes {
                    window.push(Judgement::ALL[judgement]);
                    naive.push_back(Judgement::ALL[judgement]);
                }
                for _ in 0..pops {
                    prop_assert_eq!(window.pop(), naive.pop_front());
                }
            }
            prop_assert_eq!(window.iter().collect::<Vec<_>>(), Vec::from(naive.clone()));
            for judgement in Judgement::ALL {
                prop_assert_eq!(window.count(judgement) as usize, naive.iter().filter(|j| **j == judgement).count());
            }
        }
    }

    #[test]
    fn a_long_calm_costs_a_few_bytes() {
        let mut window = Window::default();
        (0..100_000).for_each(|_| window.push(Judgement::Within));
        assert_eq!(window.runs.len(), 7);
        assert_eq!(window.len(), 100_000);
    }
}
