//! Why an act or a recorded fact is refused. The words go to the operator who asked, so they say what would help.

use crate::case::CaseId;
use time::OffsetDateTime;

/// Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the zone has no open case")]
    NoCase,
    #[error("case {asked} is not the zone's case")]
    OtherCase { asked: CaseId },
    #[error("case {open} is open already; a zone has one at a time")]
    CaseOpen { open: CaseId },
    #[error("not possible while the case is {state}")]
    State { state: &'static str },
    #[error(
        "no notice on this case was delivered: a notice that is queued, refused or bounced is no contact"
    )]
    NotContacted,
    #[error("the grace after the delivered notice lasts until {until}")]
    GraceNotOver { until: OffsetDateTime },
    #[error("no person has approved this limit")]
    NotApproved,
    #[error("the approval is for another case or another cap; it has to be given again")]
    OtherApproval,
    #[error("only a person can do this")]
    NeedsPerson,
    #[error("the limit is scheduled for {from}")]
    NotYet { from: OffsetDateTime },
    #[error("the zone is exempt until {until}")]
    Exempt { until: OffsetDateTime },
    #[error("the zone is not exempt")]
    NotExempted,
    #[error("this ends at {until}, which is over")]
    Over { until: OffsetDateTime },
    #[error("the next notice may go out at {from}")]
    NoticeTooSoon { from: OffsetDateTime },
    #[error("all {per_case} notices of this case are spent; speak to the customer in person")]
    NoticesSpent { per_case: u8 },
    #[error("{number} is not the number of the case's next notice")]
    NoticeNumber { number: u8 },
    #[error("the case has no notice number {number}")]
    NoNotice { number: u8 },
    #[error(
        "only a notice that was delivered can come back, and this one was not, or is known to have come back"
    )]
    NotDelivered,
    #[error("the verdict has expired, or does not cover this")]
    NotCovered,
    #[error("there is no verdict on this zone")]
    NoVerdict,
}
