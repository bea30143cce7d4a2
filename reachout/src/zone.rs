//! One zone's case region: what came in, and what follows.
//!
//! [`Zone::decide`] is pure: it returns a [`Step`] with the facts to write down, the commands to run and the zone as it is
//! then. The shell keeps the entries first (and outbox rows with them, in one transaction), then takes `next` and runs the
//! commands; if it dies in between, [`Zone::replay`] of what was kept is where it goes on. A zone changes by facts only, so
//! there is no transition without its entry, and a replay passes every check again.
//!
//! Entries on decisions are dated by the decision's slot; `now` dates what people and mail servers do.

use crate::{
    actor::{Actor, Person, Reason},
    case::{Case, CaseId, ZoneFacts},
    command::Command,
    contact::{Failure, NoticeKey},
    deciding::decide,
    decision::{Decision, Event},
    fact::{Answer, Fact},
    ledger::{Draft, Entry, FactError},
    limit::{Lease, NotExempt},
    policy::{Policy, PolicyVersion},
    refusal::Refused,
    slot::SlotIndex,
};
use serde::Serialize;
use std::collections::VecDeque;
use time::OffsetDateTime;

/// Persisted as its ledger entries, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zone {
    name: String,
    flagged: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    exempt_until: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_notice: Option<OffsetDateTime>,
    /// Usage before this is settled: it opens no case.
    settled: SlotIndex,
    /// Decisions that were taken up, so that a second evaluator's word is no news; the newest last.
    taken: VecDeque<(i64, Event)>,
    /// The open case, or the last one.
    case: Option<Case>,
}

/// More than a window of 30 days can bring.
const TAKEN: usize = 64;

/// What the zone's plan says about reaching out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Notices are sent without a person; default no.
    pub automatic_notices: bool,
}

/// What can come in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The detector's word, with what it rests on as JSON.
    Decided {
        decision: Decision,
        evidence: String,
    },
    /// An operator's act.
    Act {
        by: Person,
        reason: Reason,
        act: Act,
    },
    /// The mail server took it.
    Delivered {
        notice: NoticeKey,
    },
    NotDelivered {
        notice: NoticeKey,
        failure: Failure,
    },
    /// Through a signed link.
    Answered {
        case: CaseId,
        answer: Answer,
    },
    /// The zone's guideline is another from now on.
    Guideline {
        was: u64,
        is: u64,
    },
    /// What the plan bounds beside WebSockets, and what R3 opened a case for, is more from now on.
    Bounds {
        evidence: String,
    },
    /// See [`surge`](crate::surge).
    Surging {
        evidence: String,
    },
    /// Time has passed. At least once a minute.
    Tick,
}

/// What an operator can do with a zone's case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Contact,
    /// The customer answered by another way.
    Reply {
        answer: Answer,
    },
    Note,
    /// A delivered notice came back: the last one that was delivered, unless its number is named.
    Bounce {
        number: Option<u8>,
    },
    Exempt {
        until: OffsetDateTime,
    },
    EndExemption,
    Resolve {
        how: Resolution,
    },
    ScheduleLimit {
        cap: u64,
        from: OffsetDateTime,
    },
    Approve,
    Lift,
}

/// How a person ends a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Resolved,
    Upgraded,
    FalseAlarm,
}

/// What follows from one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub entries: Vec<Draft>,
    pub commands: Vec<Command>,
    pub next: Zone,
}

/// A ledger that says what cannot have been.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Fact(#[from] FactError),
    #[error("ledger entry {seq} rests on policy {version}, which is not known")]
    Policy { seq: u64, version: PolicyVersion },
    #[error("ledger entry {seq} cannot have happened: {source}")]
    Forbidden { seq: u64, source: Refused },
}

impl ReplayError {
    pub(crate) fn known<'p>(
        entry: &Entry,
        policies: &impl Fn(&PolicyVersion) -> Option<&'p Policy>,
    ) -> Result<&'p Policy, Self> {
        let unknown = || Self::Policy { seq: entry.seq, version: entry.policy.clone() };
        policies(&entry.policy).ok_or_else(unknown)
    }
}

