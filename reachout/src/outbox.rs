//! The outbox: what has to leave, one row a message and way, and what became of it.
//!
//! A row is put in with the ledger entry that it follows from, in one transaction; the agent's store keeps both. Whoever sends
//! (the *worker*) takes due rows, notes each attempt before it makes it, and reports the [`Outcome`]. The row's [`key`](Message::key) is
//! the same at every attempt and is what the receiver knows a repetition by. A row to the customer is a notice: only its delivery
//! is a contact, and a bounce takes that back however late it comes.

use crate::contact::{Failure, NoticeKind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// The zone's customer, by mail.
    Customer,
    /// The operators, by each way that they have configured.
    Operators,
}

/// What a message is about; each has a template or a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// To the customer.
    Notice(NoticeKind),
    CaseOpened,
    CaseClosed,
    /// A person has to send this one: here is the draft.
    Draft(NoticeKind),
    Closable,
    Answered,
    Escalated,
    NoticeFailed,
    Surging,
    Suspected,
    Mitigating,
    Unattended,
}

/// A row as it goes in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage {
    /// Unique: putting a row in twice puts it in once.
    pub key: String,
    /// The configured way that it leaves by: `mail`, `webhook` ...
    pub way: String,
    pub recipient: Recipient,
    pub subject: Subject,
    pub zone: String,
    pub case: Option<String>,
    /// Of a notice: 1 for the case's first.
    pub number: Option<u8>,
    /// JSON: what was known when it was decided on.
    pub content: String,
    pub queued_at: OffsetDateTime,
}

/// A row that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: i64,
    pub key: String,
    pub way: String,
    pub recipient: Recipient,
    pub subject: Subject,
    pub zone: String,
    pub case: Option<String>,
    pub number: Option<u8>,
    pub content: String,
    pub queued_at: OffsetDateTime,
    /// Attempts that were begun before.
    pub attempts: u32,
    /// An attempt was begun and nothing is known of its end: whoever sent it died. The receiver may have it already.
    pub uncertain: bool,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Delivered,
    /// Not now: once more from then on.
    Retry { due: OffsetDateTime, why: String },
    /// Not at all. [`Failure::Bounced`] may follow a delivery.
    Failed { failure: Failure, why: String },
}

impl Subject {
    /// As it is stored, and as the label of `weir_notices_total`.
    pub fn label(self) -> String {
        match self {
            Self::Notice(kind) => format!("notice_{}", kind.label()),
            Self::Draft(kind) => format!("draft_{}", kind.label()),
            Self::CaseOpened => "case_opened".to_owned(),
            Self::CaseClosed => "case_closed".to_owned(),
            Self::Closable => "closable".to_owned(),
            Self::Answered => "answered".to_owned(),
            Self::Escalated => "escalated".to_owned(),
            Self::NoticeFailed => "notice_failed".to_owned(),
            Self::Surging => "surging".to_owned(),
            Self::Suspected => "suspected".to_owned(),
            Self::Mitigating => "mitigating".to_owned(),
            Self::Unattended => "unattended".to_owned(),
        }
    }

    /// The subject of a label.
    pub fn of_label(label: &str) -> Option<Self> {
        Self::all().find(|subject| subject.label() == label)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        const PLAIN: [Subject; 10] = [
            Subject::CaseOpened,
            Subject::CaseClosed,
            Subject::Closable,
            Subject::Answered,
            Subject::Escalated,
            Subject::NoticeFailed,
            Subject::Surging,
            Subject::Suspected,
            Subject::Mitigating,
            Subject::Unattended,
        ];
        let kinds = NoticeKind::ALL.into_iter();
        PLAIN.into_iter().chain(kinds.clone().map(Self::Notice)).chain(kinds.map(Self::Draft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_read_back_by_its_label() {
        assert_eq!(Subject::all().count(), 20);
        for subject in Subject::all() {
            assert_eq!(Subject::of_label(&subject.label()), Some(subject));
        }
        assert_eq!(Subject::of_label("other"), None);
    }
}
