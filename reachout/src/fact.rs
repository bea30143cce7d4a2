//! What can have happened to a zone: the content of the ledger, and the only thing that changes a zone's state.

use crate::{
    case::{CaseId, Closing},
    contact::{Failure, NoticeKey},
    decision::{Event, Rule},
    hand::HandAct,
    verdict::{Ended, Verdict},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// One thing that happened. Who, when, why and on what evidence is the [`Entry`](crate::ledger::Entry)'s to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    SpikeCounted,
    Flagged,
    Unflagged,
    /// The detector's word had no consequence: the zone is exempt.
    Spared {
        event: Event,
    },
    /// Far above the guideline for an hour: told to operators, and nothing else follows.
    Surging,
    CaseOpened {
        case: CaseId,
        rule: Rule,
    },
    /// Back to normal, and a person has to say what follows.
    Closable {
        case: CaseId,
    },
    NoticeQueued {
        notice: NoticeKey,
    },
    NoticeDelivered {
        notice: NoticeKey,
    },
    NoticeFailed {
        notice: NoticeKey,
        failure: Failure,
    },
    Answered {
        case: CaseId,
        answer: Answer,
    },
    Noted {
        case: CaseId,
    },
    Escalated {
        case: CaseId,
    },
    LimitScheduled {
        case: CaseId,
        cap: u64,
        #[serde(with = "time::serde::rfc3339")]
        from: OffsetDateTime,
    },
    LimitApproved {
        case: CaseId,
        cap: u64,
    },
    LimitBegan {
        case: CaseId,
        cap: u64,
    },
    LimitLifted {
        case: CaseId,
    },
    Exempted {
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    ExemptionEnded,
    CaseClosed {
        case: CaseId,
        closing: Closing,
    },
    Suspected {
        verdict: Verdict,
    },
    Mitigated {
        verdict: Verdict,
    },
    /// Again for a while, on new evidence or on a person's word.
    VerdictRenewed {
        verdict: Verdict,
    },
    VerdictEnded {
        verdict: String,
        ended: Ended,
    },
    /// A person's act beside the policy; it changes nothing about usage and case.
    ByHand {
        act: HandAct,
    },
}

impl Fact {
    /// It changes the zone's abuse region, and nothing else.
    pub fn is_of_abuse(&self) -> bool {
        matches!(
            self,
            Self::Suspected { .. }
                | Self::Mitigated { .. }
                | Self::VerdictRenewed { .. }
                | Self::VerdictEnded { .. }
        )
    }

    /// The detector's word that this is the consequence of.
    pub(crate) fn decision(&self) -> Option<Event> {
        match self {
            Self::SpikeCounted => Some(Event::SpikeCounted),
            Self::Flagged => Some(Event::Flagged),
            Self::Unflagged => Some(Event::Unflagged),
            Self::Spared { event } => Some(*event),
            Self::CaseOpened { .. } => Some(Event::CaseOpened),
            Self::Closable { .. } | Self::CaseClosed { closing: Closing::SelfResolved, .. } => {
                Some(Event::Closable)
            }
            _ => None,
        }
    }
}

/// What a customer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// "It was an event."
    Event,
    /// "Tell us about it": they want to talk, or have.
    Talk,
    /// "Show me plans."
    Plans,
}
