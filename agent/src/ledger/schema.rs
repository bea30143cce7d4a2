//! The ledger's tables, by version.
//!
//! `PRAGMA application_id` says that a file is a ledger of weir, `PRAGMA user_version` how many of [`MIGRATIONS`] it has
//! had. A migration is never changed once it is released; a new one goes to the end.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior::Immediate};

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

/// What the policy rests on and what it decided, beside the events. `policies`: every version that a decision was made under.
/// `zones`: small numbers for names. `guidelines`: from which slot on a zone had which. `slots_recent`: of the running day, a
/// row a slot and 4096 zones; `slots_daily`: of the days before, a row a zone (`packing.rs`). `building`: the slot under way.
/// `detectors`: where a zone's detector stood before the slot `next`. `cases` and `limits` are what the events say now, kept
/// so that the database itself refuses a second open case of a zone, and a limit without a delivered notice and a person.
/// `outbox`: what has to leave; its `state` is the last attempt's. Times are seconds since 1970.
const V2: &str = "
CREATE TABLE policies (
    version TEXT PRIMARY KEY,
    params  TEXT NOT NULL
) STRICT;
CREATE TABLE zones (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE guidelines (
    zone      INTEGER NOT NULL REFERENCES zones (id),
    slot      INTEGER NOT NULL,
    guideline INTEGER NOT NULL,
    plan      TEXT NOT NULL,
    PRIMARY KEY (zone, slot)
) STRICT, WITHOUT ROWID;
CREATE TABLE slots_recent (
    slot  INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    data  BLOB NOT NULL,
    UNIQUE (slot, chunk)
) STRICT;
CREATE TABLE slots_daily (
    day  INTEGER NOT NULL,
    zone INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (day, zone)
) STRICT, WITHOUT ROWID;
CREATE TABLE building (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    data BLOB NOT NULL
) STRICT;
CREATE TABLE detectors (
    zone INTEGER PRIMARY KEY REFERENCES zones (id),
    next INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE cases (
    id        TEXT PRIMARY KEY,
    zone      TEXT NOT NULL,
    state     TEXT NOT NULL,
    opened_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX a_zone_has_one_open_case ON cases (zone) WHERE state <> 'closed';
CREATE TABLE outbox (
    id        INTEGER PRIMARY KEY,
    key       TEXT NOT NULL UNIQUE,
    way       TEXT NOT NULL,
    recipient TEXT NOT NULL CHECK (recipient IN ('customer', 'operators')),
    subject   TEXT NOT NULL,
    zone      TEXT NOT NULL,
    case_id   TEXT,
    number    INTEGER,
    content   TEXT NOT NULL,
    queued_at INTEGER NOT NULL,
    state     TEXT NOT NULL DEFAULT 'due'
              CHECK (state IN ('due', 'sending', 'delivered', 'bounced', 'refused', 'expired')),
    due_at    INTEGER NOT NULL,
    attempts  INTEGER NOT NULL DEFAULT 0,
    why       TEXT NOT NULL DEFAULT '',
    ended_at  INTEGER,
    heard     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX a_notice_is_sent_once ON outbox (case_id, subject, number) WHERE recipient = 'customer';
CREATE INDEX outbox_due ON outbox (due_at) WHERE state IN ('due', 'sending');
CREATE INDEX outbox_unheard ON outbox (id) WHERE recipient = 'customer' AND heard = 0;
CREATE TABLE limits (
    case_id     TEXT PRIMARY KEY REFERENCES cases (id),
    cap         INTEGER NOT NULL,
    approved_by TEXT NOT NULL CHECK (approved_by <> ''),
    began_at    INTEGER NOT NULL
) STRICT;
CREATE TRIGGER limits_rest_on_a_delivered_notice BEFORE INSERT ON limits
WHEN NOT EXISTS (
    SELECT 1 FROM outbox WHERE case_id = NEW.case_id AND recipient = 'customer' AND state = 'delivered')
BEGIN SELECT RAISE(ABORT, 'no notice on this case was delivered'); END;
";

/// What is normal of a zone: `signs`, the baselines that signs of abuse are told by (`weir_reachout::signal`), and `overuse`, what it has
/// spent of the resources that its plan bounds beside WebSockets. Both are derived.
const V3: &str = "
CREATE TABLE signs (
    zone INTEGER PRIMARY KEY REFERENCES zones (id),
    data BLOB NOT NULL
) STRICT;
CREATE TABLE overuse (
    zone INTEGER PRIMARY KEY REFERENCES zones (id),
    data BLOB NOT NULL
) STRICT;
";

/// A zone's entries are looked for with every letter, page and answer. `adopted`: from which slot on which policy judges.
const V4: &str = "
CREATE INDEX events_of_zone ON events (zone, seq);
CREATE TABLE adopted (
    slot    INTEGER NOT NULL,
    version TEXT NOT NULL REFERENCES policies (version)
) STRICT;
";

pub const MIGRATIONS: [&str; 4] = [V1, V2, V3, V4];

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

/// The names of triggers that a ledger of the newest version has, and that this one has not, or not as weir made them.
pub fn missing_triggers(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut new = Connection::open_in_memory()?;
    let transaction = new.transaction_with_behavior(Immediate)?;
    migrate(&transaction, 0)?;
    transaction.commit()?;
    let found = triggers(connection)?;
    let missing = triggers(&new)?.into_iter().filter(|(name, sql)| found.get(name) != Some(sql));
    Ok(missing.map(|(name, _)| name).collect())
}

fn triggers(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
