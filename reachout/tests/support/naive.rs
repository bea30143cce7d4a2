//! The detector's policy, from its words: after every slot everything is worked out again from the whole history. Slow,
//! without windows, folds or late data: what is known at the end is what was always known.

use weir_reachout::{
    decision::{Decision, Event, Rule},
    params::Detection,
    policy::Policy,
    slot::{Judgement, SlotIndex},
};

pub struct Naive {
    detection: Detection,
    first: SlotIndex,
    pub history: Vec<Judgement>,
    /// What [`Naive::counted`] said after the last over slot: no other slot can change it.
    spikes: Vec<Spike>,
    settled: usize,
    phase: Phase,
}

#[derive(PartialEq)]
enum Phase {
    Quiet,
    Flagged,
    Case { closable: bool },
}

/// A counted spike: its start, and every over slot of its episode.
#[derive(Clone, Debug)]
pub struct Spike {
    pub start: usize,
    pub over: Vec<usize>,
}

const fn hours(n: u32) -> usize {
    n as usize * 12
}

impl Naive {
    pub fn new(policy: &Policy, first: SlotIndex) -> Self {
        let detection = policy.detection().clone();
        Self { detection, first, history: Vec::new(), spikes: Vec::new(), settled: 0, phase: Phase::Quiet }
    }

    /// Every spike that counts, in the whole history.
    pub fn counted(&self) -> Vec<Spike> {
        let mut episodes: Vec<Vec<usize>> = Vec::new();
        let mut under = usize::MAX;
        for (slot, judgement) in self.history.iter().enumerate() {
            match judgement {
                Judgement::Over => {
                    if under >= self.detection.episode_gap_minutes as usize / 5 {
                        episodes.push(Vec::new());
                    }
                    under = 0;
                    episodes.last_mut().expect("an episode").push(slot);
                }
                Judgement::Unknown => {}
                _ => under = under.saturating_add(1),
            }
        }
        let mut counted: Vec<Spike> = Vec::new();
        for over in episodes {
            let is_spike = over.len() * 5 >= self.detection.spike_minutes as usize;
            let gap = hours(self.detection.counted_gap_hours);
            if is_spike && counted.last().is_none_or(|last| over[0] - last.start >= gap) {
                counted.push(Spike { start: over[0], over });
            }
        }
        counted
    }

    pub fn window(&self) -> std::ops::Range<usize> {
        let window = hours(24 * self.detection.window_days);
        self.history.len().saturating_sub(window)..self.history.len()
    }

    pub fn over_slots(&self, since: usize) -> usize {
        let window = self.window();
        self.history[window.start.max(since)..]
            .iter()
            .filter(|judgement| **judgement == Judgement::Over)
            .count()
    }

    pub fn settle(&mut self) {
        self.settled = self.history.len();
        self.phase = Phase::Quiet;
    }

    pub fn observe(&mut self, judgement: Judgement) -> Vec<Decision> {
        self.history.push(judgement);
        if judgement == Judgement::Over {
            self.spikes = self.counted();
        }
        let counted = std::mem::take(&mut self.spikes);
        let now = self.history.len() - 1;
        let mut decisions = Vec::new();
        let spike_slots = self.detection.spike_minutes as usize / 5;
        if counted.iter().any(|spike| spike.over.get(spike_slots - 1) == Some(&now)) {
            decisions.push(self.decision(&counted, Event::SpikeCounted, None));
        }

        let fresh: Vec<usize> = counted
            .iter()
            .map(|spike| spike.start)
            .filter(|start| *start >= self.settled.max(self.window().start))
            .collect();
        let over_hours = self.over_slots(self.settled) as f64 / 12.0;
        let r2 = over_hours > self.detection.sustained_hours;
        let r1 = fresh.len() >= self.detection.repeated_spikes as usize
            && fresh[fresh.len() - 1] - fresh[0] >= hours(24 * self.detection.repeated_spread_days);
        let flagged = r1
            || r2
            || over_hours >= self.detection.flagged_budget_ratio * self.detection.sustained_hours
            || fresh.len() >= self.detection.flagged_spikes as usize;
        if self.phase == Phase::Quiet && flagged {
            self.phase = Phase::Flagged;
            decisions.push(self.decision(&counted, Event::Flagged, None));
        }
        let known_now = judgement != Judgement::Unknown;
        if self.phase == Phase::Flagged && (r1 || r2) {
            self.phase = Phase::Case { closable: false };
            decisions.push(self.decision(
                &counted,
                Event::CaseOpened,
                Some(if r2 { Rule::R2 } else { Rule::R1 }),
            ));
        } else if self.phase == Phase::Flagged && !flagged && known_now && self.last_days_known() {
            self.phase = Phase::Quiet;
            decisions.push(self.decision(&counted, Event::Unflagged, None));
        } else if let Phase::Case { closable } = self.phase {
            let normal = self.is_normal(&counted) && (known_now || closable);
            if normal && !closable {
                decisions.push(self.decision(&counted, Event::Closable, None));
            }
            self.phase = Phase::Case { closable: normal };
        }
        self.spikes = counted;
        decisions
    }

    fn last_days(&self) -> &[Judgement] {
        let days = hours(24 * self.detection.normal_days);
        &self.history[self.history.len().saturating_sub(days)..]
    }

    fn last_days_known(&self) -> bool {
        let known = self.last_days().iter().filter(|judgement| judgement.is_known()).count();
        known as f64 >= self.detection.normal_coverage * hours(24 * self.detection.normal_days) as f64
    }

    fn is_normal(&self, counted: &[Spike]) -> bool {
        let from = self.history.len().saturating_sub(hours(24 * self.detection.normal_days));
        let spiked = counted.iter().any(|spike| spike.over.iter().any(|slot| *slot >= from));
        if spiked || !self.last_days_known() {
            return false;
        }
        let mut ratios: Vec<f64> = self
            .last_days()
            .iter()
            .filter_map(|judgement| match judgement {
                Judgement::Unknown => None,
                Judgement::Within => Some(0.9),
                Judgement::Tolerated => Some(1.05),
                Judgement::Over => Some(3.0),
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let rank = (ratios.len() * 95).div_ceil(100);
        rank == 0 || ratios[rank - 1] <= self.detection.normal_ratio
    }

    fn decision(&self, counted: &[Spike], event: Event, rule: Option<Rule>) -> Decision {
        let window = self.window();
        let known = self.history[window.clone()].iter().filter(|judgement| judgement.is_known()).count();
        Decision {
            at: self.first.forth(self.history.len() as u32 - 1).end(),
            event,
            rule,
            over_hours: self.over_slots(0) as f64 / 12.0,
            counted_spikes: counted.iter().filter(|spike| spike.start >= window.start).count() as u32,
            coverage: known as f64 / window.len() as f64,
        }
    }
}
