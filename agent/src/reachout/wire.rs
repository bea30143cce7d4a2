//! Cases, reports and the policy as JSON, for the agent and for the commands. `docs/api.md` is the contract.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `GET /api/cases`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CasesReply {
    /// Open ones first, then by how long they are in their state.
    pub cases: Vec<CaseRecord>,
    /// Verdicts on suspicion of abuse that are not over.
    #[serde(default)]
    pub verdicts: Vec<VerdictRecord>,
    /// Why nothing is decided, if so.
    pub fault: Option<String>,
    /// The policy's time.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
}

/// A case, or a zone that is flagged (then it has no `case` and no `rule`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseRecord {
    pub case: Option<String>,
    pub zone: String,
    pub plan: String,
    /// `flagged`, `open`, `contacted`, `in_dialogue`, `escalated`, `limit_scheduled`, `limited`, `closed`.
    pub state: String,
    /// Of a closed case.
    pub closing: Option<String>,
    /// `R1`, `R2`, `R3`.
    pub rule: Option<String>,
    pub guideline: u64,
    pub over_hours: f64,
    /// Part of the budget of over time; above 1 it is overspent.
    pub budget_spent: f64,
    pub occasions: u32,
    /// Known part of the window.
    pub coverage: f64,
    #[serde(with = "time::serde::rfc3339::option")]
    pub opened_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    pub days_in_state: f64,
    pub answered: bool,
    pub notices: Vec<NoticeRecord>,
    /// Of a limit that is scheduled or in force.
    pub cap: Option<u64>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub limit_from: Option<OffsetDateTime>,
    pub approved_by: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub exempt_until: Option<OffsetDateTime>,
    /// What happens next, in words, and when; none if it is a person's to decide.
    pub next: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_at: Option<OffsetDateTime>,
}

/// A suspicion of abuse, and what is done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    pub verdict: String,
    pub zone: String,
    pub plan: String,
    /// `observe`, `refuse_prefixes`.
    pub measure: String,
    /// New connections from these are refused, for all zones of the host.
    pub prefixes: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// It ends then, unless its evidence lasts.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// The person who lets it go on past a day.
    pub attended_by: Option<String>,
    /// `families` (each with `baseline`, `now` and `since`), `prefixes`, `live`, `harm`.
    pub evidence: serde_json::Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRecord {
    pub key: String,
    pub kind: String,
    #[serde(with = "time::serde::rfc3339")]
    pub queued_at: OffsetDateTime,
    /// `queued`, `delivered`, `bounced`, `refused`, `expired`.
    pub outcome: String,
    #[serde(with = "time::serde::rfc3339::option")]
    pub delivered_at: Option<OffsetDateTime>,
}

/// `POST /api/cases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseRequest {
    /// A case's name; a zone's name does too.
    pub case: String,
    pub reason: String,
    #[serde(flatten)]
    pub act: CaseAct,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum CaseAct {
    Contact,
    Reply {
        /// `event`, `talk`, `plans`.
        answer: weir_reachout::fact::Answer,
    },
    Note,
    /// The last delivered notice came back, or the one of this number.
    Bounce {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u8>,
    },
    Exempt {
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    EndExemption,
    Resolve {
        /// `resolved`, `upgraded`, `false_alarm`.
        how: String,
    },
    ScheduleLimit {
        cap: u64,
        #[serde(with = "time::serde::rfc3339")]
        from: OffsetDateTime,
    },
    Approve,
    Lift,
    /// The zone's verdict goes on past a day without a person.
    AttendVerdict,
    /// It ends, and none is made by itself for a day.
    EndVerdict,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseReply {
    pub case: CaseRecord,
    /// Numbers of the ledger's entries.
    pub entries: u64,
}

/// `GET /api/policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyReply {
    pub version: String,
    /// As in `[policy]`.
    pub policy: serde_json::Value,
}

/// `GET /api/report/ZONE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportReply {
    pub record: CaseRecord,
    pub policy: String,
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub to: OffsetDateTime,
    /// Of the known slots.
    pub p95: Option<f64>,
    pub highest: Option<f64>,
    pub days: Vec<DayRecord>,
}

/// A day of a report, in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DayRecord {
    pub day: String,
    pub mean: f64,
    pub max: f64,
    pub over_hours: f64,
    /// Known part of the day.
    pub known: f64,
}
