//! One case: a dialogue with a zone's customer, from its opening to its end.
//!
//! ```text
//! Open -> Contacted -> InDialogue -> Closed
//!   ^        |  \-> Escalated  |
//!   |        v                 v
//!   +-- LimitScheduled <-------+
//!   |        v
//!   +---- Limited -> InDialogue
//! ```
//! `Contacted` begins with a *delivered* notice and ends if it bounces after all. Only `Case::apply` changes a case, by a
//! fact and with every check, so neither a wrong decision nor an edited ledger makes a state that the policy forbids.

use crate::{
    actor::Actor,
    contact::{DeliveredContact, Notice, NoticeKind},
    decision::Rule,
    fact::Fact,
    limit::{Approval, Limit, NotExempt},
    policy::Policy,
    refusal::Refused,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use time::OffsetDateTime;

/// Follows from the zone and the opening's slot, so two evaluators of one decision mean the same case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CaseId(String);

impl CaseId {
    pub fn of(zone: &str, opened_at: OffsetDateTime) -> Self {
        let digest = Sha256::new()
            .chain_update(opened_at.unix_timestamp().to_be_bytes())
            .chain_update(zone)
            .finalize();
        Self(digest.iter().take(6).fold("c-".to_owned(), |id, byte| format!("{id}{byte:02x}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a case is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    Resolved,
    Upgraded,
    Exempted,
    /// Back to normal before anybody had to decide.
    SelfResolved,
    FalseAlarm,
}

/// A limit that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitTerms {
    pub cap: u64,
    /// Not before this.
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    pub approval: Option<Approval>,
}

/// Where the dialogue is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CaseState {
    Open,
    Contacted,
    InDialogue,
    /// Every notice is spent and nobody answered: with a person now. Silence alone limits nothing.
    Escalated,
    LimitScheduled(LimitTerms),
    Limited(Limit),
    Closed {
        closing: Closing,
    },
}

impl CaseState {
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Contacted => "contacted",
            Self::InDialogue => "in_dialogue",
            Self::Escalated => "escalated",
            Self::LimitScheduled(_) => "limit_scheduled",
            Self::Limited(_) => "limited",
            Self::Closed { .. } => "closed",
        }
    }
}

/// A zone's case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    id: CaseId,
    rule: Rule,
    #[serde(with = "time::serde::rfc3339")]
    opened_at: OffsetDateTime,
    state: CaseState,
    /// When `state` began.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    notices: Vec<Notice>,
    answered: bool,
}

/// What a case needs to know of its zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneFacts {
    pub exempt_until: Option<OffsetDateTime>,
    /// When the zone's last notice was queued, on whatever case.
    pub last_notice: Option<OffsetDateTime>,
}

impl Case {
    pub(crate) fn open(id: CaseId, rule: Rule, at: OffsetDateTime) -> Self {
        Self {
            id,
            rule,
            opened_at: at,
            state: CaseState::Open,
            since: at,
            notices: Vec::new(),
            answered: false,
        }
    }

    pub fn id(&self) -> &CaseId {
        &self.id
    }

    pub fn rule(&self) -> Rule {
        self.rule
    }

    pub fn opened_at(&self) -> OffsetDateTime {
        self.opened_at
    }

    pub fn state(&self) -> &CaseState {
        &self.state
    }

