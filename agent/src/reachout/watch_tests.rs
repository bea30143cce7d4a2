//! From what the kernel counts to verdicts in the ledger and prefixes for the gate, and nobody accused by accident.

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use weir_common::{
    listener::words,
    socket::{ADMITTED, COUNTED, SOURCED, SocketTag},
    source::SourceKey,
};
use weir_reachout::{
    actor::{Person, Reason},
    outbox::Subject,
    policy::Policy,
    refusal::Refused,
    signal::{PrefixCount, Share, Signals},
    zone::Terms,
};

use super::{
    mind::{Configured, Effect, Mind, Turn},
    past,
    tests::{START, ZONE},
    watch::{Eyes, Totals},
};
use crate::{
    kernel::SocketHolds,
    ledger::{Batch, Store},
    sights::{Sight, sight_of},
};

const SLOT: u32 = 7;
/// The kernel's clock at the beginning of a story.
const NOW_SECONDS: u64 = 1000;

/// What the kernel would say of the one zone.
#[derive(Clone, Default)]
struct Seen {
    live: u64,
    totals: Totals,
    sight: Option<Sight>,
}

impl Eyes for Seen {
    fn live(&self, _: u32) -> u64 {
        self.live
    }

    fn totals(&self, _: u32) -> Totals {
        self.totals
    }

    fn memory(&self, _: u32) -> Option<u64> {
        None
    }

    fn all_memory(&self) -> u64 {
        0
    }

    fn sight(&self, _: u32) -> Option<&Sight> {
        self.sight.as_ref()
    }
}

fn from(networks: &[(&str, u64)]) -> Vec<PrefixCount> {
    networks.iter().map(|(prefix, live)| PrefixCount { prefix: (*prefix).to_owned(), live: *live }).collect()
}

/// A crowd from everywhere, of which one in ten says nothing.
fn crowd(live: u64) -> Sight {
    let part = live / 50;
    Sight {
        zone_key: 1,
        look: 0,
        prefixes: from(&[("198.51.1.0/24", part), ("198.51.2.0/24", part), ("198.51.3.0/24", part)]),
        sourced: live,
        silent: Share::new(live / 10, live),
        requestless: Share::new(live / 100, live),
    }
}

/// The same, and sockets of three networks that say nothing.
fn attacked(live: u64, silent: u64) -> Sight {
    let part = silent / 3;
    let networks = [("203.0.1.0/24", part), ("203.0.2.0/24", part), ("203.0.3.0/24", part)];
    Sight {
        prefixes: from(&networks),
        sourced: live + silent,
        silent: Share::new(live / 10 + silent, live + silent),
        ..crowd(live)
    }
}

struct Bench {
    _folder: TempDir,
    path: PathBuf,
    store: Option<Store>,
    mind: Mind,
    now: OffsetDateTime,
    seen: Seen,
    effects: Vec<Effect>,
}

impl Bench {
    /// After two hours of quiet.
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
            effects: Vec::new(),
        };
        bench.begin();
        bench.run(Duration::hours(2), quiet);
        bench
    }

    fn begin(&mut self) {
        let zone = Configured {
            name: ZONE.into(),
            plan: "free".into(),
            guideline: 1000,
            bounds: weir_config::Bounds::default(),
            terms: Terms { automatic_notices: true },
        };
        self.mind.restarted(self.now);
        let turn = self.mind.configure(self.now, Policy::default(), vec!["webhook".to_owned()], [zone]);
        self.keep(turn);
    }

    fn restart(&mut self) {
        self.store = None;
        let store = Store::open(&self.path, |_| Ok(())).unwrap();
        self.mind = past::read(&store, Policy::default()).unwrap();
        self.store = Some(store);
        self.begin();
    }

    fn keep(&mut self, turn: Turn) {
        if turn.batch != Batch::default() {
            self.store.as_mut().unwrap().commit(&turn.batch).unwrap();
        }
        self.effects.extend(turn.effects);
    }

    fn id(&self) -> u32 {
        self.mind.id_of(ZONE).unwrap()
    }

    /// A look and a round each 10 s; `change` makes what is seen, by the seconds since this began.
    fn run(&mut self, length: Duration, change: impl Fn(u64, &mut Seen)) {
        let (id, end) = (self.id(), self.now + length);
        let mut seconds = 0;
        while self.now < end {
            (self.now, seconds) = (self.now + Duration::seconds(10), seconds + 10);
            change(seconds, &mut self.seen);
            if let Some(sight) = &mut self.seen.sight {
                sight.look = self.now.unix_timestamp().unsigned_abs();
            }
            let live = self.seen.live;
            let turn = self.mind.look(self.now, [(id, live, live)]);
            self.keep(turn);
            let (turn, _) = self.mind.watch(self.now, false, &self.seen, &[(SLOT, id)]);
            self.keep(turn);
        }
    }

    fn refused(&self) -> Vec<String> {
        self.mind.refused(self.now).into_iter().map(|(prefix, _)| prefix).collect()
    }

    fn told(&self, wanted: Subject) -> usize {
        let is = |effect: &&Effect| matches!(effect, Effect::Tell { subject, .. } if *subject == wanted);
        self.effects.iter().filter(is).count()
    }

    fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        let note = |entry: weir_reachout::ledger::Entry| {
            let fact: serde_json::Value = serde_json::from_str(&entry.fact).unwrap();
            facts.push(fact["fact"].as_str().unwrap().to_owned());
            Ok(())
        };
        self.store.as_ref().unwrap().each(note).unwrap();
        facts
    }

    fn over_hours(&self) -> f64 {
        self.mind.usage(self.mind.zone(ZONE).unwrap()).over_hours
    }
}

