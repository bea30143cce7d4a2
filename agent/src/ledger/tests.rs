//! The ledger's file under hostile hands: edited, truncated, foreign, locked, replaced.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use weir_reachout::{
    actor::{Actor, Person, Reason},
    fact::Fact,
    hand::{HandAct, InForce, Subject},
    ledger::{Broken, Draft, Entry, Head},
    policy::Policy,
};

use super::{
    LedgerError, Reader,
    schema::{APPLICATION_ID, MIGRATIONS},
    store::Store,
};

const UNGUARDED: &str =
    "DROP TRIGGER IF EXISTS events_are_chained; DROP TRIGGER IF EXISTS events_are_not_changed;
                         DROP TRIGGER IF EXISTS events_are_not_removed;";

struct Bench {
    folder: TempDir,
    path: PathBuf,
}

fn draft(zone: &str, act: HandAct) -> Draft {
    Draft {
        at: OffsetDateTime::now_utc(),
        zone: zone.to_owned(),
        actor: Actor::Person(Person::new("root").unwrap()),
        reason: Reason::new("load test").unwrap(),
        evidence: r#"{"uid":0}"#.to_owned(),
        policy: Policy::default().version().clone(),
        fact: Fact::ByHand { act },
    }
}

fn cap(websockets: u64) -> HandAct {
    HandAct::CapSet { websockets, until: OffsetDateTime::now_utc() + Duration::hours(1) }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/ledger.db");
        Self { folder, path }
    }

    fn open(&self) -> Result<Store, LedgerError> {
        Store::open(&self.path, |_| Ok(()))
    }

    /// A ledger of three entries, closed.
    fn filled() -> Self {
        let bench = Self::new();
        let mut store = bench.open().unwrap();
        for websockets in 1..=3 {
            store.append(draft("z", cap(websockets)), "{}").unwrap();
        }
        bench
    }

    /// What somebody with the file and `sqlite3` does, who takes the triggers away first, and puts them back.
    fn edit(&self, sql: &str) {
        let connection = Connection::open(&self.path).unwrap();
        let mut back = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'events'")
            .unwrap();
        let back: Vec<String> = back.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        connection.execute_batch(&format!("{UNGUARDED} {sql}; {};", back.join("; "))).unwrap();
    }

    fn verify(&self, kept: Option<Head>) -> Result<Head, LedgerError> {
        Reader::open(&self.path)?.verify(kept)
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        Reader::open(&self.path)
            .unwrap()
            .each(|entry| {
                entries.push(entry);
                Ok(())
            })
            .unwrap();
        entries
    }
}

fn broken(result: Result<Head, LedgerError>) -> Broken {
    match result {
        Err(LedgerError::Tampered { source, .. }) => source,
        other => panic!("not told as tampering: {other:?}"),
    }
}

#[test]
fn what_is_written_is_read_back_and_goes_on_after_a_restart() {
    let bench = Bench::filled();
    let mut in_force = InForce::default();
    let mut store = Store::open(&bench.path, |entry| {
        in_force.follow(&entry)?;
        Ok(())
    })
    .unwrap();
    assert_eq!(in_force.get(&Subject::Cap { zone: "z".to_owned() }).unwrap().websockets, Some(3));
    let fourth = store.append(draft("z", HandAct::CapClear), "{}").unwrap();
    assert_eq!(fourth.seq, 4);
    assert_eq!(store.newest(2).unwrap()[0], fourth);
    assert_eq!(bench.entries().last(), Some(&fourth), "while the agent has it open");
    assert_eq!(bench.verify(None).unwrap(), store.head());
}

#[test]
fn only_the_owner_may_read_it() {
    let bench = Bench::filled();
    let store = bench.open().unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.path.clone()), 0o600);
    assert_eq!(mode(super::store::beside(&bench.path, "-wal")), 0o600);
    assert_eq!(mode(bench.folder.path().join("deep")), 0o700);
    drop(store);
}