    pub fn since(&self) -> OffsetDateTime {
        self.since
    }

    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether a letter on the scheduled limit was written since it was scheduled, whatever became of it.
    pub fn is_limit_announced(&self) -> bool {
        let of_limit = |notice: &Notice| {
            notice.key().kind == NoticeKind::LimitScheduled && notice.queued_at() >= self.since
        };
        self.notices.iter().any(of_limit)
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.state, CaseState::Closed { .. })
    }

    pub fn limit(&self) -> Option<&Limit> {
        match &self.state {
            CaseState::Limited(limit) => Some(limit),
            _ => None,
        }
    }

    /// The limit, proved once more at this moment: a clock that went back takes the grace back too.
    pub(crate) fn proved_limit(
        &self,
        policy: &Policy,
        zone: ZoneFacts,
        now: OffsetDateTime,
    ) -> Option<Limit> {
        let limit = self.limit()?;
        self.prove(policy, zone, limit.cap(), limit.approval(), now).ok()
    }

    /// The earliest contact that was delivered and did not bounce.
    pub fn contact(&self) -> Result<DeliveredContact, Refused> {
        self.notices.iter().find_map(Notice::contact).ok_or(Refused::NotContacted)
    }

    /// What the next notice is, if nobody says otherwise: a reminder only reminds of something that arrived.
    pub(crate) fn next_kind(&self) -> NoticeKind {
        if self.contact().is_ok() { NoticeKind::Reminder } else { NoticeKind::First }
    }

    /// The notices are spent, the last one's week is over, and nobody answered.
    pub(crate) fn is_silent(&self, policy: &Policy, now: OffsetDateTime) -> bool {
        let waiting = matches!(self.state, CaseState::Open | CaseState::Contacted) && !self.answered;
        let spent = self.notices.len() >= policy.params().contact.per_case.into();
        let last = self.notices.last().map(Notice::queued_at);
        waiting && spent && last.is_some_and(|last| now >= last.saturating_add(policy.case_gap()))
    }

    /// Makes a fact true of this case, or says why it cannot be.
    pub(crate) fn apply(
        &mut self,
        policy: &Policy,
        zone: ZoneFacts,
        at: OffsetDateTime,
        actor: &Actor,
        fact: &Fact,
    ) -> Result<(), Refused> {
        match fact {
            Fact::NoticeQueued { notice } if self.may_say(notice.kind) => {
                let notice = Notice::queue(policy, notice.clone(), zone.last_notice, &self.notices, at)?;
                self.notices.push(notice);
            }
            Fact::NoticeDelivered { notice } => {
                self.notice(notice.number)?.delivered(at);
                if self.state == CaseState::Open && self.contact().is_ok() {
                    self.enter(CaseState::Contacted, at);
                }
            }
            Fact::NoticeFailed { notice, failure } => {
                self.notice(notice.number)?.failed(*failure);
                self.without_contact(policy, zone, at);
            }
            Fact::Answered { .. } => {
                self.must_be_open()?;
                self.answered = true;
                if matches!(self.state, CaseState::Open | CaseState::Contacted | CaseState::Escalated) {
                    self.enter(CaseState::InDialogue, at);
                }
            }
            Fact::Noted { .. } | Fact::Closable { .. } => {}
            Fact::Escalated { .. } if self.is_silent(policy, at) => self.enter(CaseState::Escalated, at),
            Fact::LimitScheduled { cap, from, .. } => self.schedule(policy, actor, *cap, *from, at)?,
            Fact::LimitApproved { cap, .. } => self.approve(actor, *cap, at)?,
            Fact::LimitBegan { cap, .. } => self.begin(policy, zone, *cap, at)?,
            Fact::LimitLifted { .. } => match self.state {
                CaseState::LimitScheduled(_) | CaseState::Limited(_) => self.enter(CaseState::InDialogue, at),
                _ => return Err(self.wrong_state()),
            },
            Fact::CaseClosed { closing, .. } => self.close(*closing, at)?,
            _ => return Err(self.wrong_state()),
        }
        Ok(())
    }

    /// A notice says what is so: that it is over when it is over, that a limit is scheduled while it is.
    fn may_say(&self, kind: NoticeKind) -> bool {
        match kind {
            NoticeKind::First | NoticeKind::Reminder => self.is_open(),
            NoticeKind::EventExempted | NoticeKind::Resolved => !self.is_open(),
            NoticeKind::LimitScheduled => matches!(self.state, CaseState::LimitScheduled(_)),
        }
    }

    fn schedule(
        &mut self,
        policy: &Policy,
        actor: &Actor,
        cap: u64,
        from: OffsetDateTime,
        at: OffsetDateTime,
    ) -> Result<(), Refused> {
        if !matches!(actor, Actor::Person(_)) {
            return Err(Refused::NeedsPerson);
        }
        let contact = self.contact()?;
        if !matches!(self.state, CaseState::Contacted | CaseState::InDialogue | CaseState::Escalated) {
            return Err(self.wrong_state());
        }
        let until = contact.grace_until(policy);
        if from < until {
            return Err(Refused::GraceNotOver { until });
        }
        self.enter(CaseState::LimitScheduled(LimitTerms { cap, from, approval: None }), at);
        Ok(())
    }

    fn approve(&mut self, actor: &Actor, cap: u64, at: OffsetDateTime) -> Result<(), Refused> {
        let wrong_state = self.wrong_state();
        let CaseState::LimitScheduled(terms) = &mut self.state else { return Err(wrong_state) };
        if terms.cap != cap {
            return Err(Refused::OtherApproval);
        }
        terms.approval = Some(Approval::given(actor, &self.id, cap, at)?);
        Ok(())
    }

    fn begin(
        &mut self,
        policy: &Policy,
        zone: ZoneFacts,
        cap: u64,
        at: OffsetDateTime,
    ) -> Result<(), Refused> {
        let CaseState::LimitScheduled(terms) = &self.state else { return Err(self.wrong_state()) };
        if at < terms.from {
            return Err(Refused::NotYet { from: terms.from });
        }
        let approval = terms.approval.as_ref().ok_or(Refused::NotApproved)?;
        let limit = self.prove(policy, zone, cap, approval, at)?;
        self.enter(CaseState::Limited(limit), at);
        Ok(())
    }

    /// A case that is closed by itself must not be one that somebody talks about.
    fn close(&mut self, closing: Closing, at: OffsetDateTime) -> Result<(), Refused> {
        self.must_be_open()?;
        let with_a_person = matches!(self.state, CaseState::InDialogue | CaseState::Limited(_));
        if closing == Closing::SelfResolved && with_a_person {
            return Err(self.wrong_state());
        }
        self.enter(CaseState::Closed { closing }, at);
        Ok(())
    }

    /// After a late bounce nobody was contacted, or later than was thought: what rested on the contact is proved again, or
    /// falls with it.
    fn without_contact(&mut self, policy: &Policy, zone: ZoneFacts, at: OffsetDateTime) {
        let rests_on = match &self.state {
            CaseState::Contacted | CaseState::LimitScheduled(_) => self.contact().map(|_| None),
            CaseState::Limited(limit) => {
                self.prove(policy, zone, limit.cap(), limit.approval(), at).map(Some)
            }
            _ => return,
        };
        match rests_on {
            Ok(None) => {}
            Ok(Some(limit)) => self.state = CaseState::Limited(limit),
            Err(_) if self.contact().is_ok() => self.enter(CaseState::Contacted, at),
            Err(_) => self.enter(CaseState::Open, at),
        }
    }

    fn prove(
        &self,
        policy: &Policy,
        zone: ZoneFacts,
        cap: u64,
        approval: &Approval,
        at: OffsetDateTime,
    ) -> Result<Limit, Refused> {
        let grace = self.contact()?.grace_over(policy, at)?;
        let not_exempt = NotExempt::at(zone.exempt_until, at)?;
        Limit::begin(&self.id, cap, grace, approval.clone(), not_exempt)
    }

    fn notice(&mut self, number: u8) -> Result<&mut Notice, Refused> {
        let place = usize::from(number).checked_sub(1);
        place.and_then(|place| self.notices.get_mut(place)).ok_or(Refused::NoNotice { number })
    }

    fn must_be_open(&self) -> Result<(), Refused> {
        if self.is_open() { Ok(()) } else { Err(self.wrong_state()) }
    }

    fn wrong_state(&self) -> Refused {
        Refused::State { state: self.state.label() }
    }

    fn enter(&mut self, state: CaseState, at: OffsetDateTime) {
        (self.state, self.since) = (state, at);
    }
}
