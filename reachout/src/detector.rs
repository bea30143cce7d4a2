//! One zone's detector: judged slots in, [`Decision`]s out; O(1) a slot, no clock.
//!
//! It holds the last 30 days as judgements (never counts or guidelines: what was judged stays judged), split at 14 days for
//! "back to normal", and two folds of episodes: `head` after the newest slot, `tail` after the newest slot that has left
//! the 30 days. Late data and attack verdicts edit the 30 days; then `head` is folded again from `tail`. That may bring new
//! decisions; one that was made is never taken back, whatever becomes of the budgets.
//!
//! Slots that are not reported are unknown. Decisions on spikes are dated by the slot that proved the spike, the others by
//! the newest slot. Evidence opens one case: after [`Detector::settle`] only later slots and spikes count towards another.
//! The same calls with the same policy give the same decisions; nothing else has an influence.

use crate::{
    decision::{Decision, Event, Rule},
    episode::{Counted, Episodes},
    policy::Policy,
    slot::{Judgement, SLOTS_PER_HOUR, SlotIndex},
    window::Window,
};
use serde::{Deserialize, Serialize};

/// A zone's usage region and the evidence for its case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detector {
    /// The first slot that was ever known here, and the one that comes next.
    span: Option<(SlotIndex, SlotIndex)>,
    /// The last 14 days, and what is left of the 30 before them.
    recent: Window,
    older: Window,
    head: Episodes,
    tail: Episodes,
    /// Starts of the spikes that were decided on, as far back as they can come up again.
    decided: Vec<SlotIndex>,
    settled: SlotIndex,
    /// Over slots of the 30 days at or after `settled`.
    unsettled_over: u32,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Quiet,
    Flagged,
    /// A case was opened, and is not settled.
    Case {
        closable: bool,
    },
}

/// The usage region: derived, and so never stored as truth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// A spike is going on.
    pub spiking: bool,
    /// Over time in the last 30 days.
    pub over_hours: f64,
    /// Part of the R2 budget that is spent; above 1 it is overspent.
    pub budget_spent: f64,
    pub counted_spikes: u32,
    /// Known part of the last 30 days, or of the time since the first slot.
    pub coverage: f64,
    /// True if [`Event::Closable`] holds at the newest slot.
    pub normal: bool,
}

