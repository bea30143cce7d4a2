//! How an input becomes facts and commands: the policy of the dialogue, on top of what [`Zone`] allows.
//!
//! Everything is tried on a copy of the zone; a refusal anywhere leaves no step at all.

use crate::{
    actor::{Actor, Reason, because},
    case::{Case, CaseId, CaseState, Closing},
    command::{About, Command},
    contact::{Failure, Notice, NoticeKey, NoticeKind},
    decision::{Decision, Event, Rule},
    fact::{Answer, Fact},
    ledger::Draft,
    limit::NotExempt,
    policy::Policy,
    refusal::Refused,
    zone::{Act, Input, Resolution, Step, Terms, Zone},
};
use time::OffsetDateTime;

/// See [`Zone::decide`].
pub(crate) fn decide(
    zone: &Zone,
    policy: &Policy,
    terms: Terms,
    now: OffsetDateTime,
    input: Input,
) -> Result<Step, Refused> {
    let mut step = Deciding::new(zone, policy, terms, now);
    match input {
        Input::Decided { decision, evidence } => step.decided(decision, evidence)?,
        Input::Act { by, reason, act } => {
            (step.actor, step.reason) = (Actor::Person(by), reason);
            step.act(act)?;
        }
        Input::Delivered { notice } => step.delivered(notice)?,
        Input::NotDelivered { notice, failure } => step.not_delivered(notice, failure)?,
        Input::Answered { case, answer } => {
            (step.actor, step.reason) = (Actor::Customer, because("answered by link"));
            step.answered(case, answer)?;
        }
        Input::Guideline { was, is } => step.guideline(was, is)?,
        Input::Bounds { evidence } => step.bounds(evidence)?,
        Input::Surging { evidence } => step.surging(evidence)?,
        Input::Tick => step.tick()?,
    }
    Ok(step.finish())
}

/// A step in the making.
struct Deciding<'a> {
    policy: &'a Policy,
    terms: Terms,
    now: OffsetDateTime,
    actor: Actor,
    reason: Reason,
    evidence: String,
    was: &'a Zone,
    step: Step,
}

impl<'a> Deciding<'a> {
    fn new(zone: &'a Zone, policy: &'a Policy, terms: Terms, now: OffsetDateTime) -> Self {
        Self {
            policy,
            terms,
            now,
            actor: Actor::Policy,
            reason: because("time has passed"),
            evidence: "{}".to_owned(),
            was: zone,
            step: Step { entries: Vec::new(), commands: Vec::new(), next: zone.clone() },
        }
    }

    /// Commands that follow from where the zone is now, whatever brought it there.
    fn finish(mut self) -> Step {
        let limited = |zone: &Zone| zone.open_case().and_then(Case::limit).map(|limit| limit.case().clone());
        let (was, is) = (limited(self.was), limited(&self.step.next));
        if let Some(case) = was.filter(|case| is.as_ref() != Some(case)) {
            self.tell(Command::EndLimit { case });
        }
        if self.step.next.settled() != self.was.settled() {
            self.settle();
        }
        self.step
    }

    fn settle(&mut self) {
        let until = self.step.next.settled();
        self.tell(Command::SettleUsage { until });
    }

    fn record(&mut self, at: OffsetDateTime, fact: Fact) -> Result<(), Refused> {
        self.step.next.apply(self.policy, at, &self.actor, &fact)?;
        self.step.entries.push(Draft {
            at,
            zone: self.step.next.name().to_owned(),
            actor: self.actor.clone(),
            reason: self.reason.clone(),
            evidence: self.evidence.clone(),
            policy: self.policy.version().clone(),
            fact,
        });
        Ok(())
    }

    fn tell(&mut self, command: Command) {
        self.step.commands.push(command);
    }

    fn tell_operators(&mut self, about: About) {
        let zone = self.step.next.name().to_owned();
        self.tell(Command::TellOperators { zone, about });
    }

