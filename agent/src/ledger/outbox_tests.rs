//! The outbox and the policy's transactions: all or nothing, once, and never a limit that nobody was told of.

use std::path::PathBuf;

use tempfile::TempDir;
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    actor::{Actor, Reason},
    contact::{Failure, NoticeKind},
    fact::Fact,
    ledger::Draft,
    outbox::{NewMessage, Outcome, Recipient, Subject},
    policy::Policy,
    slot::{Judgement, SlotIndex},
};

use super::{Batch, CaseRow, GuidelineRow, LedgerError, Packed, Reader, pack_row, store::Store};

const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

struct Bench {
    _folder: TempDir,
    path: PathBuf,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let store = Store::open(&path, |_| Ok(())).unwrap();
        Self { _folder: folder, path, store }
    }

    fn again(self) -> Self {
        let Self { _folder, path, store } = self;
        drop(store);
        let store = Store::open(&path, |_| Ok(())).unwrap();
        Self { _folder, path, store }
    }

    fn states(&self) -> Vec<String> {
        self.store.outbox_tally().unwrap().into_iter().map(|(_, _, state, _)| state).collect()
    }

    /// The one row's number.
    fn only(&self) -> i64 {
        let due = self.store.outbox_due(NOW + Duration::days(999), 10).unwrap();
        assert_eq!(due.len(), 1);
        due[0].id
    }
}

fn draft(fact: Fact) -> Draft {
    Draft {
        at: NOW,
        zone: "z".to_owned(),
        actor: Actor::Policy,
        reason: Reason::new("because").unwrap(),
        evidence: "{}".to_owned(),
        policy: Policy::default().version().clone(),
        fact,
    }
}

fn notice(number: u8) -> NewMessage {
    NewMessage {
        key: format!("c-1/first/{number}"),
        way: "mail".to_owned(),
        recipient: Recipient::Customer,
        subject: Subject::Notice(NoticeKind::First),
        zone: "z".to_owned(),
        case: Some("c-1".to_owned()),
        number: Some(number),
        content: "{}".to_owned(),
        queued_at: NOW,
    }
}

fn case(id: &str, state: &'static str, limit: Option<u64>) -> CaseRow {
    let limit = limit.map(|cap| (cap, "ann".to_owned(), NOW.unix_timestamp()));
    CaseRow { id: id.to_owned(), zone: "z".to_owned(), state, opened_at: NOW.unix_timestamp(), limit }
}

fn with_notice() -> Bench {
    let mut bench = Bench::new();
    let batch = Batch {
        drafts: vec![draft(Fact::Flagged)],
        messages: vec![notice(1)],
        cases: vec![case("c-1", "open", None)],
        ..Batch::default()
    };
    assert_eq!(bench.store.commit(&batch).unwrap().len(), 1);
    bench
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let mut bench = with_notice();
    // A second open case of the zone, behind an entry and a row that would do by themselves.
    let batch = Batch {
        drafts: vec![draft(Fact::SpikeCounted)],
        messages: vec![notice(2)],
        cases: vec![case("c-2", "open", None)],
        ..Batch::default()
    };
    let head = bench.store.head();
    let error = bench.store.commit(&batch).unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }), "{error:?}");
    assert_eq!(bench.store.head(), head);
    let bench = bench.again();
    assert_eq!((bench.store.head(), bench.states().len()), (head, 1));
    assert_eq!(Reader::open(&bench.path).unwrap().verify(None).unwrap(), head);
}

#[test]
fn a_row_is_put_in_once_however_often_it_is_decided_on() {
    let mut bench = with_notice();
    bench.store.commit(&Batch { messages: vec![notice(1)], ..Batch::default() }).unwrap();
    assert_eq!(bench.store.outbox_due(NOW, 10).unwrap().len(), 1);
    // The same notice under another key is refused by the database.
    let other = NewMessage { key: "another".to_owned(), ..notice(1) };
    assert!(bench.store.commit(&Batch { messages: vec![other], ..Batch::default() }).is_err());
}

#[test]
fn an_attempt_whose_worker_died_is_due_again_and_says_so() {
    let mut bench = with_notice();
    let id = bench.only();
    bench.store.outbox_attempt(id, NOW + Duration::minutes(5)).unwrap();
    let bench = bench.again();
    assert_eq!(bench.store.outbox_due(NOW, 10).unwrap(), []);
    let due = bench.store.outbox_due(NOW + Duration::minutes(5), 10).unwrap();
    assert!(due[0].uncertain && due[0].attempts == 1 && due[0].key == "c-1/first/1");
}

#[test]
fn a_row_waits_for_its_next_try_and_has_one_end() {
    let mut bench = with_notice();
    let id = bench.only();
    let later = Outcome::Retry { due: NOW + Duration::hours(1), why: "greylisted".to_owned() };
    bench.store.outbox_outcome(id, NOW, &later).unwrap();
    assert_eq!(bench.store.outbox_due(NOW, 10).unwrap(), []);
    assert_eq!(bench.store.outbox_unheard().unwrap(), []);
    let refused = Outcome::Failed { failure: Failure::Refused, why: "no such user".to_owned() };
    bench.store.outbox_outcome(id, NOW, &refused).unwrap();
    bench.store.outbox_outcome(id, NOW, &Outcome::Delivered).unwrap();
    assert_eq!(bench.states(), ["refused"]);
    assert_eq!(bench.store.outbox_unheard().unwrap()[0].failure, Some(Failure::Refused));
}

