//! The outbox's rows: put in with the entries that they follow from, taken by the worker, and heard of by their cases.
//!
//! A row's way: `due` -> `sending` (an attempt is about to be made) -> `delivered`, or `refused`, `expired`, or `due` once more. A
//! delivered notice may still become `bounced`. Every change is one transaction that is on the disk when it returns.

use rusqlite::{OptionalExtension as _, Row, Transaction, params, types::Type};
use time::OffsetDateTime;
use weir_reachout::{
    contact::Failure,
    outbox::{Message, NewMessage, Outcome, Recipient, Subject},
};

use super::{
    LedgerError,
    batch::Returned,
    store::{Store, failed},
};

/// A notice whose end its case has not heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct Unheard {
    pub id: i64,
    pub zone: String,
    pub case: String,
    pub subject: Subject,
    pub number: u8,
    /// `None`: it was delivered.
    pub failure: Option<Failure>,
    pub ended_at: OffsetDateTime,
}

/// Rows by way, subject and state; for metrics.
pub type Tally = Vec<(String, String, String, u64)>;

impl Store {
    /// Rows that are due, the longest waiting first; those with an attempt of unknown end among them.
    pub fn outbox_due(&self, now: OffsetDateTime, most: u32) -> Result<Vec<Message>, LedgerError> {
        let sql = "SELECT id, key, way, recipient, subject, zone, case_id, number, content, queued_at, attempts, state
                   FROM outbox WHERE state IN ('due', 'sending') AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2";
        let read = || -> rusqlite::Result<Vec<Message>> {
            let mut statement = self.connection().prepare_cached(sql)?;
            statement.query_map(params![now.unix_timestamp(), most], message)?.collect()
        };
        read().map_err(failed("read", self.path()))
    }

    /// An attempt is about to be made. If whoever makes it dies, the row is due again at `again`, as [`Message::uncertain`].
    pub fn outbox_attempt(&mut self, id: i64, again: OffsetDateTime) -> Result<(), LedgerError> {
        self.change("write to", |transaction| {
            let sql = "UPDATE outbox SET state = 'sending', attempts = attempts + 1, due_at = ?2
                       WHERE id = ?1 AND state IN ('due', 'sending')";
            transaction.execute(sql, params![id, again.unix_timestamp()]).map(drop)
        })
    }

    /// What became of an attempt. A second word on a row that has its end changes nothing, but for a bounce of what was delivered.
    pub fn outbox_outcome(
        &mut self,
        id: i64,
        now: OffsetDateTime,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        let now = now.unix_timestamp();
        self.change("write to", |transaction| match outcome {
            Outcome::Retry { due, why } => {
                let sql = "UPDATE outbox SET state = 'due', due_at = ?2, why = ?3
                           WHERE id = ?1 AND state IN ('due', 'sending')";
                transaction.execute(sql, params![id, due.unix_timestamp(), why]).map(drop)
            }
            Outcome::Delivered => end(transaction, id, "delivered", "", now),
            Outcome::Failed { failure, why } => end(transaction, id, failure.label(), why, now),
        })
    }

    /// The row of a key, if there is one: for a bounce, which names the message that it returns.
    pub fn outbox_find(&self, key: &str) -> Result<Option<i64>, LedgerError> {
        let found =
            self.connection().query_row("SELECT id FROM outbox WHERE key = ?1", [key], |row| row.get(0));
        found.optional().map_err(failed("read", self.path()))
    }

    /// Notices that have an end which their cases have not heard of, oldest first.
    pub fn outbox_unheard(&self) -> Result<Vec<Unheard>, LedgerError> {
        let sql = "SELECT id, zone, case_id, subject, number, state, ended_at FROM outbox
                   WHERE recipient = 'customer' AND heard = 0 AND ended_at IS NOT NULL ORDER BY ended_at, id LIMIT 1000";
        let read = || -> rusqlite::Result<Vec<Unheard>> {
            self.connection().prepare_cached(sql)?.query_map([], unheard)?.collect()
        };
        read().map_err(failed("read", self.path()))
    }