    fn open_case(&self) -> Result<&Case, Refused> {
        self.step.next.open_case().ok_or(Refused::NoCase)
    }

    fn decided(&mut self, decision: Decision, evidence: String) -> Result<(), Refused> {
        if self.step.next.has_taken(&decision) {
            return Ok(());
        }
        (self.evidence, self.reason) = (evidence, because(words(decision.event, decision.rule)));
        let (at, open) = (decision.at, self.open_case().ok().cloned());
        let spared = NotExempt::at(self.step.next.exempt_until(), at).is_err();
        match (decision.event, decision.rule, open) {
            (Event::SpikeCounted, ..) => self.record(at, Fact::SpikeCounted),
            (Event::Unflagged, ..) => self.record(at, Fact::Unflagged),
            (Event::Flagged | Event::CaseOpened, ..) if spared => {
                self.settle();
                self.record(at, Fact::Spared { event: decision.event })
            }
            (Event::Flagged, _, None) => self.record(at, Fact::Flagged),
            (Event::CaseOpened, Some(rule), None) => self.open(at, rule),
            // A case by R3 ends by R3's word, which speaks of every resource; the others by the detector's.
            (Event::Closable, by, Some(case)) if (by == Some(Rule::R3)) == (case.rule() == Rule::R3) => {
                self.closable(at, &case)
            }
            // Said before: the case is open, or over.
            (Event::Flagged | Event::CaseOpened | Event::Closable, ..) => Ok(()),
        }
    }

    fn open(&mut self, at: OffsetDateTime, rule: Rule) -> Result<(), Refused> {
        let case = CaseId::of(self.step.next.name(), at);
        self.record(at, Fact::CaseOpened { case: case.clone(), rule })?;
        self.tell(Command::OpenCase { case, rule });
        self.offer(NoticeKind::First);
        Ok(())
    }

    fn closable(&mut self, at: OffsetDateTime, case: &Case) -> Result<(), Refused> {
        if matches!(case.state(), CaseState::InDialogue | CaseState::Limited(_)) {
            let case = case.id().clone();
            self.record(at, Fact::Closable { case: case.clone() })?;
            self.tell_operators(About::Closable { case });
            return Ok(());
        }
        self.close(at, Closing::SelfResolved)
    }

    fn close(&mut self, at: OffsetDateTime, closing: Closing) -> Result<(), Refused> {
        let case = self.open_case()?;
        let (id, contacted) = (case.id().clone(), case.contact().is_ok());
        self.record(at, Fact::CaseClosed { case: id.clone(), closing })?;
        self.tell(Command::CloseCase { case: id, closing });
        if contacted {
            let exempted = closing == Closing::Exempted;
            self.offer(if exempted { NoticeKind::EventExempted } else { NoticeKind::Resolved });
        }
        Ok(())
    }

    /// Sends a notice where the plan allows it and the spacing does; else a person finds a draft, or finds it later.
    fn offer(&mut self, kind: NoticeKind) {
        let Some(case) = self.step.next.case().map(|case| case.id().clone()) else { return };
        if !self.may_send() {
            self.tell(Command::DraftNotice { case, kind });
        } else {
            self.queue_if_allowed(kind);
        }
    }

    /// Letters on R3 go by a person: an operator's own templates may know of connections only, and would say what is not so.
    fn may_send(&self) -> bool {
        let is_r3 = self.step.next.case().is_some_and(|case| case.rule() == Rule::R3);
        self.terms.automatic_notices && !is_r3
    }

    /// Too soon after another one, it is left to a later tick; once the notices are spent, to a person.
    fn queue_if_allowed(&mut self, kind: NoticeKind) {
        let _refused = self.queue(kind);
    }

    fn queue(&mut self, kind: NoticeKind) -> Result<(), Refused> {
        let case = self.step.next.case().ok_or(Refused::NoCase)?;
        let number = u8::try_from(case.notices().len() + 1).unwrap_or(u8::MAX);
        let notice = NoticeKey { case: case.id().clone(), kind, number };
        self.record(self.now, Fact::NoticeQueued { notice: notice.clone() })?;
        self.tell(Command::SendNotice { notice });
        Ok(())
    }

