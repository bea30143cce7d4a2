//! Limits as types: what cannot be proved cannot be built.
//!
//! A [`Limit`] is made from a delivered contact whose grace is over ([`GraceOver`]), a person's [`Approval`] and [`NotExempt`];
//! there is no other constructor, no `Deserialize`, and after a restart it is proved again from the ledger. What reaches the
//! kernel is a [`Lease`], which ends by itself: from a limit after 5 minutes, from a verdict when the verdict does. A
//! lease has no way to say that an established WebSocket be cut.
//!
//! ```compile_fail
//! use weir_reachout::limit::NotExempt;
//! let proof = NotExempt(()); // private: only `NotExempt::at` makes one
//! ```
//! ```compile_fail
//! let limit: weir_reachout::limit::Limit = serde_json::from_str("{}").unwrap(); // not Deserialize
//! ```

use crate::{
    actor::{Actor, Person},
    case::CaseId,
    contact::GraceOver,
    policy::Policy,
    refusal::Refused,
};
use serde::Serialize;
use time::OffsetDateTime;

/// A person's word for one cap on one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    case: CaseId,
    cap: u64,
    by: Person,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl Approval {
    /// Refused unless the actor is a person.
    pub fn given(actor: &Actor, case: &CaseId, cap: u64, at: OffsetDateTime) -> Result<Self, Refused> {
        match actor {
            Actor::Person(by) => Ok(Self { case: case.clone(), cap, by: by.clone(), at }),
            Actor::Policy | Actor::Customer | Actor::Delivery => Err(Refused::NeedsPerson),
        }
    }

    pub fn by(&self) -> &Person {
        &self.by
    }
}

/// Proof that a zone was not exempt at the time of asking.
#[derive(Debug)]
pub struct NotExempt(());

impl NotExempt {
    pub fn at(exempt_until: Option<OffsetDateTime>, now: OffsetDateTime) -> Result<Self, Refused> {
        match exempt_until {
            Some(until) if now < until => Err(Refused::Exempt { until }),
            _ => Ok(Self(())),
        }
    }
}

/// A cap on a zone's new upgrades, agreed or announced in a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    case: CaseId,
    cap: u64,
    grace: GraceOver,
    approval: Approval,
}

impl Limit {
    /// Everything has to be about the same case, and the approval about this cap.
    pub fn begin(
        case: &CaseId,
        cap: u64,
        grace: GraceOver,
        approval: Approval,
        _not_exempt: NotExempt,
    ) -> Result<Self, Refused> {
        if grace.contact().case() != case {
            return Err(Refused::NotContacted);
        }
        if approval.case != *case || approval.cap != cap {
            return Err(Refused::OtherApproval);
        }
        Ok(Self { case: case.clone(), cap, grace, approval })
    }

    pub fn case(&self) -> &CaseId {
        &self.case
    }

    /// Live WebSockets of the zone over the fleet above which new upgrades are refused.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    pub fn approval(&self) -> &Approval {
        &self.approval
    }

    /// The next 5 minutes of this limit.
    pub fn lease(&self, policy: &Policy, zone: &str, _not_exempt: NotExempt, now: OffsetDateTime) -> Lease {
        Lease {
            zone: zone.to_owned(),
            ground: Ground::Case { case: self.case.clone() },
            effect: Effect::RefuseUpgradesAbove { websockets: self.cap },
            from: now,
            until: now.saturating_add(policy.lease()),
        }
    }
}

/// What a lease rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "ground", rename_all = "snake_case")]
pub enum Ground {
    Case { case: CaseId },
    Verdict { verdict: String },
}

/// What the kernel does while a lease holds. Established WebSockets stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// New upgrades of the zone are refused while it has this many live WebSockets or more.
    RefuseUpgradesAbove { websockets: u64 },
    /// New connections from these prefixes are dropped.
    RefusePrefixes { prefixes: Vec<String> },
}

/// A refusal that ends by itself. Only [`Limit::lease`] and [`Verdict::lease`](crate::verdict::Verdict::lease) make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lease {
    pub(crate) zone: String,
    pub(crate) ground: Ground,
    pub(crate) effect: Effect,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) until: OffsetDateTime,
}

impl Lease {
    pub fn zone(&self) -> &str {
        &self.zone
    }

    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    pub fn from(&self) -> OffsetDateTime {
        self.from
    }

    /// From here on it holds no more.
    pub fn until(&self) -> OffsetDateTime {
        self.until
    }
}
