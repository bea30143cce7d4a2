//! The abuse region of a zone: when a verdict begins, goes on and ends.
//!
//! Two families of signs are a suspicion: observed, told to operators. Three, or two and harm to the host, with prefixes that
//! the sockets come from: those prefixes are refused for 15 min, again while the evidence lasts, 24 h at most without a
//! person. Refused, an attack shows fewer signs, so two are enough to renew a verdict, if those who are refused are still seen. After
//! 24 h without a person it observes, and takes no measures until a person acts or there was no verdict for an hour. Slots under a
//! verdict are left out of all budgets. Like a zone, the region changes by facts only.

use crate::{
    actor::{Actor, Person, Reason, because},
    command::{About, Command},
    fact::Fact,
    ledger::{Draft, Entry},
    policy::{Policy, PolicyVersion},
    refusal::Refused,
    signal::Findings,
    slot::SlotIndex,
    verdict::{Ended, Measure, Verdict, justifies_measures},
    zone::ReplayError,
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

/// One zone's abuse region.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Abuse {
    zone: String,
    verdict: Option<Verdict>,
    #[serde(with = "time::serde::rfc3339::option")]
    mitigated_since: Option<OffsetDateTime>,
    /// The last verdict, cut off where it ended.
    past: Option<Verdict>,
    /// Nobody came within 24 h: no measures until somebody does, or it has been quiet.
    observes_only: bool,
    /// No verdict before this: a person has said so.
    #[serde(with = "time::serde::rfc3339::option")]
    hands_off_until: Option<OffsetDateTime>,
}

/// What follows from an observation or a person's act; as [`zone::Step`](crate::zone::Step).
#[derive(Clone, Debug, PartialEq)]
pub struct AbuseStep {
    pub entries: Vec<Draft>,
    pub commands: Vec<Command>,
    pub next: Abuse,
}

impl Abuse {
    pub fn new(zone: impl Into<String>) -> Self {
        Self {
            zone: zone.into(),
            verdict: None,
            mitigated_since: None,
            past: None,
            observes_only: false,
            hands_off_until: None,
        }
    }

    /// The region after these entries, which are all of the zone's.
    pub fn replay<'a, 'p>(
        zone: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
        policies: impl Fn(&PolicyVersion) -> Option<&'p Policy>,
    ) -> Result<Self, ReplayError> {
        let mut abuse = Self::new(zone);
        entries.into_iter().try_for_each(|entry| abuse.follow(entry, &policies))?;
        Ok(abuse)
    }