#[test]
fn a_bounce_after_the_delivery_is_heard_too() {
    let mut bench = with_notice();
    let id = bench.only();
    bench.store.outbox_outcome(id, NOW, &Outcome::Delivered).unwrap();
    let heard = bench.store.outbox_unheard().unwrap();
    assert_eq!((heard.len(), heard[0].failure), (1, None));
    bench.store.commit(&Batch { heard: heard.clone(), ..Batch::default() }).unwrap();
    assert_eq!(bench.store.outbox_unheard().unwrap(), []);
    assert_eq!(bench.store.outbox_find("c-1/first/1").unwrap(), Some(id));
    let bounced = Outcome::Failed { failure: Failure::Bounced, why: "returned".to_owned() };
    bench.store.outbox_outcome(id, NOW + Duration::days(1), &bounced).unwrap();
    // What was heard of the delivery does not hide the bounce.
    bench.store.commit(&Batch { heard, ..Batch::default() }).unwrap();
    let unheard = bench.store.outbox_unheard().unwrap();
    assert_eq!((unheard.len(), unheard[0].failure), (1, Some(Failure::Bounced)));
}

#[test]
fn the_database_refuses_a_limit_without_a_delivered_notice() {
    let mut bench = with_notice();
    let limited = Batch { cases: vec![case("c-1", "limited", Some(900))], ..Batch::default() };
    let error = format!("{:?}", bench.store.commit(&limited).unwrap_err());
    assert!(error.contains("no notice on this case was delivered"), "{error}");
    let id = bench.only();
    bench.store.outbox_outcome(id, NOW, &Outcome::Delivered).unwrap();
    bench.store.commit(&limited).unwrap();
    bench.store.commit(&Batch { cases: vec![case("c-1", "closed", None)], ..Batch::default() }).unwrap();
    bench.store.commit(&Batch { cases: vec![case("c-2", "open", None)], ..Batch::default() }).unwrap();
}

#[test]
fn slots_are_the_same_before_and_after_their_day_is_packed() {
    let mut bench = Bench::new();
    let zones = vec![(0, "y".to_owned()), (1, "z".to_owned())];
    let guideline = |slot, guideline| GuidelineRow { zone: 1, slot, guideline, plan: "free".to_owned() };
    let first = SlotIndex::containing(datetime!(2026-03-01 00:00 UTC));
    let (first, middle) = (first, first.forth(100));
    let guidelines = vec![guideline(first, 1000), guideline(middle, 5000)];
    bench.store.commit(&Batch { zones, guidelines, ..Batch::default() }).unwrap();
    for n in 0..300 {
        // Slot 7 is nobody's: the agent was away.
        if n == 7 {
            continue;
        }
        let over = if n < 100 { Judgement::Over } else { Judgement::Within };
        let value = 1200.0 + f64::from(n);
        let row = [Packed::default(), Packed::new(over, value, value)];
        let batch = Batch { slot: Some((first.forth(n), vec![pack_row(&row)])), ..Batch::default() };
        bench.store.commit(&batch).unwrap();
    }
    let span = |store: &Store| store.history("z", first, first.forth(400)).unwrap();
    let before = span(&bench.store);
    assert_eq!(before.slots.len(), 299);
    let today = super::day_of(first) + 1;
    assert!(bench.store.compact(today, 0).unwrap());
    assert!(!bench.store.compact(today, 0).unwrap());
    let bench = bench.again();
    assert_eq!(span(&bench.store), before);
    assert_eq!(before.guideline_at(first.forth(99)), Some(1000));
    assert_eq!(before.guideline_at(first.forth(100)), Some(5000));
    assert!((before.slots[10].value - 1211.0).abs() < 15.0 && before.slots[10].judgement == Judgement::Over);
    assert!(before.slots.iter().all(|slot| slot.index != first.forth(7)), "a gap is unknown");
    assert_eq!(bench.store.memory().unwrap().newest, Some(first.forth(299)));
}

#[test]
fn a_ledger_that_can_only_be_read_is_down_whatever_is_read() {
    use std::sync::atomic::Ordering::Relaxed;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (ledger, loaded) = super::Ledger::start(path.clone());
    loaded.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let up = || ledger.health().up.load(Relaxed);
    let read = || runtime.block_on(ledger.run(|store| store.outbox_tally())).unwrap();
    let write = || {
        let batch = Batch { messages: vec![notice(1)], ..Batch::default() };
        runtime.block_on(ledger.run(move |store| store.commit(&batch)))
    };
    assert!(up());
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(write().is_err() && !up());
    assert_eq!(read(), []);
    assert!(!up(), "it was only read");
    other.execute_batch("ROLLBACK").unwrap();
    write().unwrap();
    assert!(up());
    assert_eq!(read().len(), 1);
}
