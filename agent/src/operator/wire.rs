//! Acts as JSON, for the agent that takes them and for the command that asks for them. `docs/api.md` is the contract.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `POST /api/acts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case", deny_unknown_fields)]
pub enum ActRequest {
    DenyAdd {
        prefix: String,
        for_seconds: u64,
        reason: String,
    },
    DenyRemove {
        prefix: String,
        reason: String,
    },
    CapSet {
        zone: String,
        websockets: u64,
        for_seconds: u64,
        /// The evidence, in words: a cap of this kind says that abuse is suspected.
        verdict: String,
    },
    CapClear {
        zone: String,
        reason: String,
    },
    ZoneBlock {
        zone: String,
        for_seconds: u64,
        reason: String,
    },
    ZoneUnblock {
        zone: String,
        reason: String,
    },
    /// Exactly one of `zone` and `source`.
    Kill {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Count only: nothing is recorded, nothing ended.
        #[serde(default)]
        dry_run: bool,
        /// Needed unless it is a dry run.
        #[serde(default)]
        reason: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActReply {
    /// The ledger's record; none of a dry run.
    pub act: Option<ActRecord>,
    /// Of a kill: established sockets that were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
    /// Of a kill: those that it ended. The others had ended meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// Why it is recorded and in force, and yet may not do what was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `GET /api/denied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedReply {
    /// By prefix.
    pub denied: Vec<DeniedRecord>,
    /// Why nothing of it, or not all, is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A denied prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedRecord {
    pub prefix: String,
    /// The configuration names it, so that it has no end.
    pub configured: bool,
    /// `operator` or `verdict`, if one of them has put it there for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// The operator's act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<ActRecord>,
}

/// `GET /api/acts`; with `?history=N` the newest N of the ledger instead, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActsReply {
    pub acts: Vec<ActRecord>,
    /// What is wrong with the ledger, if something is: acts are refused then.
    pub ledger_fault: Option<String>,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActRecord {
    /// Number of the ledger's entry.
    pub entry: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `deny_add`, `deny_remove`, `cap_set`, `cap_clear`, `zone_block`, `zone_unblock`, `kill`.
    pub act: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websockets: Option<u64>,
    /// Of a kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
    /// User name of whoever did it, by the kernel's word.
    pub who: String,
    /// The user who had logged in, where that is somebody else (`sudo`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    pub in_force: bool,
}