#[test]
fn the_database_itself_refuses_anything_but_the_next_entry() {
    let bench = Bench::filled();
    let connection = Connection::open(&bench.path).unwrap();
    for (sql, why) in [
        ("UPDATE events SET reason = 'x' WHERE seq = 2", "append-only"),
        ("DELETE FROM events WHERE seq = 3", "append-only"),
        ("INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 2", "follows the last"),
        (
            "INSERT INTO events SELECT 9, at, zone, actor, reason, evidence, policy, fact, hash, hash FROM events WHERE seq = 3",
            "follows the last",
        ),
        (
            "INSERT INTO events SELECT 4, at, zone, actor, reason, evidence, policy, fact, previous, hash FROM events WHERE seq = 3",
            "follows the last",
        ),
    ] {
        let error = connection.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
    assert_eq!(bench.verify(None).unwrap().seq, 3);
}

#[test]
fn any_edit_is_found_and_the_entry_named() {
    for column in ["at", "zone", "actor", "reason", "evidence", "policy", "fact"] {
        let bench = Bench::filled();
        let value = match column {
            "at" => "2020-01-01T00:00:00Z",
            "actor" => r#"{"kind":"person","name":"eve"}"#,
            _ => "other",
        };
        bench.edit(&format!("UPDATE events SET {column} = '{value}' WHERE seq = 2"));
        assert_eq!(broken(bench.verify(None)), Broken::Edited { seq: 2 }, "{column}");
        assert_eq!(broken(bench.open().map(|store| store.head())), Broken::Edited { seq: 2 }, "{column}");
    }
    let bench = Bench::filled();
    bench.edit("DELETE FROM events WHERE seq = 2");
    assert_eq!(broken(bench.verify(None)), Broken::Missing { expected: 2, found: 3 });
    let bench = Bench::filled();
    bench.edit("UPDATE events SET hash = (SELECT hash FROM events WHERE seq = 1) WHERE seq = 2");
    assert_eq!(broken(bench.verify(None)), Broken::Edited { seq: 2 });
}

#[test]
fn entries_that_were_cut_off_are_missed_by_who_kept_the_head() {
    let bench = Bench::filled();
    let kept = bench.verify(None).unwrap();
    bench.edit("DELETE FROM events WHERE seq = 3");
    assert_eq!(bench.verify(None).unwrap().seq, 2, "the chain alone cannot know");
    assert_eq!(broken(bench.verify(Some(kept))), Broken::Cut { end: 2, kept: 3 });
    bench.open().unwrap().append(draft("z", cap(9)), "{}").unwrap();
    assert_eq!(broken(bench.verify(Some(kept))), Broken::Replaced { seq: 3 });
}

#[test]
fn a_backup_is_a_ledger_and_overwrites_nothing() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    let copy = bench.folder.path().join("copy.db");
    let reader = Reader::open(&bench.path).unwrap();
    assert_eq!(reader.backup(&copy).unwrap(), store.head());
    store.append(draft("z", cap(9)), "{}").unwrap();
    let restored = Reader::open(&copy).unwrap();
    assert_eq!(restored.verify(None).unwrap().seq, 3);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(reader.backup(&copy), Err(LedgerError::Exists { .. })));
}

#[test]
fn a_file_that_is_no_ledger_is_left_as_it_is() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path.parent().unwrap()).unwrap();
    let text = "not a database, ".repeat(100);
    fs::write(&bench.path, &text).unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Foreign { .. })));
    assert_eq!(fs::read_to_string(&bench.path).unwrap(), text);

    fs::remove_file(&bench.path).unwrap();
    Connection::open(&bench.path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Foreign { .. })));
    assert!(matches!(Reader::open(&bench.path), Err(LedgerError::Foreign { .. })));
}

#[test]
fn a_damaged_file_is_told_as_damage() {
    let bench = Bench::filled();
    drop(bench.open().unwrap());
    // The checkpoint at the last close has put all into the main file.
    let mut bytes = fs::read(&bench.path).unwrap();
    let page = 4096;
    assert!(bytes.len() > 2 * page);
    bytes[page..].fill(0xa5);
    fs::write(&bench.path, bytes).unwrap();
    for result in [bench.open().map(drop), bench.verify(None).map(drop)] {
        assert!(matches!(result, Err(LedgerError::Damaged { .. })), "{result:?}");
    }
}

#[test]
fn a_newer_ledger_is_not_touched() {
    let bench = Bench::filled();
    bench.edit("PRAGMA user_version = 99");
    assert!(matches!(bench.open(), Err(LedgerError::Newer { found: 99, .. })));
    assert!(matches!(bench.verify(None), Err(LedgerError::Newer { found: 99, .. })));
}

#[test]
fn an_older_ledger_is_brought_to_the_newest_version_by_an_agent_and_by_nobody_else() {
    for version in 1..MIGRATIONS.len() {
        let bench = Bench::new();
        fs::create_dir_all(bench.path.parent().unwrap()).unwrap();
        let (id, tables) = (APPLICATION_ID, MIGRATIONS[..version].join("\n"));
        let sql = format!("{tables} PRAGMA application_id = {id}; PRAGMA user_version = {version};");
        Connection::open(&bench.path).unwrap().execute_batch(&sql).unwrap();
        assert!(matches!(bench.verify(None), Err(LedgerError::Older { found, .. }) if found == version));
        bench.open().unwrap().append(draft("z", cap(1)), "{}").unwrap();
        assert_eq!(bench.verify(None).unwrap().seq, 1);
    }
}

#[test]
fn a_ledger_has_one_writer() {
    let bench = Bench::filled();
    let held = bench.open().unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Held { .. })));
    drop(held);
    assert!(bench.open().is_ok());
}

#[test]
fn a_lock_by_somebody_else_writes_nothing_and_passes() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    let other = Connection::open(&bench.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(draft("z", cap(9)), "{}").unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.append(draft("z", cap(9)), "{}").unwrap().seq, 4);
    assert_eq!(bench.verify(None).unwrap().seq, 4);
}