    pub fn outbox_tally(&self) -> Result<Tally, LedgerError> {
        let sql =
            "SELECT way, subject, state, count(*) FROM outbox GROUP BY way, subject, state ORDER BY 1, 2, 3";
        let row = |row: &Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?.try_into().unwrap_or(0)))
        };
        let read = || -> rusqlite::Result<Tally> {
            self.connection().prepare_cached(sql)?.query_map([], row)?.collect()
        };
        read().map_err(failed("read", self.path()))
    }
}

fn end(transaction: &Transaction<'_>, id: i64, state: &str, why: &str, now: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE outbox SET state = ?2, why = ?3, ended_at = ?4, heard = 0
               WHERE id = ?1 AND (state IN ('due', 'sending') OR state = 'delivered' AND ?2 = 'bounced')";
    transaction.execute(sql, params![id, state, why, now]).map(drop)
}

/// Puts a row in, once.
pub(super) fn insert(transaction: &Transaction<'_>, message: &NewMessage) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO outbox (key, way, recipient, subject, zone, case_id, number, content, queued_at, due_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) ON CONFLICT (key) DO NOTHING";
    let recipient = match message.recipient {
        Recipient::Customer => "customer",
        Recipient::Operators => "operators",
    };
    let queued_at = message.queued_at.unix_timestamp();
    transaction.prepare_cached(sql)?.execute(params![
        message.key,
        message.way,
        recipient,
        message.subject.label(),
        message.zone,
        message.case,
        message.number,
        message.content,
        queued_at,
    ])?;
    Ok(())
}

/// A delivered notice came back, and its case has heard of it in the same transaction.
pub(super) fn take_back(transaction: &Transaction<'_>, returned: &Returned) -> rusqlite::Result<()> {
    let sql = "UPDATE outbox SET state = 'bounced', why = ?2, ended_at = ?3, heard = 1
               WHERE key = ?1 AND state = 'delivered'";
    let Returned { key, why, at } = returned;
    transaction.prepare_cached(sql)?.execute(params![key, why, at.unix_timestamp()]).map(drop)
}

/// The case has heard of the row's end, if it is still this one.
pub(super) fn hear(transaction: &Transaction<'_>, heard: &Unheard) -> rusqlite::Result<()> {
    let state = heard.failure.map_or("delivered", Failure::label);
    let sql = "UPDATE outbox SET heard = 1 WHERE id = ?1 AND state = ?2";
    transaction.prepare_cached(sql)?.execute(params![heard.id, state]).map(drop)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let recipient: String = row.get(3)?;
    let state: String = row.get(11)?;
    Ok(Message {
        id: row.get(0)?,
        key: row.get(1)?,
        way: row.get(2)?,
        recipient: if recipient == "customer" { Recipient::Customer } else { Recipient::Operators },
        subject: subject(row, 4)?,
        zone: row.get(5)?,
        case: row.get(6)?,
        number: row.get(7)?,
        content: row.get(8)?,
        queued_at: moment(row, 9)?,
        attempts: row.get(10)?,
        uncertain: state == "sending",
    })
}

fn unheard(row: &Row<'_>) -> rusqlite::Result<Unheard> {
    let state: String = row.get(5)?;
    Ok(Unheard {
        id: row.get(0)?,
        zone: row.get(1)?,
        case: row.get(2)?,
        subject: subject(row, 3)?,
        number: row.get(4)?,
        failure: Failure::ALL.into_iter().find(|failure| failure.label() == state),
        ended_at: moment(row, 6)?,
    })
}

fn subject(row: &Row<'_>, column: usize) -> rusqlite::Result<Subject> {
    let label: String = row.get(column)?;
    let unknown = || {
        let error = format!("no message is about `{label}`");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    };
    Subject::of_label(&label).ok_or_else(unknown)
}

pub(super) fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<OffsetDateTime> {
    let seconds = row.get(column)?;
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error)))
}
