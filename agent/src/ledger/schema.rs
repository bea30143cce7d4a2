//! The ledger's tables, by version.
//!
//! `PRAGMA application_id` says that a file is a ledger of weir, `PRAGMA user_version` how many of [`MIGRATIONS`] it has
//! had. A migration is never changed once it is released; a new one goes to the end.

use rusqlite::{Connection, Transaction};

/// ASCII `WEIR`.
pub const APPLICATION_ID: i32 = 0x5745_4952;

/// Events are only ever appended, each to the end of the chain: the database refuses everything else, whoever asks.
/// (Whoever drops the triggers and edits the rows is found by the hashes.) `heartbeat` is how the agent knows that it
/// can still write.
const V1: &str = "
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY,
    at       TEXT NOT NULL,
    zone     TEXT NOT NULL,
    actor    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    evidence TEXT NOT NULL,
    policy   TEXT NOT NULL,
    fact     TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash     TEXT NOT NULL
) STRICT;
CREATE TRIGGER events_are_chained BEFORE INSERT ON events
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM events)
  OR NEW.previous IS NOT coalesce((SELECT hash FROM events ORDER BY seq DESC LIMIT 1), printf('%064d', 0))
BEGIN SELECT RAISE(ABORT, 'an event follows the last one'); END;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TABLE heartbeat (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  TEXT NOT NULL
) STRICT;
";

pub const MIGRATIONS: [&str; 1] = [V1];

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Empty,
    Ledger { version: usize },
    Foreign,
}

pub fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let number =
        |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (number("application_id")?, number("user_version")?, tables) {
        (0, 0, 0) => Kind::Empty,
        (id, version, _) if id == i64::from(APPLICATION_ID) && version > 0 => {
            Kind::Ledger { version: usize::try_from(version).unwrap_or(usize::MAX) }
        }
        _ => Kind::Foreign,
    })
}

/// Brings the tables of `version` to the newest.
pub fn migrate(transaction: &Transaction<'_>, version: usize) -> rusqlite::Result<()> {
    for migration in &MIGRATIONS[version..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)
}