impl Detector {
    /// One slot's judgement. Slots that were passed over are unknown; an earlier slot than the newest is late data.
    pub fn observe(&mut self, policy: &Policy, slot: SlotIndex, judgement: Judgement) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let (_, next) = *self.span.get_or_insert((slot, slot));
        if slot < next {
            return self.late(policy, [(slot, judgement)]);
        }
        self.pass(policy, slot.since(next), &mut decisions);
        self.advance(policy, judgement, &mut decisions);
        decisions
    }

    /// Time went on up to `end` and nothing more is known of it.
    pub fn pass_until(&mut self, policy: &Policy, end: SlotIndex) -> Vec<Decision> {
        let mut decisions = Vec::new();
        if let Some((_, next)) = self.span {
            self.pass(policy, end.since(next), &mut decisions);
        }
        decisions
    }

    /// Data on slots that were judged already, or that lie before the first one. Adds what it proves
    /// ([`Judgement::with_late`]); what is older than the window changes nothing.
    pub fn late(
        &mut self,
        policy: &Policy,
        slots: impl IntoIterator<Item = (SlotIndex, Judgement)>,
    ) -> Vec<Decision> {
        self.edit(policy, slots, Judgement::with_late)
    }

    /// These slots belong to an attack: they are left out of every budget, as if nothing were known of them.
    pub fn exclude(&mut self, policy: &Policy, slots: impl IntoIterator<Item = SlotIndex>) -> Vec<Decision> {
        self.edit(policy, slots.into_iter().map(|slot| (slot, Judgement::Unknown)), |_, unknown| unknown)
    }

    /// What is seen before `until` is settled (its case was closed, or the zone is exempt until then): it opens no case. The
    /// last call holds, so an exemption can be ended early.
    pub fn settle(&mut self, until: SlotIndex) {
        self.settled = until;
        self.phase = Phase::Quiet;
        self.unsettled_over = self.count_unsettled();
    }

    /// From here on slots are judged by another policy. What was decided stays; what is known is kept.
    pub fn adopt(&mut self, policy: &Policy) {
        if let Some((start, judgements)) = self.contents() {
            let found = self.refold(policy, start, &judgements);
            self.decided.extend(found.iter().map(|counted| counted.start));
        }
    }

    pub fn usage(&self, policy: &Policy) -> Usage {
        Usage {
            spiking: self.head.is_spiking(&policy.slots),
            over_hours: f64::from(self.over()) / SLOTS_PER_HOUR,
            budget_spent: policy.budget_spent(self.over()),
            counted_spikes: self.counted_spikes(policy),
            coverage: self.coverage(policy),
            normal: self.is_normal(policy),
        }
    }

    /// The next slot that [`Detector::observe`] takes as new; none before the first.
    pub fn next(&self) -> Option<SlotIndex> {
        self.span.map(|(_, next)| next)
    }

    fn pass(&mut self, policy: &Policy, slots: u32, decisions: &mut Vec<Decision>) {
        // Behind a whole unknown window nothing is left to decide on.
        let walked = slots.min(policy.slots.window);
        (0..walked).for_each(|_| self.advance(policy, Judgement::Unknown, decisions));
        if let Some((_, next)) = &mut self.span {
            *next = next.forth(slots - walked);
        }
    }

    fn advance(&mut self, policy: &Policy, judgement: Judgement, decisions: &mut Vec<Decision>) {
        let Some((_, at)) = self.span else { return };
        self.span = self.span.map(|(first, next)| (first, next.next()));
        let counted = self.head.step(&policy.slots, at, judgement);
        self.push(policy, at, judgement);
        self.head.forget_before(self.window_start(policy));
        decisions.extend(self.count(policy, counted));
        self.decide(policy, at, judgement.is_known(), decisions);
    }

    /// The newest slot enters the windows; the oldest moves on, and out into `tail`.
    fn push(&mut self, policy: &Policy, at: SlotIndex, judgement: Judgement) {
        self.recent.push(judgement);
        if judgement == Judgement::Over && at >= self.settled {
            self.unsettled_over += 1;
        }
        if self.recent.len() > policy.slots.normal
            && let Some(moved) = self.recent.pop()
        {
            self.older.push(moved);
        }
        if self.recent.len() + self.older.len() > policy.slots.window
            && let Some(left) = self.older.pop()
        {
            let index = at.back(policy.slots.window);
            if left == Judgement::Over && index >= self.settled {
                self.unsettled_over -= 1;
            }
            self.tail.step(&policy.slots, index, left);
            self.tail.forget_before(index);
        }
    }

    /// `may_close`: the newest slot is known. Nothing is closed by a slot that is not, however little it matters.
    fn decide(&mut self, policy: &Policy, at: SlotIndex, may_close: bool, decisions: &mut Vec<Decision>) {
        let opens = self.rule(policy);
        let flagged = self.is_flagged(policy) || opens.is_some();
        if self.phase == Phase::Quiet && flagged {
            self.phase = Phase::Flagged;
            decisions.push(self.decision(policy, at, Event::Flagged, None));
        }
        match self.phase {
            Phase::Flagged if opens.is_some() => {
                self.phase = Phase::Case { closable: false };
                decisions.push(self.decision(policy, at, Event::CaseOpened, opens));
            }
            Phase::Flagged if !flagged && may_close && self.is_covered(policy) => {
                self.phase = Phase::Quiet;
                decisions.push(self.decision(policy, at, Event::Unflagged, None));
            }
            Phase::Case { closable: was } => {
                let closable = (may_close || was) && self.is_normal(policy);
                self.phase = Phase::Case { closable };
                if closable && !was {
                    decisions.push(self.decision(policy, at, Event::Closable, None));
                }
            }
            Phase::Quiet | Phase::Flagged => {}
        }
    }

    /// Sustained is the stronger word where both hold.
    fn rule(&self, policy: &Policy) -> Option<Rule> {
        if policy.is_sustained(self.unsettled_over) {
            return Some(Rule::R2);
        }
        let detection = policy.detection();
        let mut spikes = self.unsettled_spikes(policy);
        let enough = spikes.clone().count() >= detection.repeated_spikes as usize;
        let first = spikes.next()?;
        let last = spikes.last().unwrap_or(first);
        (enough && last.since(first) >= policy.slots.spread).then_some(Rule::R1)
    }

    fn is_flagged(&self, policy: &Policy) -> bool {
        let detection = policy.detection();
        policy.budget_spent(self.unsettled_over) >= detection.flagged_budget_ratio
            || self.unsettled_spikes(policy).count() >= detection.flagged_spikes as usize
    }

    /// 14 days are there, and enough of them is known to say that something did not happen.
    fn is_covered(&self, policy: &Policy) -> bool {
        f64::from(self.recent.known()) >= policy.detection().normal_coverage * f64::from(policy.slots.normal)
    }

    fn is_normal(&self, policy: &Policy) -> bool {
        let Some((_, next)) = self.span else { return false };
        let above = self.recent.count(Judgement::Tolerated) + self.recent.count(Judgement::Over);
        // Nearest rank: the percentile is at most the guideline if no more slots than these are above it.
        let known = f64::from(self.recent.known());
        let may_be_above = known - (known * policy.detection().normal_percentile - 1e-6).ceil();
        self.is_covered(policy)
            && f64::from(above) <= may_be_above
            && !self.head.counted_spike_since(next.back(policy.slots.normal))
    }

    fn unsettled_spikes(&self, policy: &Policy) -> impl Iterator<Item = SlotIndex> + Clone {
        self.head.counted_from(self.window_start(policy).max(self.settled))
    }

    fn window_start(&self, policy: &Policy) -> SlotIndex {
        self.span.map_or(SlotIndex(0), |(_, next)| next.back(policy.slots.window))
    }

    fn over(&self) -> u32 {
        self.recent.count(Judgement::Over) + self.older.count(Judgement::Over)
    }

    fn counted_spikes(&self, policy: &Policy) -> u32 {
        u32::try_from(self.head.counted_from(self.window_start(policy)).count()).unwrap_or(u32::MAX)
    }

    fn coverage(&self, policy: &Policy) -> f64 {
        let Some((first, next)) = self.span else { return 0.0 };
        let elapsed = next.since(first).clamp(1, policy.slots.window);
        f64::from(self.recent.known() + self.older.known()) / f64::from(elapsed)
    }

    fn decision(&self, policy: &Policy, slot: SlotIndex, event: Event, rule: Option<Rule>) -> Decision {
        Decision {
            at: slot.end(),
            event,
            rule,
            over_hours: f64::from(self.over()) / SLOTS_PER_HOUR,
            counted_spikes: self.counted_spikes(policy),
            coverage: self.coverage(policy),
        }
    }

    /// A decision on a counted spike, unless one was made on that episode before.
    fn count(&mut self, policy: &Policy, counted: Option<Counted>) -> Option<Decision> {
        let Counted { start, by, until } = counted?;
        if self.decided.iter().any(|decided| (start..=until).contains(decided)) {
            return None;
        }
        let oldest = self.tail.open_since().unwrap_or(start).min(self.window_start(policy));
        self.decided.retain(|decided| *decided >= oldest);
        self.decided.push(start);
        Some(self.decision(policy, by, Event::SpikeCounted, None))
    }

    fn edit(
        &mut self,
        policy: &Policy,
        slots: impl IntoIterator<Item = (SlotIndex, Judgement)>,
        merge: impl Fn(Judgement, Judgement) -> Judgement,
    ) -> Vec<Decision> {
        let (Some((start, mut judgements)), Some((first, next))) = (self.contents(), self.span) else {
            return Vec::new();
        };
        let (mut start, mut changed) = (start, false);
        for (slot, judgement) in slots {
            if slot >= next || slot < self.window_start(policy) {
                continue;
            }
            if slot < start {
                judgements.splice(0..0, std::iter::repeat_n(Judgement::Unknown, start.since(slot) as usize));
                start = slot;
            }
            let place = &mut judgements[slot.since(start) as usize];
            let merged = merge(*place, judgement);
            changed |= merged != *place;
            *place = merged;
        }
        if !changed {
            return Vec::new();
        }
        self.span = Some((first.min(start), next));
        let found = self.refold(policy, start, &judgements);
        let mut decisions = Vec::new();
        for counted in found {
            decisions.extend(self.count(policy, Some(counted)));
        }
        self.decide(policy, next.back(1), false, &mut decisions);
        decisions
    }

    /// The slots that are held, and the first one's number.
    fn contents(&self) -> Option<(SlotIndex, Vec<Judgement>)> {
        let (_, next) = self.span?;
        let held: Vec<_> = self.older.iter().chain(self.recent.iter()).collect();
        Some((next.back(held.len() as u32), held))
    }

    /// Folds these slots anew from `tail`, and returns the spikes that were counted on the way.
    fn refold(&mut self, policy: &Policy, start: SlotIndex, judgements: &[Judgement]) -> Vec<Counted> {
        (self.recent, self.older, self.unsettled_over) = (Window::default(), Window::default(), 0);
        self.head = self.tail.clone();
        let mut found: Vec<Counted> = Vec::new();
        for (offset, judgement) in (0..).zip(judgements) {
            let at = start.forth(offset);
            found.extend(self.head.step(&policy.slots, at, *judgement));
            if let Some(last) = found.last_mut()
                && self.head.open_since() == Some(last.start)
            {
                last.until = at;
            }
            self.push(policy, at, *judgement);
        }
        self.head.forget_before(self.window_start(policy));
        found
    }

    fn count_unsettled(&self) -> u32 {
        let Some((start, judgements)) = self.contents() else { return 0 };
        let unsettled = judgements.iter().skip(self.settled.since(start) as usize);
        unsettled.filter(|judgement| **judgement == Judgement::Over).count() as u32
    }
}
