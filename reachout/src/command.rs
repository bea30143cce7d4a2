//! What the core asks its shell to do. A command is run only after the entries of its [`Step`](crate::zone::Step) are kept;
//! each may be run twice without harm.

use crate::{
    case::{CaseId, Closing},
    contact::{NoticeKey, NoticeKind},
    decision::Rule,
    limit::Lease,
    slot::SlotIndex,
};

/// For the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show and announce a new case to operators, with its evidence.
    OpenCase { case: CaseId, rule: Rule },
    /// The case is over: resolve its alert.
    CloseCase { case: CaseId, closing: Closing },
    /// Put this row into the outbox, in the same transaction as the ledger entry.
    SendNotice { notice: NoticeKey },
    /// Offer an operator a draft: here a person sends.
    DraftNotice { case: CaseId, kind: NoticeKind },
    /// Tell operators, by whatever ways they have configured.
    TellOperators { zone: String, about: About },
    /// Give the kernel this lease, or lengthen the one that it has.
    GrantLease(Lease),
    /// The zone's limit is over before its lease is.
    EndLimit { case: CaseId },
    /// A verdict's measures are over before its lease is.
    EndVerdict { verdict: String },
    /// Call [`Detector::settle`](crate::detector::Detector::settle).
    SettleUsage { until: SlotIndex },
    /// Call [`Detector::exclude`](crate::detector::Detector::exclude) for these slots, the last one included.
    LeaveOut { from: SlotIndex, to: SlotIndex },
}

/// What operators are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Back to normal in the middle of a dialogue.
    Closable { case: CaseId },
    /// The customer answered.
    Answered { case: CaseId },
    /// All notices went unanswered.
    Escalated { case: CaseId },
    /// A notice did not arrive.
    NoticeFailed { notice: NoticeKey },
    /// Far above the guideline for an hour, with no sign of abuse.
    Surging,
    /// Abuse is suspected; nothing is done about it.
    Suspected { verdict: String },
    /// Abuse is suspected, and its prefixes are refused.
    Mitigating { verdict: String },
    /// A mitigation has reached 24 h without a person, and ended.
    Unattended { verdict: String },
}
