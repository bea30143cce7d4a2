//! The policy over a recorded series: what `weir simulate` prints, by the detector that also judges live zones.
//!
//! Nobody answers in a simulation, so a case that becomes closable is closed there and then: what comes later is a new one.

use crate::{
    decision::{Decision, Event},
    detector::{Detector, Usage},
    policy::Policy,
    series::{Series, SeriesError, Slots},
};
use std::{io::BufRead, vec};

/// Reads a series (see [`series`](crate::series)) and judges it by this policy against one guideline. Decisions come
/// in time order, each dated at its slot's end.
pub fn simulate(policy: &Policy, guideline: u64, csv: impl BufRead) -> Result<Vec<Decision>, SeriesError> {
    let series = Series::read(csv)?;
    Ok(Simulation::new(policy, guideline, &series).collect())
}

/// Decisions over a series, one at a time.
#[derive(Clone, Debug)]
pub struct Simulation<'a> {
    policy: &'a Policy,
    guideline: u64,
    slots: Slots<'a>,
    detector: Detector,
    ready: vec::IntoIter<Decision>,
}

impl<'a> Simulation<'a> {
    pub fn new(policy: &'a Policy, guideline: u64, series: &'a Series) -> Self {
        let (detector, ready) = (Detector::default(), Vec::new().into_iter());
        Self { policy, guideline, slots: series.slots(), detector, ready }
    }

    /// The zone's usage after the slots that were judged so far.
    pub fn usage(&self) -> Usage {
        self.detector.usage(self.policy)
    }
}

impl Iterator for Simulation<'_> {
    type Item = Decision;

    fn next(&mut self) -> Option<Decision> {
        loop {
            if let Some(decision) = self.ready.next() {
                if decision.event == Event::Closable {
                    self.detector.settle(decision.slot().next());
                }
                return Some(decision);
            }
            let slot = self.slots.next()?;
            let judgement = slot.judge(self.policy, self.guideline);
            self.ready = self.detector.observe(self.policy, slot.index, judgement).into_iter();
        }
    }
}