#[test]
fn a_ledger_that_was_taken_away_is_not_written_into_the_void() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    fs::rename(&bench.path, bench.folder.path().join("elsewhere")).unwrap();
    assert!(matches!(store.append(draft("z", cap(9)), "{}"), Err(LedgerError::Replaced { .. })));
    assert!(matches!(store.beat(OffsetDateTime::now_utc()), Err(LedgerError::Replaced { .. })));
}

#[test]
fn no_act_is_answered_that_went_to_a_file_which_is_not_the_ledgers_any_more() {
    let beside = |bench: &Bench, suffix| super::store::beside(&bench.path, suffix);
    type Harm = fn(&std::path::Path);
    let remove: Harm = |path| fs::remove_file(path).unwrap();
    let empty: Harm = |path| drop(fs::File::create(path).unwrap());
    let replace: Harm = |path| {
        let copy = path.with_extension("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(copy, path).unwrap();
    };
    let cases: [(&str, &str, Harm); 8] = [
        ("", "removed", remove),
        ("", "emptied", empty),
        ("", "replaced", replace),
        ("-wal", "removed", remove),
        ("-wal", "emptied", empty),
        ("-wal", "replaced", replace),
        ("-shm", "removed", remove),
        ("-shm", "replaced", replace),
    ];
    for (suffix, what, harm) in cases {
        let bench = Bench::filled();
        let mut store = bench.open().unwrap();
        let last = store.append(draft("z", cap(4)), "{}").unwrap();
        harm(&beside(&bench, suffix));
        let result = store.append(draft("z", cap(5)), "{}");
        // SQLite itself may find that an emptied WAL is too short.
        let is_told =
            matches!(result, Err(LedgerError::Replaced { .. })) || (what == "emptied" && result.is_err());
        assert!(is_told, "`{suffix}` {what}: {result:?}");
        assert_eq!(store.head().seq, last.seq, "`{suffix}` {what}");
    }
}

#[test]
fn a_file_that_goes_while_an_act_is_written_is_missed_too() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    let wal = super::store::beside(&bench.path, "-wal");
    let written = store.written(store.head(), |_| {
        fs::remove_file(&wal).unwrap();
        Ok(())
    });
    assert!(matches!(written, Err(LedgerError::Replaced { .. })), "{written:?}");
}

#[test]
fn a_checkpoint_and_a_reader_beside_are_no_harm() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    for n in 0..3 {
        store.append(draft("z", cap(n)), "{}").unwrap();
        bench.verify(None).unwrap();
        let other = Connection::open(&bench.path).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        store.beat(OffsetDateTime::now_utc()).unwrap();
    }
    assert_eq!(bench.verify(None).unwrap().seq, 6);
}

#[test]
fn rows_beside_the_chain_and_missing_triggers_are_told() {
    for seq in [0, -7] {
        let bench = Bench::filled();
        bench.edit(&format!(
            "INSERT INTO events SELECT {seq}, at, zone, actor, reason, evidence, policy, fact, previous, hash FROM events WHERE seq = 2"
        ));
        assert_eq!(broken(bench.verify(None)), Broken::Beside { rows: 1 }, "{seq}");
        assert_eq!(broken(bench.open().map(|store| store.head())), Broken::Beside { rows: 1 }, "{seq}");
    }
    let bench = Bench::filled();
    Connection::open(&bench.path).unwrap().execute_batch(UNGUARDED).unwrap();
    let error = bench.verify(None).unwrap_err().to_string();
    assert!(error.contains("events_are_not_removed"), "{error}");
}

#[test]
fn another_text_of_the_same_time_or_actor_is_told() {
    for edit in ["at = replace(at, 'Z', '+00:00')", "actor = replace(actor, ':', ': ')"] {
        let bench = Bench::filled();
        bench.edit(&format!("UPDATE events SET {edit} WHERE seq = 2"));
        let error = bench.verify(None).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. }), "{edit}: {error:?}");
    }
}

#[test]
fn who_verifies_what_a_killed_agent_left_changes_nothing_of_it() {
    let bench = Bench::filled();
    let mut store = bench.open().unwrap();
    store.append(draft("z", cap(4)), "{}").unwrap();
    // As it is on the disk of an agent that was killed now.
    let left = Bench::new();
    fs::create_dir_all(left.path.parent().unwrap()).unwrap();
    let files = ["", "-wal"].map(|suffix| {
        let (from, to) =
            (super::store::beside(&bench.path, suffix), super::store::beside(&left.path, suffix));
        fs::copy(from, &to).unwrap();
        let bytes = fs::read(&to).unwrap();
        (to, bytes)
    });
    assert_eq!(left.verify(None).unwrap().seq, 4);
    for (path, bytes) in files {
        assert!(fs::read(&path).unwrap() == bytes, "{} has changed", path.display());
    }
}

#[test]
fn there_is_nothing_to_verify_where_there_is_no_ledger() {
    let bench = Bench::new();
    assert!(matches!(bench.verify(None), Err(LedgerError::Missing { .. })));
    assert!(!bench.path.exists());
}