    fn delivered(&mut self, notice: NoticeKey) -> Result<(), Refused> {
        (self.actor, self.reason) = (Actor::Delivery, because("taken by the mail server"));
        if self.is_news(&notice, |notice| notice.is_queued()) {
            self.record(self.now, Fact::NoticeDelivered { notice })?;
        }
        Ok(())
    }

    fn not_delivered(&mut self, notice: NoticeKey, failure: Failure) -> Result<(), Refused> {
        (self.actor, self.reason) = (Actor::Delivery, because("not delivered"));
        if self.is_news(&notice, |notice| notice.is_queued() || notice.contact().is_some()) {
            self.record(self.now, Fact::NoticeFailed { notice: notice.clone(), failure })?;
            self.tell_operators(About::NoticeFailed { notice });
        }
        Ok(())
    }

    /// Whoever reads the mailbox that bounces come to says so; the case may be closed by then.
    fn bounced(&mut self, number: Option<u8>) -> Result<(), Refused> {
        let notices = self.step.next.case().ok_or(Refused::NoCase)?.notices();
        let named = match number {
            Some(number) => notices.iter().find(|notice| notice.key().number == number),
            None => notices.iter().rev().find(|notice| notice.contact().is_some()).or(notices.last()),
        };
        let notice =
            named.ok_or(number.map_or(Refused::NotDelivered, |number| Refused::NoNotice { number }))?;
        notice.contact().ok_or(Refused::NotDelivered)?;
        let notice = notice.key().clone();
        self.record(self.now, Fact::NoticeFailed { notice: notice.clone(), failure: Failure::Bounced })?;
        self.tell_operators(About::NoticeFailed { notice });
        Ok(())
    }

    /// Reports may come twice, and on cases long gone.
    fn is_news(&self, key: &NoticeKey, open: impl Fn(&Notice) -> bool) -> bool {
        let notices = self.step.next.case().map(Case::notices).unwrap_or_default();
        notices.iter().any(|notice| notice.key() == key && open(notice))
    }

    fn answered(&mut self, case: CaseId, answer: Answer) -> Result<(), Refused> {
        self.record(self.now, Fact::Answered { case: case.clone(), answer })?;
        self.tell_operators(About::Answered { case });
        Ok(())
    }