/// 600 live; of ten upgrades a minute's tenth is declined, and lifetimes differ.
fn quiet(seconds: u64, seen: &mut Seen) {
    seen.live = 600;
    seen.sight = Some(crowd(600));
    upgrades(seen, 20, 2);
    for units in [10, 500, 40_000, 10 + seconds % 900] {
        ended(seen, units, 2);
    }
}

fn upgrades(seen: &mut Seen, admitted: u64, released: u64) {
    seen.totals.admitted += admitted;
    seen.totals.released += released;
}

fn ended(seen: &mut Seen, units: u64, count: u64) {
    seen.totals.lived += count;
    seen.totals.lived_sum += units * count;
    seen.totals.lived_squares += units * units * count;
}

/// x30 in a minute from three networks, silent, and most upgrades declined.
fn attack(seconds: u64, seen: &mut Seen) {
    quiet(seconds, seen);
    let extra = 17_400 * seconds.min(60) / 60;
    seen.live = 600 + extra;
    seen.sight = Some(attacked(600, extra));
    upgrades(seen, 1000, 700);
}

/// The same growth over half an hour, from everywhere, and everybody speaks.
fn popular(seconds: u64, seen: &mut Seen) {
    quiet(seconds, seen);
    seen.live = (600.0 * 30_f64.powf((seconds as f64 / 1800.0).min(1.0))) as u64;
    seen.sight = Some(crowd(seen.live));
    upgrades(seen, seen.live / 100, seen.live / 1000);
}

const NETWORKS: [&str; 3] = ["203.0.1.0/24", "203.0.2.0/24", "203.0.3.0/24"];

#[test]
fn an_attack_is_a_verdict_in_the_ledger_and_its_networks_are_refused_until_after_its_end() {
    let mut bench = Bench::new();
    let start = bench.now;
    bench.run(Duration::minutes(2), attack);
    assert_eq!(bench.refused(), NETWORKS);
    assert_eq!(bench.facts(), ["suspected", "mitigated"]);
    let verdict = bench.mind.zone(ZONE).unwrap().watch.region.verdict().unwrap().clone();
    assert!(verdict.evidence().families.len() >= 3, "{verdict:?}");
    assert!(verdict.until() - bench.now <= Duration::minutes(15) && verdict.since() > start);
    assert_eq!((bench.told(Subject::Suspected), bench.told(Subject::Mitigating)), (1, 1));
    bench.run(Duration::hours(1), |seconds, seen| attack(120 + seconds, seen));
    assert_eq!(bench.refused(), NETWORKS, "renewed while the evidence lasts");
    bench.run(Duration::minutes(16), quiet);
    assert_eq!(bench.refused(), Vec::<String>::new());
    assert_eq!(bench.facts().last().unwrap(), "verdict_ended");
    // 18,000 sockets for an hour, at a guideline of 1000: none of it is the customer's usage.
    assert_eq!((bench.over_hours(), bench.told(Subject::Surging)), (0.0, 0));
    assert!(!bench.facts().iter().any(|fact| fact == "spike_counted"), "{:?}", bench.facts());
}

#[test]
fn success_is_no_abuse_however_large() {
    let mut bench = Bench::new();
    bench.run(Duration::hours(3), popular);
    assert_eq!((bench.refused(), bench.told(Subject::Suspected)), (Vec::new(), 0));
    assert_eq!(bench.facts(), ["spike_counted", "surging"], "usage is told as usage");
    // At its abuse cap besides: harm to the host is not evidence of anything.
    bench.run(Duration::hours(1), |seconds, seen| {
        popular(1800 + seconds, seen);
        seen.totals.capped += 100;
    });
    assert_eq!(bench.refused(), Vec::<String>::new());
    assert_eq!(bench.facts(), ["spike_counted", "surging"]);
}

