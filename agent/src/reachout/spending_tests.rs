//! Rule R3 from what the kernel counts to a case with its evidence, and a plan that fits.

use time::{Duration, OffsetDateTime};
use weir_config::Bounds;
use weir_reachout::{
    case::{CaseState, Closing},
    command::Command,
    decision::Rule,
    ledger::Entry,
    policy::Policy,
    slot::SlotIndex,
    zone::Terms,
};

use super::{
    mind::{Configured, Mind, Turn},
    past,
    replay::replay,
    spending::Spent,
    tests::{START, ZONE},
    watch::{Eyes, Totals},
};
use crate::{ledger::Store, sights::Sight};

/// Zone 0 is told about; zone 1 is the rest of the host.
#[derive(Clone, Copy, Default)]
struct Seen {
    totals: [Totals; 2],
    memory: [u64; 2],
    unseen: bool,
}

impl Eyes for Seen {
    fn live(&self, _: u32) -> u64 {
        100
    }

    fn totals(&self, slot: u32) -> Totals {
        self.totals[slot as usize]
    }

    fn memory(&self, slot: u32) -> Option<u64> {
        (!self.unseen).then_some(self.memory[slot as usize])
    }

    fn all_memory(&self) -> u64 {
        self.memory.iter().sum()
    }

    fn sight(&self, _: u32) -> Option<&Sight> {
        None
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    store: Option<Store>,
    mind: Mind,
    now: OffsetDateTime,
    seen: Seen,
    guideline: u64,
    bounds: Bounds,
    policy: Policy,
}

const BOUNDS: Bounds = Bounds {
    socket_memory_bytes: Some(1_000_000),
    bytes_per_second: Some(1000),
    upgrades_per_second: Some(50),
};

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let store = Store::open(&path, |_| Ok(())).unwrap();
        let mind = past::read(&store, Policy::default()).unwrap();
        let mut bench = Self {
            _folder: folder,
            path,
            store: Some(store),
            mind,
            now: START,
            seen: Seen::default(),
            guideline: 1000,
            bounds: BOUNDS,
            policy: Policy::default(),
        };
        bench.configure();
        bench
    }

    fn configure(&mut self) {
        let zone = |name: &str, bounds| Configured {
            name: name.into(),
            plan: "free".into(),
            guideline: self.guideline,
            bounds,
            terms: Terms::default(),
        };
        let zones = [zone(ZONE, self.bounds), zone("others.example", Bounds::default())];
        let turn = self.mind.configure(self.now, self.policy.clone(), Vec::new(), zones);
        self.keep(turn);
    }

    fn restart(&mut self) {
        self.store = None;
        let store = Store::open(&self.path, |_| Ok(())).unwrap();
        self.mind = past::read(&store, Policy::default()).unwrap();
        self.store = Some(store);
        self.configure();
    }

    fn keep(&mut self, turn: Turn) {
        if !turn.is_empty() {
            self.store.as_mut().unwrap().commit(&turn.batch).unwrap();
        }
    }

    /// Hours of this many bytes a second of the zone, and of the others.
    fn run(&mut self, hours: f64, bytes_per_second: [u64; 2]) {
        let end = self.now + Duration::seconds_f64(hours * 3600.0);
        let watched = [(0, 0), (1, 1)];
        while self.now < end {
            self.now += Duration::seconds(10);
            for (totals, rate) in self.seen.totals.iter_mut().zip(bytes_per_second) {
                totals.bytes += 10 * rate;
                totals.admitted += 10;
            }
            let turn = self.mind.look(self.now, watched.map(|(_, id)| (id, 100, 100)));
            self.keep(turn);
            let (turn, _) = self.mind.watch(self.now, false, &self.seen, &watched);
            self.keep(turn);
        }
    }

    fn state(&self) -> CaseState {
        self.mind.zone(ZONE).unwrap().dialogue.case().unwrap().state().clone()
    }

    fn opened(&self) -> Option<Entry> {
        let mut opened = None;
        let note = |entry: Entry| {
            if entry.fact.contains("case_opened") {
                opened = Some(entry);
            }
            Ok(())
        };
        self.store.as_ref().unwrap().each(note).unwrap();
        opened
    }
}

