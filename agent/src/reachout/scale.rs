//! 100,000 zones with 30 days behind them: what a slot, a start and the disk cost. A measurement, so it is run by its name:
//! `cargo test --release -p weir-agent --lib scale -- --ignored --nocapture`.

use std::{sync::Arc, time::Duration as Real};

use nix::time::{ClockId, clock_gettime};
use rusqlite::{Connection, params};
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    detector::Detector,
    policy::Policy,
    slot::{Judgement, SlotIndex},
    zone::Terms,
};

use super::{
    mind::{Configured, Known, detector_row},
    past,
};
use crate::ledger::{Batch, Packed, Store, day_of, pack_day};

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

    drop((store, mind));
    let before = cpu();
    let store = Store::open(&path, |_| Ok(())).unwrap();
    let mind = past::read(&store, Policy::default()).unwrap();
    let start = cpu() - before;
    assert_eq!(mind.zones.len(), ZONES as usize);
    println!(
        "100,000 zones, 30 days: {} MiB on the disk, {row} bytes a slot of today; a look {look:?}, a slot {slot:?} of CPU \
         ({judged:?} to judge it), a start {start:?}",
        bytes >> 20
    );
    assert!(bytes < 1 << 30, "{bytes}");
}