#[test]
fn what_nobody_has_seen_accuses_nobody() {
    let mut bench = Bench::new();
    bench.run(Duration::hours(1), |seconds, seen| {
        attack(seconds, seen);
        // No look at the sockets succeeds, and the counts are another zone's each time.
        seen.sight = None;
        seen.totals = Totals { admitted: 1000 - seconds % 1000, ..Totals::default() };
    });
    assert_eq!(bench.facts().iter().filter(|fact| *fact == "suspected").count(), 0);
}

#[test]
fn a_zone_that_left_is_accused_no_longer_than_its_verdict() {
    let mut bench = Bench::new();
    bench.run(Duration::minutes(2), attack);
    assert_eq!(bench.mind.accused().count(), 1);
    let turn = bench.mind.configure(bench.now, Policy::default(), Vec::new(), []);
    bench.keep(turn);
    bench.now += Duration::minutes(16);
    let (turn, _) = bench.mind.watch(bench.now, false, &bench.seen, &[]);
    bench.keep(turn);
    assert_eq!(bench.mind.accused().count(), 0);
    assert_eq!(bench.facts(), ["suspected", "mitigated", "verdict_ended"]);
}

#[test]
fn two_signs_are_told_and_with_harm_to_the_host_they_are_enough() {
    let two = |seconds: u64, seen: &mut Seen| {
        quiet(seconds, seen);
        seen.sight = Some(attacked(600, 1200));
        seen.live = 1800;
    };
    let mut bench = Bench::new();
    bench.run(Duration::minutes(10), two);
    assert_eq!(
        (bench.refused(), bench.facts()),
        (Vec::new(), ["suspected", "verdict_renewed"].map(str::to_owned).to_vec())
    );
    bench.run(Duration::minutes(2), |seconds, seen| {
        two(seconds, seen);
        seen.totals.capped += 1;
    });
    assert_eq!(bench.refused(), NETWORKS);
}

#[test]
fn a_restart_goes_on_with_the_verdict_and_with_what_is_normal() {
    let mut bench = Bench::new();
    bench.run(Duration::minutes(2), attack);
    bench.restart();
    assert_eq!(bench.refused(), NETWORKS, "at once");
    bench.run(Duration::minutes(16), quiet);
    assert_eq!(bench.refused(), Vec::<String>::new());
    // What is normal was kept with the slots: the next attack is known without another hour. A jump is not, for 10 minutes.
    bench.restart();
    bench.run(Duration::minutes(2), attack);
    assert_eq!(bench.refused(), NETWORKS, "three other signs are enough");
    let verdict = bench.mind.zone(ZONE).unwrap().watch.region.verdict().unwrap().clone();
    let families: Vec<_> = verdict.evidence().families.iter().map(|finding| finding.family).collect();
    assert_eq!(format!("{families:?}"), "[Source, Behaviour, Handshake]");
}

#[test]
fn a_new_zone_is_suspected_of_nothing_for_an_hour() {
    let mut bench = Bench::new();
    let id = bench.id() as usize;
    bench.mind.zones[id].watch.signals = Signals::default();
    bench.run(Duration::minutes(50), attack);
    assert_eq!(bench.facts(), ["spike_counted"], "what is not known to be abuse is usage");
}

