//! 100,000 zones with 30 days behind them: what a slot, a start and the disk cost. A measurement, so it is run by its name:
//! `cargo test --release -p weir-agent --lib scale -- --ignored --nocapture`.

use std::{sync::Arc, time::Duration as Real};

use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, params};
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    detector::Detector,
    policy::Policy,
    signal::{PrefixCount, Share},
    slot::{Judgement, SlotIndex},
    zone::Terms,
};

use super::{
    mind::{Configured, Known, Mind, detector_row},
    past,
    watch::{Eyes, Totals},
};
use crate::{
    ledger::{Batch, Packed, Store, day_of, pack_day},
    sights::Sight,
};

const ZONES: u32 = 100_000;
const DAYS: u32 = 30;
const NOW: OffsetDateTime = datetime!(2026-03-31 00:00 UTC);

fn cpu() -> Real {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap().into()
}

/// Between 0 and 1, the same in every run.
fn noise(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as f64 / f64::from(1_u32 << 31)
}

/// Thirty days: of most zones quiet, of some above the guideline every other slot, which costs a detector most.
fn detector(restless: bool) -> Detector {
    let (policy, mut detector) = (Policy::default(), Detector::default());
    let first = SlotIndex::containing(NOW).back(DAYS * 288);
    for n in 0..DAYS * 288 {
        let over = restless && n % 40 == 0;
        let judgement = if over { Judgement::Over } else { Judgement::Within };
        detector.observe(&policy, first.forth(n), judgement);
    }
    detector
}

fn configured() -> Vec<Configured> {
    let zone = |n| Configured {
        name: Arc::from(format!("zone-{n}.example")),
        plan: "free".into(),
        guideline: 1000,
        bounds: weir_config::Bounds::default(),
        terms: Terms::default(),
    };
    (0..ZONES).map(zone).collect()
}

#[test]
#[ignore = "a measurement: minutes of time, and a gigabyte of disk"]
fn a_hundred_thousand_zones_with_thirty_days_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let mut store = Store::open(&path, |_| Ok(())).unwrap();
    let mut mind = past::read(&store, Policy::default()).unwrap();
    let turn = mind.configure(NOW, Policy::default(), Vec::new(), configured());
    store.commit(&turn.batch).unwrap();
    let (quiet, restless) = (detector(false), detector(true));
    let known = |known: &mut Known, n: u32| {
        known.detector = if n.is_multiple_of(10) { restless.clone() } else { quiet.clone() };
    };
    (0..).zip(&mut mind.zones).for_each(|(n, zone)| known(zone, n));
    let detectors = (0..).zip(&mind.zones).filter_map(|(id, known)| detector_row(id, known)).collect();
    store.commit(&Batch { detectors, ..Batch::default() }).unwrap();

    // Every zone varies by 5 % all the time: the most that usage can cost.
    let mut seed = 1;
    let days: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            let day = std::array::from_fn(|_| {
                let mean = 950.0 + 100.0 * noise(&mut seed);
                Packed::new(Judgement::Within, mean, mean * 1.03)
            });
            pack_day(&day)
        })
        .collect();
    let mut other = Connection::open(&path).unwrap();
    let today = day_of(SlotIndex::containing(NOW));
    for day in today - DAYS..today {
        let transaction = other.transaction().unwrap();
        let sql = "INSERT INTO slots_daily (day, zone, data) VALUES (?1, ?2, ?3)";
        for zone in 0..ZONES {
            let data = &days[(zone + day) as usize % days.len()];
            transaction.prepare_cached(sql).unwrap().execute(params![day, zone, data]).unwrap();
        }
        transaction.commit().unwrap();
    }
    other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(other);
    let bytes = std::fs::metadata(&path).unwrap().len();

    let looks = |second: i64| {
        let mut seed = second as u64;
        (0..ZONES).map(move |id| {
            let live = 950 + (100.0 * noise(&mut seed)) as u64;
            (id, live, live)
        })
    };
    let mut look = Real::ZERO;
    for second in 0..300 / 10 {
        let before = cpu();
        assert!(mind.look(NOW + Duration::seconds(second * 10), looks(second)).batch.slot.is_none());
        look = look.max(cpu() - before);
    }
    let before = cpu();
    let turn = mind.look(NOW + Duration::minutes(5), looks(31));
    let judged = cpu() - before;
    store.commit(&turn.batch).unwrap();
    let slot = cpu() - before;
    let row: usize = turn.batch.slot.iter().flat_map(|(_, chunks)| chunks).map(Vec::len).sum();

    let rounds = rounds_of_a_slot(&mut mind);

    drop((store, mind));
    let before = cpu();
    let store = Store::open(&path, |_| Ok(())).unwrap();
    let mind = past::read(&store, Policy::default()).unwrap();
    let start = cpu() - before;
    assert_eq!(mind.zones.len(), ZONES as usize);
    println!(
        "100,000 zones, 30 days: {} MiB on the disk, {row} bytes a slot of today; a look {look:?}, a slot {slot:?} of CPU \
         ({judged:?} to judge it), signs of abuse in a slot {rounds:?}, a start {start:?}",
        bytes >> 20
    );
    assert!(bytes < 1 << 30, "{bytes}");
}

/// Every zone with a thousand sockets that were looked at lately; one in a thousand is attacked.
struct Busy(Sight, Sight);

impl Eyes for Busy {
    fn live(&self, slot: u32) -> u64 {
        if slot.is_multiple_of(1000) { 30_000 } else { 1000 }
    }

    fn totals(&self, _: u32) -> Totals {
        Totals::default()
    }

    fn memory(&self, _: u32) -> Option<u64> {
        None
    }

    fn all_memory(&self) -> u64 {
        0
    }

    fn sight(&self, slot: u32) -> Option<&Sight> {
        Some(if slot.is_multiple_of(1000) { &self.1 } else { &self.0 })
    }
}

/// CPU of the thirty rounds in which signs of abuse are looked for in a slot.
fn rounds_of_a_slot(mind: &mut Mind) -> Real {
    let prefix = |n: u32| PrefixCount { prefix: format!("198.51.{n}.0/24"), live: 10 };
    let quiet = Sight {
        prefixes: (0..8).map(prefix).collect(),
        sourced: 1000,
        silent: Share::new(100, 1000),
        requestless: Share::new(10, 1000),
        ..Sight::default()
    };
    let attacked = Sight { silent: Share::new(29_000, 30_000), ..quiet.clone() };
    let (eyes, watched) = (Busy(quiet, attacked), (0..ZONES).map(|id| (id, id)).collect::<Vec<_>>());
    let before = cpu();
    for round in 1..=30 {
        mind.watch(NOW + Duration::minutes(5) + Duration::seconds(round * 10), false, &eyes, &watched);
    }
    cpu() - before
}