impl Zone {
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            flagged: false,
            exempt_until: None,
            last_notice: None,
            settled: SlotIndex::EPOCH,
            taken: VecDeque::new(),
            case: None,
        }
    }

    /// The zone after these entries, which are all of its own, in order. `policies` knows every version they name.
    pub fn replay<'a, 'p>(
        name: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
        policies: impl Fn(&PolicyVersion) -> Option<&'p Policy>,
    ) -> Result<Self, ReplayError> {
        let mut zone = Self::new(name);
        entries.into_iter().try_for_each(|entry| zone.follow(entry, &policies))?;
        Ok(zone)
    }

    /// Takes the zone's next entry into account, with every check.
    pub fn follow<'p>(
        &mut self,
        entry: &Entry,
        policies: impl Fn(&PolicyVersion) -> Option<&'p Policy>,
    ) -> Result<(), ReplayError> {
        let fact = entry.fact()?;
        // A person's act beside the policy rests on none, and changes nothing here.
        if matches!(fact, Fact::ByHand { .. }) {
            return Ok(());
        }
        let policy = ReplayError::known(entry, &policies)?;
        let applied = self.apply(policy, entry.at, &entry.actor, &fact);
        applied.map_err(|source| ReplayError::Forbidden { seq: entry.seq, source })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Internal; nobody is told.
    pub fn is_flagged(&self) -> bool {
        self.flagged
    }

    pub fn exempt_until(&self) -> Option<OffsetDateTime> {
        self.exempt_until
    }

    /// What [`Detector::settle`](crate::detector::Detector::settle) was last called with, or has to be after a restart.
    pub fn settled(&self) -> SlotIndex {
        self.settled
    }

    /// True if this decision has had its consequences.
    pub fn has_taken(&self, decision: &Decision) -> bool {
        self.taken.contains(&(decision.at.unix_timestamp(), decision.event))
    }

    /// The open case, or the last one that was.
    pub fn case(&self) -> Option<&Case> {
        self.case.as_ref()
    }

    pub fn open_case(&self) -> Option<&Case> {
        self.case.as_ref().filter(|case| case.is_open())
    }

    /// The next 5 minutes of the zone's limit, if it has one and it is still right.
    pub fn lease(&self, policy: &Policy, now: OffsetDateTime) -> Option<Lease> {
        let limit = self.open_case()?.proved_limit(policy, self.facts(), now)?;
        let not_exempt = NotExempt::at(self.exempt_until, now).ok()?;
        Some(limit.lease(policy, &self.name, not_exempt, now))
    }

    /// What follows from an input; refused, it changes nothing.
    pub fn decide(
        &self,
        policy: &Policy,
        terms: Terms,
        now: OffsetDateTime,
        input: Input,
    ) -> Result<Step, Refused> {
        decide(self, policy, terms, now, input)
    }

    /// Makes a fact true of the zone, or says why it cannot be. The only thing that changes a zone.
    pub(crate) fn apply(
        &mut self,
        policy: &Policy,
        at: OffsetDateTime,
        actor: &Actor,
        fact: &Fact,
    ) -> Result<(), Refused> {
        match fact {
            Fact::SpikeCounted | Fact::Surging | Fact::Spared { .. } => {}
            Fact::Suspected { .. } | Fact::Mitigated { .. } | Fact::VerdictRenewed { .. } => {}
            Fact::VerdictEnded { .. } | Fact::ByHand { .. } => {}
            Fact::Flagged => self.flagged = true,
            Fact::Unflagged => self.flagged = false,
            Fact::CaseOpened { case, rule } => {
                if let Some(open) = self.open_case() {
                    return Err(Refused::CaseOpen { open: open.id().clone() });
                }
                NotExempt::at(self.exempt_until, at)?;
                self.flagged = false;
                self.case = Some(Case::open(case.clone(), *rule, at));
            }
            Fact::Exempted { until } => {
                if !matches!(actor, Actor::Person(_)) {
                    return Err(Refused::NeedsPerson);
                }
                if *until <= at {
                    return Err(Refused::Over { until: *until });
                }
                (self.exempt_until, self.flagged) = (Some(*until), false);
                // What happens until then is agreed: it opens nothing afterwards either.
                self.settled = SlotIndex::from_on(*until);
            }
            Fact::ExemptionEnded => {
                let until = self.exempt_until.take().ok_or(Refused::NotExempted)?;
                self.settled = SlotIndex::from_on(until.min(at));
            }
            Fact::NoticeQueued { notice } => {
                self.of_case(&notice.case, policy, at, actor, fact)?;
                self.last_notice = Some(at);
            }
            Fact::NoticeDelivered { notice } | Fact::NoticeFailed { notice, .. } => {
                self.of_case(&notice.case, policy, at, actor, fact)?;
            }
            Fact::Closable { case }
            | Fact::Answered { case, .. }
            | Fact::Noted { case }
            | Fact::Escalated { case }
            | Fact::LimitScheduled { case, .. }
            | Fact::LimitApproved { case, .. }
            | Fact::LimitBegan { case, .. }
            | Fact::LimitLifted { case } => self.of_case(case, policy, at, actor, fact)?,
            Fact::CaseClosed { case, .. } => {
                self.of_case(case, policy, at, actor, fact)?;
                self.settled = self.settled.max(SlotIndex::from_on(at));
            }
        }
        if let Some(event) = fact.decision() {
            self.taken.push_back((at.unix_timestamp(), event));
            if self.taken.len() > TAKEN {
                self.taken.pop_front();
            }
        }
        Ok(())
    }

    fn facts(&self) -> ZoneFacts {
        ZoneFacts { exempt_until: self.exempt_until, last_notice: self.last_notice }
    }

    fn of_case(
        &mut self,
        id: &CaseId,
        policy: &Policy,
        at: OffsetDateTime,
        actor: &Actor,
        fact: &Fact,
    ) -> Result<(), Refused> {
        let zone = self.facts();
        let case = self.case.as_mut().ok_or(Refused::NoCase)?;
        if case.id() != id {
            return Err(Refused::OtherCase { asked: id.clone() });
        }
        case.apply(policy, zone, at, actor, fact)
    }
}