#[test]
fn a_person_ends_a_verdict_or_lets_it_go_on() {
    let ann = || (Person::new("ann").unwrap(), Reason::new("load test, announced").unwrap());
    let mut bench = Bench::new();
    let refused = bench.mind.on_verdict(bench.id(), bench.now, ann().0, ann().1, true);
    assert!(matches!(refused, Err(Refused::NoVerdict)));
    bench.run(Duration::minutes(2), attack);
    let turn = bench.mind.on_verdict(bench.id(), bench.now, ann().0, ann().1, true).unwrap();
    bench.keep(turn);
    let verdict = bench.mind.zone(ZONE).unwrap().watch.region.verdict().unwrap();
    assert_eq!(verdict.attended_by().map(ToString::to_string), Some("ann".to_owned()));
    let turn = bench.mind.on_verdict(bench.id(), bench.now, ann().0, ann().1, false).unwrap();
    bench.keep(turn);
    bench.restart();
    bench.run(Duration::hours(1), |seconds, seen| attack(120 + seconds, seen));
    assert_eq!(bench.refused(), Vec::<String>::new(), "and it does not come back by itself for a day");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever healthy sockets do (they come from many networks, most of them speak, most upgrades are granted), however fast they
    /// come and go, and whether or not the agent sees all of it: nothing is refused, and nobody is suspected.
    #[test]
    fn healthy_sockets_never_have_a_verdict(
        steps in prop::collection::vec((0_u64..40_000, 1_i64..40, any::<bool>(), any::<bool>()), 1..12),
    ) {
        let mut bench = Bench::new();
        for (live, minutes, is_seen, restarts) in steps {
            if restarts {
                bench.restart();
            }
            bench.run(Duration::minutes(minutes), |seconds, seen| {
                quiet(seconds, seen);
                seen.live = live;
                seen.sight = is_seen.then(|| crowd(live));
                upgrades(seen, live / 20, live / 400);
                seen.totals.capped += live / 100;
            });
        }
        let accused = bench.facts().iter().any(|fact| fact == "suspected" || fact == "mitigated");
        prop_assert!(!accused && bench.refused().is_empty(), "{:?}", bench.facts());
    }

    /// Nor has an audience that comes at once from behind one NAT: it comes from one network, and until its heartbeats, which
    /// are up to a minute apart, it says nothing.
    #[test]
    fn a_sudden_audience_behind_a_nat_is_no_attack(
        wave in 100_u64..4000, arrives_in in 1_u64..60, heartbeat in 5_u64..=60, minutes in 2_i64..20,
    ) {
        let mut bench = Bench::new();
        bench.run(Duration::minutes(minutes), |seconds, seen| {
            quiet(seconds, seen);
            let mut sockets = Vec::new();
            let mut add = |source: [u8; 4], born: u64, spoke: u64| {
                let address = std::net::Ipv4Addr::from(source).to_ipv6_mapped();
                let tag = SocketTag {
                    slot: SLOT,
                    flags: COUNTED | ADMITTED | SOURCED,
                    source: SourceKey::of(&words(address.octets()), 32, 64),
                    source_ordinal: 1,
                    rx_counted: 0,
                    tx_counted: 0,
                    born_boot_ns: born * 1_000_000_000,
                };
                let ago = ((NOW_SECONDS + seconds - spoke) * 1000) as u32;
                let holds = SocketHolds {
                    rx_bytes: 500,
                    sent_ago_ms: ago,
                    received_ago_ms: ago,
                    ..SocketHolds::default()
                };
                sockets.push((tag, holds));
            };
            (0..600_u64).for_each(|n| add([198, 51, n as u8, 1], 1, NOW_SECONDS + seconds));
            for n in 0..wave {
                let after = n * arrives_in / wave;
                let Some(age) = seconds.checked_sub(after) else { continue };
                let born = NOW_SECONDS + after;
                add([203, 0, 113, n as u8], born, born + age / heartbeat * heartbeat);
            }
            seen.live = sockets.len() as u64;
            seen.sight = Some(sight_of(sockets.into_iter(), (NOW_SECONDS + seconds) * 1_000_000_000));
        });
        prop_assert!(!bench.facts().iter().any(|fact| fact == "suspected"), "{:?}", bench.facts());
    }

    /// Whatever attacks are seen: what is refused rests on three families, or two and harm, of which the source is one; it is named
    /// narrowly, is in the ledger, and has ended 15 minutes after the last sign.
    #[test]
    fn what_is_refused_rests_on_its_evidence_and_ends(
        steps in prop::collection::vec((0_u64..20_000, any::<[bool; 4]>(), 1_i64..30), 1..8),
    ) {
        let mut bench = Bench::new();
        for (extra, [narrow, silent, declined, capped], minutes) in steps {
            bench.run(Duration::minutes(minutes), |seconds, seen| {
                quiet(seconds, seen);
                seen.live = 600 + extra;
                let mut sight = attacked(600, extra);
                if !narrow {
                    sight.prefixes = crowd(600 + extra).prefixes;
                }
                if !silent {
                    sight.silent = Share::new(60, 600 + extra);
                }
                seen.sight = Some(sight);
                upgrades(seen, 1000, if declined { 900 } else { 10 });
                seen.totals.capped += u64::from(capped);
            });
            let known = bench.mind.zone(ZONE).unwrap();
            if let Some(verdict) = known.watch.region.verdict() {
                let evidence = verdict.evidence();
                let families = evidence.families.len();
                prop_assert!(families >= 2);
                prop_assert!(bench.refused().is_empty() || families >= 3 || evidence.harm);
                prop_assert!(bench.refused().iter().all(|prefix| evidence.prefixes.iter().any(|p| p.prefix == *prefix)));
            } else {
                prop_assert!(bench.refused().is_empty());
            }
        }
        bench.run(Duration::minutes(17), quiet);
        prop_assert!(bench.refused().is_empty());
        bench.restart();
        prop_assert!(bench.refused().is_empty());
    }
}