#[test]
fn more_than_36_hours_above_another_bound_is_a_case_with_its_evidence() {
    let mut bench = Bench::new();
    bench.run(35.0, [3000, 100_000]);
    assert_eq!(bench.opened(), None);
    bench.run(1.5, [3000, 100_000]);
    let opened = bench.opened().expect("a case");
    assert!(opened.fact.contains("\"R3\""), "{}", opened.fact);
    let evidence: serde_json::Value = serde_json::from_str(&opened.evidence).unwrap();
    let used = evidence["resources"]["used"]["bytes_per_second"].as_f64().unwrap();
    assert!((used - 3000.0).abs() < 1.0, "{evidence}");
    assert_eq!(evidence["resources"]["bounds"]["bytes_per_second"], 1000);
    let told = serde_json::json!([
        { "resource": "bytes_per_second", "bound": 1000, "over_hours": 36.08, "share": 0.0291 }
    ]);
    assert_eq!(evidence["resources"]["disproportionate"], told);
    let case = bench.mind.zone(ZONE).unwrap().dialogue.case().unwrap();
    assert_eq!(case.rule(), Rule::R3);
    assert_eq!(bench.mind.usage(bench.mind.zone(ZONE).unwrap()).over_hours, 0.0, "its WebSockets are within");
}

#[test]
fn a_case_that_is_closed_is_settled_and_within_the_bound_there_is_none() {
    let mut bench = Bench::new();
    bench.run(40.0, [1050, 100_000]);
    assert_eq!(bench.opened(), None, "5 % above are tolerated");
    bench.run(37.0, [3000, 100_000]);
    let first = bench.opened().expect("a case").seq;
    // A larger plan closes it; what was seen before it is settled.
    bench.guideline = 5000;
    bench.configure();
    bench.run(10.0, [3000, 100_000]);
    assert_eq!(bench.opened().map(|entry| entry.seq), Some(first));
    assert!(!bench.mind.zone(ZONE).unwrap().dialogue.case().unwrap().is_open());
}

#[test]
fn memory_is_judged_too_and_what_was_not_seen_is_unknown() {
    let mut bench = Bench::new();
    bench.seen.memory = [5_000_000, 1_000_000];
    bench.seen.unseen = true;
    bench.run(40.0, [10, 10]);
    assert_eq!(bench.opened(), None, "no audit has said so");
    bench.seen.unseen = false;
    bench.run(36.5, [10, 10]);
    let opened = bench.opened().expect("a case");
    assert!(opened.evidence.contains("\"socket_memory_bytes\":5000000"), "{}", opened.evidence);
}

#[test]
fn a_restart_loses_a_slot_and_not_what_was_spent() {
    let mut bench = Bench::new();
    for _ in 0..36 {
        bench.run(1.0, [3000, 100_000]);
        bench.restart();
    }
    assert_eq!(bench.opened(), None, "the slots with restarts are unknown");
    bench.run(5.0, [3000, 100_000]);
    assert!(bench.opened().is_some());
    let spending = bench.mind.zone(ZONE).unwrap().spending.as_ref().unwrap();
    let p95 = spending.spent.p95(&BOUNDS);
    assert!((3000.0..3300.0).contains(&p95.bytes_per_second), "{p95:?}");
    assert!((1.0..1.2).contains(&p95.upgrades_per_second), "{p95:?}");
    let kept = Spent::decode(&spending.row(0).unwrap().data).unwrap();
    assert_eq!(kept, spending.spent);
}

const UPGRADED: CaseState = CaseState::Closed { closing: Closing::Upgraded };

#[test]
fn what_is_little_of_the_resource_itself_opens_nothing_whatever_else_the_zone_has_much_of() {
    let mut bench = Bench::new();
    bench.run(40.0, [3000, 1_000_000]);
    assert_eq!(bench.opened(), None, "0.3 % of the bytes, though half of the WebSockets");
    // One quiet hour of the others does not make it much of the window.
    bench.run(1.0, [3000, 10_000]);
    assert_eq!(bench.opened(), None);
}

/// A zone that has overspent its bytes, under a policy to which they are no matter until now.
fn overspent() -> Bench {
    let mut bench = Bench::new();
    let mut params = Policy::default().params().clone();
    params.detection.materiality = 0.9;
    bench.policy = Policy::new(params).unwrap();
    bench.configure();
    bench.run(40.0, [3000, 100_000]);
    assert_eq!(bench.opened(), None);
    bench.policy = Policy::default();
    bench
}

