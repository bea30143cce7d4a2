//! An entry as a row of `events`, and back: times as RFC 3339 to the nanosecond, the rest as the texts that are hashed.

use rusqlite::{Connection, Row, Transaction, params, types::Type};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weir_reachout::ledger::{Entry, Hash, Head};

const COLUMNS: &str = "seq, at, zone, actor, reason, evidence, policy, fact, previous, hash";

pub fn insert(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO events ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    let (at, actor) = texts(entry).map_err(to_sql)?;
    let seq = i64::try_from(entry.seq).map_err(to_sql)?;
    transaction.prepare_cached(&sql)?.execute(params![
        seq,
        at,
        entry.zone,
        actor,
        entry.reason.as_str(),
        entry.evidence,
        entry.policy.as_str(),
        entry.fact,
        entry.previous.to_string(),
        entry.hash.to_string(),
    ])?;
    Ok(())
}

/// How the two columns are written whose meaning is hashed, and not their text.
fn texts(entry: &Entry) -> Result<(String, String), Box<dyn std::error::Error + Send + Sync>> {
    Ok((entry.at.format(&Rfc3339)?, serde_json::to_string(&entry.actor)?))
}

/// Rows of numbers below the first, which are in no chain.
pub fn strays(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM events WHERE seq < 1";
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    u64::try_from(count).map_err(|error| from_sql(0, error))
}

/// Calls `each` with the entries from number `from` on, oldest first.
pub fn each<E: From<rusqlite::Error>>(
    connection: &Connection,
    from: u64,
    mut each: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE seq >= ?1 ORDER BY seq");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([i64::try_from(from).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        each(entry(row)?)?;
    }
    Ok(())
}

/// A zone's entries, oldest first.
pub fn of_zone(connection: &Connection, zone: &str) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM events WHERE zone = ?1 ORDER BY seq");
    connection.prepare(&sql)?.query_map([zone], entry)?.collect()
}

/// The newest entries, newest first.
pub fn newest(connection: &Connection, count: u64) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM events ORDER BY seq DESC LIMIT ?1");
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    connection.prepare(&sql)?.query_map([count], entry)?.collect()
}

/// The end of the chain, as the last row says.
pub fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let last = newest(connection, 1)?.pop();
    Ok(last.map_or_else(Head::default, |entry| Head { seq: entry.seq, hash: entry.hash }))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let at: String = row.get(1)?;
    let hash = |column| {
        let text: String = row.get(column)?;
        Hash::try_from(text).map_err(|error| from_sql(column, error))
    };
    let entry = Entry {
        seq: row.get::<_, i64>(0)?.try_into().map_err(|error| from_sql(0, error))?,
        at: OffsetDateTime::parse(&at, &Rfc3339).map_err(|error| from_sql(1, error))?,
        zone: row.get(2)?,
        actor: json(row, 3)?,
        reason: row.get::<_, String>(4)?.try_into().map_err(|error| from_sql(4, error))?,
        evidence: row.get(5)?,
        policy: serde_json::from_value(row.get::<_, String>(6)?.into())
            .map_err(|error| from_sql(6, error))?,
        fact: row.get(7)?,
        previous: hash(8)?,
        hash: hash(9)?,
    };
    // Another text of the same meaning has the same hash, and was not written by weir.
    let written = texts(&entry).map_err(|error| from_sql(3, error))?;
    if written != (at, row.get(3)?) {
        return Err(from_sql(3, "the time or the actor is not written as weir writes it"));
    }
    Ok(entry)
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| from_sql(column, error))
}

fn from_sql(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

fn to_sql(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
