//! What the policy writes in one transaction: entries, outbox rows, slots and the detectors that saw them. All of it, or nothing.

use rusqlite::{Transaction, params};
use time::OffsetDateTime;
use weir_reachout::{
    ledger::{Draft, Entry, Head},
    outbox::NewMessage,
    slot::SlotIndex,
};

use super::{
    LedgerError, outbox,
    outbox::Unheard,
    row, slots,
    store::{Store, failed},
};

/// One transaction of the policy's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The policy that `drafts` were made under: its version and its parameters as JSON.
    pub policy: Option<(String, String)>,
    /// From this slot on it judges.
    pub adopted: Option<SlotIndex>,
    pub drafts: Vec<Draft>,
    pub messages: Vec<NewMessage>,
    /// Rows whose ends `drafts` tell.
    pub heard: Vec<Unheard>,
    /// Keys of delivered notices that came back, as a person says in `drafts`, and his words.
    pub returned: Vec<Returned>,
    /// Cases as they are after `drafts`.
    pub cases: Vec<CaseRow>,
    /// Names by number of zones that are new here.
    pub zones: Vec<(u32, String)>,
    pub guidelines: Vec<GuidelineRow>,
    /// A slot that is over: a row for each chunk of zones.
    pub slot: Option<(SlotIndex, Vec<Vec<u8>>)>,
    /// Zones' detectors before the slot `next`.
    pub detectors: Vec<DetectorRow>,
    /// Zones' baselines.
    pub signs: Vec<SignsRow>,
    /// What zones have spent of other resources.
    pub overuse: Vec<SignsRow>,
    /// The slot under way.
    pub building: Option<Vec<u8>>,
}

/// A notice that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub key: String,
    pub why: String,
    pub at: OffsetDateTime,
}

/// What the events say of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseRow {
    pub id: String,
    pub zone: String,
    pub state: &'static str,
    pub opened_at: i64,
    /// Cap, who approved it, and since when.
    pub limit: Option<(u64, String, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuidelineRow {
    pub zone: u32,
    pub slot: SlotIndex,
    pub guideline: u64,
    pub plan: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorRow {
    pub zone: u32,
    pub next: SlotIndex,
    pub data: Vec<u8>,
}

/// What is derived of a zone, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignsRow {
    pub zone: u32,
    pub data: Vec<u8>,
}

impl Store {
    /// Writes all of the batch; it is on the disk when this returns. The entries as they are kept.
    pub fn commit(&mut self, batch: &Batch) -> Result<Vec<Entry>, LedgerError> {
        let mut head = self.head();
        let entries: Vec<Entry> =
            batch.drafts.iter().map(|draft| head.append(draft.clone())).collect::<Result<_, _>>()?;
        self.written(head, |transaction| write(transaction, batch, &entries))?;
        Ok(entries)
    }

    /// Runs a transaction that brings the chain to `head`.
    pub(super) fn written(
        &mut self,
        head: Head,
        step: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        self.check_in_place()?;
        let written = self.write(step);
        // A commit that failed late may have been written all the same: the file has the last word.
        match written {
            Err(_)
                if head != self.head() && row::head(self.connection()).is_ok_and(|found| found == head) => {}
            other => other.map_err(failed("write to", self.path()))?,
        }
        self.check_in_place()?;
        if head != self.head() {
            self.check_entry()?;
        }
        self.set_head(head);
        Ok(())
    }

    /// A transaction without an entry.
    pub(super) fn change(
        &mut self,
        action: &'static str,
        step: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), LedgerError> {
        self.check_in_place()?;
        self.write(step).map_err(failed(action, self.path()))?;
        self.check_in_place()
    }
}

fn write(transaction: &Transaction<'_>, batch: &Batch, entries: &[Entry]) -> rusqlite::Result<()> {
    if let Some((version, params)) = &batch.policy {
        policy(transaction, version, params)?;
        if let Some(slot) = batch.adopted {
            let sql = "INSERT INTO adopted (slot, version) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute(params![slot.number(), version])?;
        }
    }
    for entry in entries {
        row::insert(transaction, entry)?;
    }
    for message in &batch.messages {
        outbox::insert(transaction, message)?;
    }
    for heard in &batch.heard {
        outbox::hear(transaction, heard)?;
    }
    for returned in &batch.returned {
        outbox::take_back(transaction, returned)?;
    }
    for case in &batch.cases {
        self::case(transaction, case)?;
    }
    slots::write(transaction, batch)
}

/// Keeps the parameters of a policy that an entry is made under.
pub(super) fn policy(transaction: &Transaction<'_>, version: &str, params: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO policies (version, params) VALUES (?1, ?2) ON CONFLICT (version) DO NOTHING";
    transaction.prepare_cached(sql)?.execute(params![version, params]).map(drop)
}

fn case(transaction: &Transaction<'_>, case: &CaseRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO cases (id, zone, state, opened_at) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (id) DO UPDATE SET state = excluded.state";
    transaction.prepare_cached(sql)?.execute(params![case.id, case.zone, case.state, case.opened_at])?;
    match &case.limit {
        None => transaction.prepare_cached("DELETE FROM limits WHERE case_id = ?1")?.execute([&case.id])?,
        Some((cap, approved_by, began_at)) => {
            let sql = "INSERT INTO limits (case_id, cap, approved_by, began_at) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT (case_id) DO UPDATE SET cap = excluded.cap, approved_by = excluded.approved_by";
            let cap = i64::try_from(*cap).unwrap_or(i64::MAX);
            transaction.prepare_cached(sql)?.execute(params![case.id, cap, approved_by, began_at])?
        }
    };
    Ok(())
}
