//! Notices to a customer: identity, spacing, delivery.
//!
//! A notice is one outbox row, named by [`NoticeKey`]: whoever decides on it twice names the same row, so one mail leaves. At
//! most one notice goes to a zone in 72 h, one to a case in 7 days, three to a case, whatever they say and whoever asks. Only
//! a delivered notice is a [`DeliveredContact`], and a bounce that comes later takes that back.

use crate::{case::CaseId, policy::Policy, refusal::Refused};
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;

/// What a notice is about; each is a template of the operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    First,
    Reminder,
    EventExempted,
    Resolved,
    LimitScheduled,
}

impl NoticeKind {
    pub const ALL: [Self; 5] =
        [Self::First, Self::Reminder, Self::EventExempted, Self::Resolved, Self::LimitScheduled];

    pub const fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Reminder => "reminder",
            Self::EventExempted => "event_exempted",
            Self::Resolved => "resolved",
            Self::LimitScheduled => "limit_scheduled",
        }
    }
}

/// The outbox row's unique key, and the idempotency key that a receiver sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NoticeKey {
    pub case: CaseId,
    pub kind: NoticeKind,
    /// 1 for a case's first notice.
    pub number: u8,
}

impl fmt::Display for NoticeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.case, self.kind.label(), self.number)
    }
}

/// Why a notice did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Taken by the mail server, and returned.
    Bounced,
    /// Not taken by the mail server.
    Refused,
    /// Given up after its retries.
    Expired,
}

impl Failure {
    pub const ALL: [Self; 3] = [Self::Bounced, Self::Refused, Self::Expired];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Bounced => "bounced",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    Queued,
    Delivered {
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    Failed(Failure),
}

/// A notice of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    key: NoticeKey,
    #[serde(with = "time::serde::rfc3339")]
    queued_at: OffsetDateTime,
    delivery: Delivery,
}

impl Notice {
    /// A new row, if the spacing allows it: `zone_last` is when the zone's last notice of any case was queued, `earlier` are
    /// this case's notices.
    pub(crate) fn queue(
        policy: &Policy,
        key: NoticeKey,
        zone_last: Option<OffsetDateTime>,
        earlier: &[Self],
        at: OffsetDateTime,
    ) -> Result<Self, Refused> {
        let per_case = policy.params().contact.per_case;
        if earlier.len() >= per_case.into() {
            return Err(Refused::NoticesSpent { per_case });
        }
        let zone_from = zone_last.map(|last| last.saturating_add(policy.zone_gap()));
        let case_from = earlier.last().map(|last| last.queued_at.saturating_add(policy.case_gap()));
        if let Some(from) = zone_from.max(case_from)
            && at < from
        {
            return Err(Refused::NoticeTooSoon { from });
        }
        if usize::from(key.number) != earlier.len() + 1 {
            return Err(Refused::NoticeNumber { number: key.number });
        }
        Ok(Self { key, queued_at: at, delivery: Delivery::Queued })
    }

    pub fn key(&self) -> &NoticeKey {
        &self.key
    }

    pub fn queued_at(&self) -> OffsetDateTime {
        self.queued_at
    }

    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// True while nothing is known of its fate.
    pub fn is_queued(&self) -> bool {
        self.delivery == Delivery::Queued
    }

    /// A second report on the same notice changes nothing, and delivery is not believed after a failure.
    pub(crate) fn delivered(&mut self, at: OffsetDateTime) {
        if self.is_queued() {
            self.delivery = Delivery::Delivered { at };
        }
    }

    pub(crate) fn failed(&mut self, failure: Failure) {
        if !matches!(self.delivery, Delivery::Failed(_)) {
            self.delivery = Delivery::Failed(failure);
        }
    }

    /// The contact that this notice is; none unless it was delivered.
    pub fn contact(&self) -> Option<DeliveredContact> {
        match self.delivery {
            Delivery::Delivered { at } => Some(DeliveredContact { case: self.key.case.clone(), at }),
            Delivery::Queued | Delivery::Failed(_) => None,
        }
    }
}

/// Proof that the customer was reached about this case. Only [`Notice::contact`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveredContact {
    case: CaseId,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl DeliveredContact {
    pub fn case(&self) -> &CaseId {
        &self.case
    }

    pub fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// The first moment at which a limit on this case may begin.
    pub fn grace_until(&self, policy: &Policy) -> OffsetDateTime {
        self.at.saturating_add(policy.grace())
    }

    pub fn grace_over(self, policy: &Policy, now: OffsetDateTime) -> Result<GraceOver, Refused> {
        let until = self.grace_until(policy);
        if now < until { Err(Refused::GraceNotOver { until }) } else { Ok(GraceOver { contact: self }) }
    }
}

/// Proof that the grace after a delivered contact has passed. Only [`DeliveredContact::grace_over`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraceOver {
    contact: DeliveredContact,
}

impl GraceOver {
    pub fn contact(&self) -> &DeliveredContact {
        &self.contact
    }
}
