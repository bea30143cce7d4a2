//! What can be wrong with a ledger, and what to do about it.

use std::{io, path::PathBuf};

use weir_reachout::ledger::{Broken, FactError};

/// Nothing was written, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no ledger at {path}: the agent makes it where agent.ledger says")]
    Missing { path: PathBuf },
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another agent has the ledger {path}: give each instance its own (agent.ledger)")]
    Held { path: PathBuf },
    #[error("{path} is no ledger of weir: move it away, or name another file as agent.ledger")]
    Foreign { path: PathBuf },
    #[error(
        "the ledger {path} is of version {found}, and this weir knows versions up to {known}: run a newer weir"
    )]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error(
        "the ledger {path} is of version {found}: start this weir's agent once, which brings it to {known}"
    )]
    Older { path: PathBuf, found: usize, known: usize },
    #[error(
        "the ledger {path} is not what was written: {source}; keep it as evidence, and put a backup in its place"
    )]
    Tampered { path: PathBuf, source: Broken },
    #[error("the ledger {path} is damaged: {fault}; keep it, and put a backup in its place")]
    Damaged { path: PathBuf, fault: String },
    #[error(
        "the ledger {path}, or one of its files (-wal, -shm), was removed, replaced or emptied while the agent had it open: \
         keep what is there as evidence, and restart the agent"
    )]
    Replaced { path: PathBuf },
    #[error("cannot {action} the ledger {path}")]
    Database { action: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("{path} exists already: name a new file")]
    Exists { path: PathBuf },
    #[error(transparent)]
    Fact(#[from] FactError),
    #[error("the ledger's thread has ended: restart the agent")]
    Gone,
    #[error("too many acts wait for the ledger: try again")]
    Busy,
}