    /// A larger plan is the end of the dialogue; what does not fit it either is judged anew.
    fn guideline(&mut self, was: u64, is: u64) -> Result<(), Refused> {
        (self.reason, self.evidence) =
            (because("the guideline was raised"), format!(r#"{{"was":{was},"is":{is}}}"#));
        if is > was && self.open_case().is_ok() { self.close(self.now, Closing::Upgraded) } else { Ok(()) }
    }

    /// Larger bounds are the end of a dialogue about them, and of no other.
    fn bounds(&mut self, evidence: String) -> Result<(), Refused> {
        (self.reason, self.evidence) = (because("the plan's bounds were raised"), evidence);
        if self.open_case().is_ok_and(|case| case.rule() == Rule::R3) {
            return self.close(self.now, Closing::Upgraded);
        }
        Ok(())
    }

    fn surging(&mut self, evidence: String) -> Result<(), Refused> {
        (self.reason, self.evidence) = (because("far above the guideline for an hour"), evidence);
        self.record(self.now, Fact::Surging)?;
        self.tell_operators(About::Surging);
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<(), Refused> {
        let now = self.now;
        let case = || self.open_case().map(|case| case.id().clone());
        match act {
            Act::Contact => {
                let kind = match self.open_case()?.state() {
                    CaseState::LimitScheduled(_) => NoticeKind::LimitScheduled,
                    _ => self.open_case()?.next_kind(),
                };
                self.queue(kind)
            }
            Act::Reply { answer } => {
                let case = case()?;
                self.record(now, Fact::Answered { case, answer })
            }
            Act::Note => {
                let case = case()?;
                self.record(now, Fact::Noted { case })
            }
            Act::Bounce { number } => self.bounced(number),
            Act::Exempt { until } => self.exempt(until),
            Act::EndExemption => self.record(now, Fact::ExemptionEnded),
            Act::Resolve { how } => self.close(
                now,
                match how {
                    Resolution::Resolved => Closing::Resolved,
                    Resolution::Upgraded => Closing::Upgraded,
                    Resolution::FalseAlarm => Closing::FalseAlarm,
                },
            ),
            Act::ScheduleLimit { cap, from } => {
                let case = case()?;
                self.record(now, Fact::LimitScheduled { case, cap, from })?;
                self.offer(NoticeKind::LimitScheduled);
                Ok(())
            }
            Act::Approve => {
                let CaseState::LimitScheduled(terms) = self.open_case()?.state() else {
                    return Err(Refused::State { state: self.open_case()?.state().label() });
                };
                let (case, cap) = (case()?, terms.cap);
                self.record(now, Fact::LimitApproved { case, cap })
            }
            Act::Lift => {
                let case = case()?;
                self.record(now, Fact::LimitLifted { case })
            }
        }
    }

    fn exempt(&mut self, until: OffsetDateTime) -> Result<(), Refused> {
        self.record(self.now, Fact::Exempted { until })?;
        if self.open_case().is_ok() {
            self.close(self.now, Closing::Exempted)?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Refused> {
        if self.step.next.exempt_until().is_some_and(|until| until <= self.now) {
            self.record(self.now, Fact::ExemptionEnded)?;
        }
        if self.open_case().is_ok() {
            self.remind();
            self.escalate()?;
            self.begin_limit();
        }
        if let Some(lease) = self.step.next.lease(self.policy, self.now) {
            self.tell(Command::GrantLease(lease));
        }
        Ok(())
    }

    /// The first notice if it had to wait, then reminders, and the letter of a scheduled limit that came too soon after another;
    /// never while the last one's fate is open.
    fn remind(&mut self) {
        let Some(case) = self.step.next.open_case() else { return };
        let kind = match case.state() {
            CaseState::Open | CaseState::Contacted if !case.is_answered() => case.next_kind(),
            CaseState::LimitScheduled(_) if !case.is_limit_announced() => NoticeKind::LimitScheduled,
            _ => return,
        };
        let undecided = case.notices().last().is_some_and(|notice| notice.is_queued());
        if self.may_send() && !undecided {
            self.queue_if_allowed(kind);
        }
    }

    fn escalate(&mut self) -> Result<(), Refused> {
        let case = self.open_case()?;
        if case.is_silent(self.policy, self.now) {
            let case = case.id().clone();
            self.record(self.now, Fact::Escalated { case: case.clone() })?;
            self.tell_operators(About::Escalated { case });
        }
        Ok(())
    }

    fn begin_limit(&mut self) {
        let Some(case) = self.step.next.open_case() else { return };
        let CaseState::LimitScheduled(terms) = case.state() else { return };
        let (case, cap) = (case.id().clone(), terms.cap);
        if terms.approval.is_none() || self.now < terms.from {
            return;
        }
        // Refused when a bounce has moved the grace after the limit was scheduled: it waits.
        let _refused = self.record(self.now, Fact::LimitBegan { case, cap });
    }
}

const fn words(event: Event, rule: Option<Rule>) -> &'static str {
    match (event, rule) {
        (Event::SpikeCounted, _) => "one more occasion",
        (Event::Flagged, _) => "three quarters of a budget are spent",
        (Event::Unflagged, _) => "the budgets are below three quarters again",
        (Event::Closable, _) => "back to normal for 14 days",
        (Event::CaseOpened, Some(Rule::R1)) => "repeated spikes",
        (Event::CaseOpened, Some(Rule::R2)) => "sustained usage above the guideline",
        (Event::CaseOpened, _) => "a disproportionate share of the fleet",
    }
}