#[test]
fn a_case_is_opened_only_in_a_slot_in_which_the_resource_is_over() {
    let mut bench = overspent();
    bench.configure();
    bench.run(1.0, [10, 100_000]);
    assert_eq!(bench.opened(), None, "what was spent is behind it");
    bench.run(0.25, [3000, 100_000]);
    assert!(bench.opened().is_some());
}

#[test]
fn what_is_not_bounded_any_more_opens_nothing() {
    let mut bench = overspent();
    bench.bounds.bytes_per_second = None;
    bench.configure();
    bench.run(1.0, [3000, 100_000]);
    assert_eq!(bench.opened(), None, "the plan bounds other things now");
    bench.bounds = Bounds::default();
    bench.restart();
    assert!(bench.mind.zone(ZONE).unwrap().spending.is_none(), "or nothing, since a stop");
    bench.run(1.0, [3000, 100_000]);
    assert_eq!(bench.opened(), None);
}

#[test]
fn bytes_of_live_sockets_are_unknown_without_audits_and_so_is_a_plan() {
    let mut bench = Bench::new();
    bench.seen.unseen = true;
    bench.run(40.0, [3000, 100_000]);
    assert_eq!(bench.opened(), None);
    let spent = &bench.mind.zone(ZONE).unwrap().spending.as_ref().unwrap().spent;
    let p95 = spent.p95(&BOUNDS);
    assert!(p95.bytes_per_second.is_infinite() && p95.socket_memory_bytes.is_infinite(), "{p95:?}");
    assert!((1.0..1.2).contains(&p95.upgrades_per_second), "counted without audits: {p95:?}");
    assert!(
        spent.p95(&Bounds::default()).upgrades_per_second.is_infinite(),
        "what is not bounded is not known"
    );
}

#[test]
fn larger_bounds_end_the_case_also_when_the_agent_was_stopped_meanwhile() {
    for stopped in [false, true] {
        let mut bench = Bench::new();
        bench.run(36.5, [3000, 100_000]);
        bench.bounds.socket_memory_bytes = Some(9_000_000);
        bench.configure();
        assert_eq!(bench.state(), CaseState::Open, "the case is about bytes");
        bench.bounds.bytes_per_second = Some(10_000);
        if stopped {
            bench.restart()
        } else {
            bench.configure()
        }
        assert_eq!(bench.state(), UPGRADED, "stopped: {stopped}");
    }
}

#[test]
fn a_case_closes_by_itself_after_14_days_within_the_bound_and_a_replay_says_all_of_it_again() {
    let mut bench = Bench::new();
    bench.run(37.0, [3000, 100_000]);
    bench.run(13.0 * 24.0, [10, 100_000]);
    assert_eq!(bench.state(), CaseState::Open);
    bench.run(24.5, [10, 100_000]);
    assert_eq!(bench.state(), CaseState::Closed { closing: Closing::SelfResolved });
    let mut kept = Vec::new();
    let store = bench.store.as_ref().unwrap();
    let note = |entry: Entry| {
        kept.push((entry.at, entry.fact().unwrap(), entry.evidence));
        Ok(())
    };
    store.each(note).unwrap();
    let again = replay(store, |_| Terms::default()).unwrap();
    let again: Vec<_> = again.into_iter().map(|draft| (draft.at, draft.fact, draft.evidence)).collect();
    assert_eq!(again, kept);
    assert_eq!(kept.len(), 2, "opened and closed");
}

#[test]
fn what_a_suspicion_covers_is_taken_out_of_every_budget() {
    let mut bench = Bench::new();
    bench.run(35.0, [3000, 100_000]);
    let to = SlotIndex::containing(bench.now).back(1);
    let mut turn = Turn::default();
    bench.mind.command(0, bench.now, Command::LeaveOut { from: to.back(35), to }, &mut turn);
    assert_eq!(turn.batch.overuse.len(), 1);
    bench.keep(turn);
    bench.run(3.5, [3000, 100_000]);
    assert_eq!(bench.opened(), None, "three hours were an attack");
    bench.run(1.0, [3000, 100_000]);
    assert!(bench.opened().is_some());
}