    /// Takes the zone's next entry into account, with every check.
    pub fn follow<'p>(
        &mut self,
        entry: &Entry,
        policies: impl Fn(&PolicyVersion) -> Option<&'p Policy>,
    ) -> Result<(), ReplayError> {
        let fact = entry.fact()?;
        if !fact.is_of_abuse() {
            return Ok(());
        }
        let policy = ReplayError::known(entry, &policies)?;
        let applied = self.apply(policy, entry.at, &fact);
        applied.map_err(|source| ReplayError::Forbidden { seq: entry.seq, source })
    }

    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Neither accused nor kept from it by a person's word.
    pub fn is_clear(&self, now: OffsetDateTime) -> bool {
        self.verdict.is_none() && self.hands_off_until.is_none_or(|until| now >= until)
    }

    /// True if the slot belongs to an attack, and so to no budget.
    pub fn covers(&self, slot: SlotIndex) -> bool {
        self.verdict.iter().chain(&self.past).any(|verdict| verdict.covers(slot))
    }

    /// At each observation, and at least once a minute.
    pub fn decide(
        &self,
        policy: &Policy,
        now: OffsetDateTime,
        findings: &Findings,
    ) -> Result<AbuseStep, Refused> {
        let mut step = Deciding::new(self, policy, now, Actor::Policy, because("signs of abuse"));
        step.observe(findings)?;
        Ok(step.step)
    }

    /// A person has looked and lets the verdict go on past 24 h.
    pub fn attend(
        &self,
        policy: &Policy,
        now: OffsetDateTime,
        by: Person,
        reason: Reason,
    ) -> Result<AbuseStep, Refused> {
        let mut step = Deciding::new(self, policy, now, Actor::Person(by.clone()), reason);
        let verdict = self.verdict.clone().ok_or(Refused::NoVerdict)?.attended(by);
        step.grant(Fact::VerdictRenewed { verdict })?;
        Ok(step.step)
    }

    /// A person ends the verdict; no measure is taken by itself for the next 24 h.
    pub fn end(
        &self,
        policy: &Policy,
        now: OffsetDateTime,
        by: Person,
        reason: Reason,
    ) -> Result<AbuseStep, Refused> {
        let mut step = Deciding::new(self, policy, now, Actor::Person(by), reason);
        step.end(Ended::ByPerson)?;
        Ok(step.step)
    }

    fn apply(&mut self, policy: &Policy, at: OffsetDateTime, fact: &Fact) -> Result<(), Refused> {
        match fact {
            Fact::Suspected { verdict } | Fact::VerdictRenewed { verdict } | Fact::Mitigated { verdict } => {
                if verdict.is_over(at) || verdict.zone() != self.zone {
                    return Err(Refused::NotCovered);
                }
                let was_quiet = self.past.as_ref().is_none_or(|past| at - past.until() >= QUIET);
                if matches!(fact, Fact::Suspected { .. }) && was_quiet {
                    self.observes_only = false;
                }
                let is_attended = |verdict: &Verdict| verdict.attended_by().is_some();
                if is_attended(verdict) && !self.verdict.as_ref().is_some_and(is_attended) {
                    self.observes_only = false;
                }
                self.verdict = Some(self.checked(policy, at, verdict)?);
            }
            Fact::VerdictEnded { verdict: id, ended } => {
                let verdict =
                    self.verdict.take().filter(|verdict| verdict.id() == id).ok_or(Refused::NoVerdict)?;
                (self.past, self.mitigated_since) = (Some(verdict.cut_off(at)), None);
                self.observes_only = match ended {
                    Ended::Expired => self.observes_only,
                    Ended::Unattended => true,
                    Ended::ByPerson => false,
                };
                if *ended == Ended::ByPerson {
                    let rest = Duration::hours(policy.params().abuse.unattended_hours.into());
                    self.hands_off_until = Some(at.saturating_add(rest));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The verdict as it holds: a person's attendance is of the measures that there were when the person looked.
    fn checked(
        &mut self,
        policy: &Policy,
        at: OffsetDateTime,
        verdict: &Verdict,
    ) -> Result<Verdict, Refused> {
        if !verdict.refuses() {
            return Ok(verdict.clone());
        }
        let refused = self.verdict.as_ref().is_some_and(Verdict::refuses);
        if self.observes_only && !refused {
            return Err(Refused::NotCovered);
        }
        let verdict = if refused { verdict.clone() } else { verdict.clone().unattended() };
        let most = unattended_end(policy, *self.mitigated_since.get_or_insert(at));
        if verdict.attended_by().is_none() && verdict.until() > most {
            return Err(Refused::Over { until: most });
        }
        Ok(verdict)
    }
}

/// After so long without a verdict what comes is another attack.
const QUIET: Duration = Duration::HOUR;

fn unattended_end(policy: &Policy, since: OffsetDateTime) -> OffsetDateTime {
    since.saturating_add(Duration::hours(policy.params().abuse.unattended_hours.into()))
}

struct Deciding<'a> {
    policy: &'a Policy,
    now: OffsetDateTime,
    actor: Actor,
    reason: Reason,
    step: AbuseStep,
}

impl<'a> Deciding<'a> {
    fn new(abuse: &Abuse, policy: &'a Policy, now: OffsetDateTime, actor: Actor, reason: Reason) -> Self {
        let step = AbuseStep { entries: Vec::new(), commands: Vec::new(), next: abuse.clone() };
        Self { policy, now, actor, reason, step }
    }

    fn observe(&mut self, findings: &Findings) -> Result<(), Refused> {
        if let Some(verdict) = self.step.next.verdict.clone() {
            let end = self.step.next.mitigated_since.map(|since| unattended_end(self.policy, since));
            // One that ended before, and nobody was there to see it, has expired.
            let lasted = end.is_some_and(|end| self.now >= end && verdict.until() >= end);
            if lasted && verdict.attended_by().is_none() {
                let about = About::Unattended { verdict: verdict.id().to_owned() };
                self.end(Ended::Unattended)?;
                self.tell(about);
            } else if verdict.is_over(self.now) {
                self.end(Ended::Expired)?;
            } else {
                return self.go_on(verdict, findings);
            }
        }
        let hands_off = self.step.next.hands_off_until.is_some_and(|until| self.now < until);
        if findings.families.len() >= 2 && !hands_off {
            self.suspect(findings)?;
        }
        Ok(())
    }

    fn suspect(&mut self, findings: &Findings) -> Result<(), Refused> {
        let until = self.now.saturating_add(self.policy.verdict());
        let Some(verdict) = Verdict::suspicion(&self.step.next.zone, findings, self.now, until) else {
            return Ok(());
        };
        self.record(Fact::Suspected { verdict: verdict.clone() })?;
        self.tell(About::Suspected { verdict: verdict.id().to_owned() });
        let (from, to) = (SlotIndex::containing(verdict.since()), SlotIndex::containing(self.now));
        self.step.commands.push(Command::LeaveOut { from, to });
        if self.may_mitigate(findings) { self.mitigate(verdict, findings) } else { Ok(()) }
    }

    /// The verdict stands: more of it, longer, or neither.
    fn go_on(&mut self, verdict: Verdict, findings: &Findings) -> Result<(), Refused> {
        let observing = *verdict.measure() == Measure::Observe;
        if observing && self.may_mitigate(findings) {
            return self.mitigate(verdict, findings);
        }
        let half_over = verdict.until() - self.now <= self.policy.verdict() / 2;
        let until = self.until(&verdict);
        if verdict.goes_on(findings) && half_over && until > verdict.until() {
            let verdict = verdict.renewed(findings, until);
            return self.grant(Fact::VerdictRenewed { verdict });
        }
        Ok(())
    }

    fn may_mitigate(&self, findings: &Findings) -> bool {
        justifies_measures(findings) && !self.step.next.observes_only
    }

    fn mitigate(&mut self, verdict: Verdict, findings: &Findings) -> Result<(), Refused> {
        let until = self.until(&verdict);
        let verdict = verdict.mitigating(findings, until);
        let about = About::Mitigating { verdict: verdict.id().to_owned() };
        self.grant(Fact::Mitigated { verdict })?;
        self.tell(about);
        Ok(())
    }

    /// 15 min from now; without a person not past 24 h of measures.
    fn until(&self, verdict: &Verdict) -> OffsetDateTime {
        let until = self.now.saturating_add(self.policy.verdict());
        match self.step.next.mitigated_since {
            Some(since) if verdict.attended_by().is_none() => until.min(unattended_end(self.policy, since)),
            _ => until,
        }
    }

    fn grant(&mut self, fact: Fact) -> Result<(), Refused> {
        self.record(fact)?;
        if let Some(Ok(lease)) = self.step.next.verdict().map(|verdict| verdict.lease(self.now)) {
            self.step.commands.push(Command::GrantLease(lease));
        }
        Ok(())
    }

    fn end(&mut self, ended: Ended) -> Result<(), Refused> {
        let verdict = self.step.next.verdict().ok_or(Refused::NoVerdict)?.id().to_owned();
        self.record(Fact::VerdictEnded { verdict: verdict.clone(), ended })?;
        self.step.commands.push(Command::EndVerdict { verdict });
        Ok(())
    }

    fn record(&mut self, fact: Fact) -> Result<(), Refused> {
        self.step.next.apply(self.policy, self.now, &fact)?;
        self.step.entries.push(Draft {
            at: self.now,
            zone: self.step.next.zone.clone(),
            actor: self.actor.clone(),
            reason: self.reason.clone(),
            // A verdict's evidence is in the verdict.
            evidence: "{}".to_owned(),
            policy: self.policy.version().clone(),
            fact,
        });
        Ok(())
    }

    fn tell(&mut self, about: About) {
        let zone = self.step.next.zone.clone();
        self.step.commands.push(Command::TellOperators { zone, about });
    }
}
