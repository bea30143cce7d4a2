//! From counts to the ledger and back: restarts between any two slots, full disks, and nobody limited by accident.

use std::path::PathBuf;

use tempfile::TempDir;
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    actor::{Person, Reason},
    contact::Failure,
    fact::Answer,
    ledger::{Draft, Entry, Head},
    outbox::{Outcome, Recipient, Subject},
    policy::Policy,
    refusal::Refused,
    zone::{Act, Resolution, Terms},
};

use super::{
    mind::{Configured, Effect, Mind, Turn},
    past,
};
use crate::ledger::Store;

pub const START: OffsetDateTime = datetime!(2026-03-01 00:00 UTC);
pub const ZONE: &str = "example.com";

/// An agent's reach-out without a kernel and without a clock.
pub struct Bench {
    _folder: TempDir,
    path: PathBuf,
    pub store: Option<Store>,
    pub mind: Mind,
    pub now: OffsetDateTime,
    guideline: u64,
    effects: Vec<Effect>,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let store = Store::open(&path, |_| Ok(())).unwrap().unsynced();
        let mind = past::read(&store, Policy::default()).unwrap();
        let mut bench = Self {
            _folder: folder,
            path,
            store: Some(store),
            mind,
            now: START,
            guideline: 1000,
            effects: Vec::new(),
        };
        bench.configure();
        bench
    }

    fn configure(&mut self) {
        let zone = Configured {
            name: ZONE.into(),
            plan: "free".into(),
            guideline: self.guideline,
            bounds: weir_config::Bounds::default(),
            terms: Terms { automatic_notices: true },
        };
        let turn = self.mind.configure(self.now, Policy::default(), vec!["webhook".to_owned()], [zone]);
        self.keep(turn);
    }

    fn upgrade(&mut self, guideline: u64) {
        self.guideline = guideline;
        self.configure();
    }

    /// Dies, and starts again with what was written.
    pub fn restart(&mut self) {
        self.store = None;
        let store = Store::open(&self.path, |_| Ok(())).unwrap().unsynced();
        self.mind = past::read(&store, Policy::default()).unwrap();
        self.store = Some(store);
        self.configure();
    }

    fn keep(&mut self, turn: Turn) {
        if turn.batch != crate::ledger::Batch::default() {
            self.store.as_mut().unwrap().commit(&turn.batch).unwrap();
        }
        self.effects.extend(turn.effects);
    }

    /// Looks each 15 s, for which a count holds, until then, at so many live WebSockets; sends and delivers nothing.
    pub fn live(&mut self, until: OffsetDateTime, live: u64) {
        let id = self.mind.id_of(ZONE).unwrap();
        while self.now < until {
            self.now += Duration::seconds(15);
            let turn = self.mind.look(self.now, [(id, live, live)]);
            self.keep(turn);
            if self.now.second() == 0 {
                let turn = self.mind.tick(self.now);
                self.keep(turn);
            }
        }
    }

    /// The worker: every due row has this end.
    fn send(&mut self, outcome: &Outcome) -> Vec<String> {
        let store = self.store.as_mut().unwrap();
        let due = store.outbox_due(self.now, 100).unwrap();
        let mails = due.iter().filter(|message| message.recipient == Recipient::Customer);
        let mails: Vec<String> = mails.map(|message| message.key.clone()).collect();
        for message in due {
            store.outbox_outcome(message.id, self.now, outcome).unwrap();
        }
        let unheard = store.outbox_unheard().unwrap();
        let turn = self.mind.hear(unheard);
        self.keep(turn);
        mails
    }

    fn act(&mut self, act: Act) -> Result<(), Refused> {
        let id = self.mind.id_of(ZONE).unwrap();
        let (ann, reason) = (Person::new("ann").unwrap(), Reason::new("as agreed").unwrap());
        let turn = self.mind.act(id, self.now, ann, reason, act)?;
        self.keep(turn);
        Ok(())
    }

    fn state(&self) -> &'static str {
        self.mind.zone(ZONE).unwrap().dialogue.case().map_or("none", |case| case.state().label())
    }

    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.store
            .as_ref()
            .unwrap()
            .each(|entry| {
                entries.push(entry);
                Ok(())
            })
            .unwrap();
        entries
    }

    fn facts(&self) -> Vec<String> {
        self.entries()
            .iter()
            .map(|entry| {
                let fact: serde_json::Value = serde_json::from_str(&entry.fact).unwrap();
                fact["fact"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

fn day(day: i64) -> OffsetDateTime {
    START + Duration::days(day)
}

/// S06: above the guideline for good from day 1 on, until the case is open on day 2.
fn with_case() -> Bench {
    let mut bench = Bench::new();
    bench.live(day(1), 600);
    bench.live(day(2) + Duration::hours(13), 1500);
    assert_eq!(bench.state(), "open");
    bench
}

#[test]
fn sustained_usage_becomes_one_case_one_notice_and_no_limit() {
    let mut bench = with_case();
    assert_eq!(bench.facts(), ["spike_counted", "flagged", "case_opened", "notice_queued"]);
    let opened = &bench.entries()[2];
    assert_eq!(opened.at, day(2) + Duration::hours(12) + Duration::minutes(5), "just past 36 h");
    assert_eq!(bench.send(&Outcome::Delivered).len(), 1);
    assert_eq!(bench.state(), "contacted");
    bench.live(day(3), 1500);
    assert!(bench.send(&Outcome::Delivered).is_empty(), "one mail");
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Grant(_))));
}

#[test]
fn a_restart_at_any_moment_changes_no_entry() {
    let mut plain = with_case();
    let until = day(2) + Duration::hours(13);
    let mut seed = 5_u32;
    let mut restarted = Bench::new();
    for (end, live) in [(day(1), 600), (until, 1500)] {
        while restarted.now < end {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let next = restarted.now + Duration::seconds(i64::from(seed >> 16) % 9000 / 15 * 15 + 15);
            restarted.live(next.min(end), live);
            // As an agent that ends in order does.
            let building = Some(restarted.mind.building.encode());
            let turn =
                Turn { batch: crate::ledger::Batch { building, ..Default::default() }, ..Turn::default() };
            restarted.keep(turn);
            restarted.restart();
        }
    }
    assert_eq!(restarted.entries(), plain.entries());
    plain.restart();
    let usage = |bench: &Bench| bench.mind.usage(bench.mind.zone(ZONE).unwrap());
    assert_eq!(usage(&plain), usage(&restarted));
}

#[test]
fn what_a_killed_agent_missed_is_unknown_and_not_zero() {
    let mut bench = Bench::new();
    bench.live(START + Duration::hours(1), 1500);
    bench.restart();
    bench.now += Duration::hours(2);
    bench.live(START + Duration::hours(4), 1500);
    let usage = bench.mind.usage(bench.mind.zone(ZONE).unwrap());
    // The first slot after the gap is known from its start on; the gap of 2 h is not.
    assert!((usage.over_hours - 2.0).abs() < 0.1, "{usage:?}");
    assert!((usage.coverage - 0.5).abs() < 0.02, "{usage:?}");
}

#[test]
fn a_limit_without_a_delivered_contact_is_refused_and_with_all_of_it_it_is_a_lease() {
    let mut bench = with_case();
    let schedule = |from| Act::ScheduleLimit { cap: 1200, from };
    let bounced = Outcome::Failed { failure: Failure::Bounced, why: "no such user".to_owned() };
    bench.send(&bounced);
    assert_eq!(bench.state(), "open");
    bench.live(day(17), 1500);
    // S18: the notice bounced; a limit is asked for on day 15.
    assert_eq!(bench.act(schedule(day(20))), Err(Refused::NotContacted));
    assert_eq!(bench.send(&Outcome::Delivered).len(), 1, "the first notice once more, under its own number");
    assert!(matches!(bench.act(schedule(day(20))), Err(Refused::GraceNotOver { .. })));
    bench.act(schedule(day(32))).unwrap();
    bench.live(day(32) + Duration::hours(1), 1500);
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Grant(_))), "not approved");
    bench.act(Act::Approve).unwrap();
    bench.live(bench.now + Duration::minutes(2), 1500);
    assert_eq!(bench.state(), "limited");
    let grants: Vec<_> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Grant(lease) => Some(lease.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(grants.last().unwrap().until() - grants.last().unwrap().from(), Duration::minutes(5));
    // A new agent goes on with the leases at once.
    bench.effects.clear();
    bench.restart();
    let turn = bench.mind.tick(bench.now);
    assert!(matches!(turn.effects[..], [Effect::Grant(_)]));
    bench.act(Act::Lift).unwrap();
    assert!(matches!(bench.effects.last(), Some(Effect::EndLimit { .. })));
    assert_eq!(bench.state(), "in_dialogue");
}

#[test]
fn a_turn_that_is_not_written_has_not_been() {
    let mut bench = with_case();
    let entries = bench.entries();
    let id = bench.mind.id_of(ZONE).unwrap();
    let ann = || (Person::new("ann").unwrap(), Reason::new("x").unwrap());
    let _lost = bench.mind.act(id, bench.now, ann().0, ann().1, Act::Reply { answer: Answer::Talk }).unwrap();
    bench.restart();
    assert_eq!((bench.entries(), bench.state()), (entries, "open"));
}

#[test]
fn a_larger_plan_closes_the_case_and_judges_only_what_comes_after_it() {
    let mut bench = with_case();
    bench.send(&Outcome::Delivered);
    let over = bench.mind.usage(bench.mind.zone(ZONE).unwrap()).over_hours;
    bench.upgrade(5000);
    assert_eq!(bench.state(), "closed");
    bench.live(day(20), 1500);
    bench.restart();
    bench.live(day(21), 1500);
    let usage = bench.mind.usage(bench.mind.zone(ZONE).unwrap());
    assert!(usage.over_hours >= over && usage.over_hours < over + 0.2, "{usage:?}");
    assert_eq!(bench.facts().iter().filter(|fact| *fact == "case_opened").count(), 1);
}

#[test]
fn an_answer_by_link_moves_the_case_and_operators_hear_of_it() {
    let mut bench = with_case();
    bench.send(&Outcome::Delivered);
    let case = bench.mind.zone(ZONE).unwrap().dialogue.case().unwrap().id().clone();
    let turn = bench.mind.answered(bench.now, &case, Answer::Talk).unwrap();
    assert!(turn.batch.messages.iter().any(|message| message.subject == Subject::Answered));
    bench.keep(turn);
    assert_eq!(bench.state(), "in_dialogue");
}

/// Six zones with all that can happen to them, over 26 days: acts and refusals, answers, letters that arrive, are refused and come
/// back, exemptions, limits, larger and smaller plans, a surge, another policy by a reload and by a restart, and restarts anywhere.
struct Town {
    folder: TempDir,
    store: Option<Store>,
    mind: Mind,
    now: OffsetDateTime,
    policy: Policy,
    guidelines: [u64; 6],
    seed: u32,
}

const ZONES: [&str; 6] = ["a.test", "b.test", "c.test", "d.test", "e.test", "f.test"];

fn terms(zone: &str) -> Terms {
    // Of these a person writes.
    Terms { automatic_notices: !matches!(zone, "c.test" | "f.test") }
}

impl Town {
    fn new(seed: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("ledger.db"), |_| Ok(())).unwrap().unsynced();
        let policy = Policy::default();
        let mind = past::read(&store, policy.clone()).unwrap();
        let mut town =
            Self { folder, store: Some(store), mind, now: START, policy, guidelines: [1000; 6], seed };
        town.configure();
        town
    }

    fn chance(&mut self, of: u32) -> u32 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.seed >> 16) % of
    }

    fn configure(&mut self) {
        let zones = ZONES.iter().zip(self.guidelines).map(|(name, guideline)| Configured {
            name: (*name).into(),
            plan: format!("of {guideline}").into(),
            guideline,
            bounds: weir_config::Bounds::default(),
            terms: terms(name),
        });
        let turn = self.mind.configure(self.now, self.policy.clone(), vec!["webhook".to_owned()], zones);
        self.keep(turn);
    }

    fn restart(&mut self) {
        let building = Some(self.mind.building.encode());
        self.keep(Turn { batch: crate::ledger::Batch { building, ..Default::default() }, ..Turn::default() });
        self.store = None;
        let store = Store::open(&self.folder.path().join("ledger.db"), |_| Ok(())).unwrap().unsynced();
        self.mind = past::read(&store, self.policy.clone()).unwrap();
        self.store = Some(store);
        self.configure();
    }

    fn keep(&mut self, turn: Turn) {
        if turn.batch != crate::ledger::Batch::default() {
            self.store.as_mut().unwrap().commit(&turn.batch).unwrap();
        }
    }

    /// What a zone has, by its manner: always high, spikes, three and no more, a great day, high until day 16, high and unknown for hours.
    fn live(&self, zone: u32) -> Option<u64> {
        let since = self.now - START;
        let (day, hour) = (since.whole_days(), since.whole_hours() % 24);
        let base = 600 + 7 * (since.whole_hours() as u64 % 13);
        Some(match zone {
            0 => 1500 + base,
            1 if hour < 2 && day % 2 == 0 => 2000,
            2 if day < 5 && day % 2 == 0 && hour < 1 => 1200,
            3 if day == 9 && hour < 7 => 17_000,
            4 if day < 16 => 1450,
            5 if hour == 5 && day % 3 == 0 => return None,
            5 => 1700,
            _ => base,
        })
    }

    /// Every 15 s a look, every minute a tick; what is due leaves, and people do what they do.
    fn until(&mut self, day: i64) {
        while self.now < START + Duration::days(day) {
            self.now += Duration::seconds(15);
            let counts: Vec<_> = (0..6).filter_map(|id| Some((id, self.live(id)?, self.live(id)?))).collect();
            let turn = self.mind.look(self.now, counts);
            self.keep(turn);
            if self.now.second() != 0 {
                continue;
            }
            let turn = self.mind.tick(self.now);
            self.keep(turn);
            if self.now.minute() == 20 {
                self.send();
            }
            if self.now.minute() == 40 {
                self.deeds();
            }
        }
    }

    fn send(&mut self) {
        let store = self.store.as_mut().unwrap();
        for message in store.outbox_due(self.now, 100).unwrap() {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let failed = message.recipient == Recipient::Customer && self.seed >> 30 == 0;
            let why = || "550".to_owned();
            let outcome = match failed {
                true => Outcome::Failed { failure: Failure::Refused, why: why() },
                false => Outcome::Delivered,
            };
            store.outbox_outcome(message.id, self.now, &outcome).unwrap();
        }
        let unheard = store.outbox_unheard().unwrap();
        let turn = self.mind.hear(unheard);
        self.keep(turn);
    }

    /// One deed of chance in some hours; most are refused, and change nothing.
    fn deeds(&mut self) {
        if self.chance(3) != 0 {
            return;
        }
        let id = self.chance(6);
        let later = |days| Duration::days(days);
        let act = match self.chance(14) {
            0 | 1 => Act::Contact,
            2 => Act::Reply { answer: Answer::Plans },
            3 => Act::Note,
            4 => Act::Bounce { number: None },
            5 if self.chance(4) == 0 => Act::Exempt { until: self.now + later(2) },
            6 => Act::EndExemption,
            7 if self.chance(6) == 0 => Act::Resolve { how: Resolution::FalseAlarm },
            8 | 9 => Act::ScheduleLimit { cap: 1200, from: self.now + later(1) },
            10 | 11 => Act::Approve,
            12 => Act::Lift,
            13 => {
                let case = self.mind.zones[id as usize].dialogue.case().map(|case| case.id().clone());
                if let Some(case) = case
                    && let Ok(turn) = self.mind.answered(self.now, &case, Answer::Talk)
                {
                    self.keep(turn);
                }
                return;
            }
            _ => return self.restart(),
        };
        self.act(id, act);
    }

    /// Refused, it changes nothing.
    fn act(&mut self, id: u32, act: Act) {
        let (ann, reason) = (Person::new("ann").unwrap(), Reason::new("as agreed").unwrap());
        if let Ok(turn) = self.mind.act(id, self.now, ann, reason, act) {
            self.keep(turn);
        }
    }

    fn policy(&mut self, change: impl FnOnce(&mut weir_config::PolicyParams)) {
        let mut params = self.policy.params().clone();
        change(&mut params);
        self.policy = Policy::new(params).unwrap();
    }

    /// Its story.
    fn live_on(&mut self) {
        self.policy(|params| {
            params.contact.grace_days = 3;
            params.contact.case_gap_days = 2;
        });
        self.configure();
        self.act(4, Act::Exempt { until: START + Duration::days(3) });
        self.until(8);
        // Another plan, by a reload in the middle of a slot, and a death in the same one.
        self.now += Duration::seconds(15 * 10);
        let turn = self.mind.look(self.now, []);
        self.keep(turn);
        self.guidelines[5] = 1600;
        self.configure();
        self.restart();
        self.until(12);
        self.policy(|params| params.detection.sustained_hours = 20.0);
        self.configure();
        self.until(18);
        self.guidelines[0] = 5000;
        self.configure();
        self.until(19);
        self.guidelines[0] = 1000;
        // A shorter window, by a restart.
        self.policy(|params| params.detection.window_days = 16);
        self.restart();
        self.until(26);
    }
}

#[test]
fn the_ledgers_decisions_are_made_anew_from_its_inputs_byte_for_byte() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in [1, 3] {
        let mut town = Town::new(seed);
        town.live_on();
        let store = town.store.as_ref().unwrap();
        let mut kept: Vec<Entry> = Vec::new();
        store
            .each(|entry| {
                kept.push(entry);
                Ok(())
            })
            .unwrap();
        let made = super::replay::replay(store, terms).unwrap();
        let bytes = |draft: &Draft| {
            let mut head = Head::default();
            serde_json::to_string(&head.append(draft.clone()).unwrap()).unwrap()
        };
        let as_draft = |entry: &Entry| Draft {
            at: entry.at,
            zone: entry.zone.clone(),
            actor: entry.actor.clone(),
            reason: entry.reason.clone(),
            evidence: entry.evidence.clone(),
            policy: entry.policy.clone(),
            fact: entry.fact().unwrap(),
        };
        for (n, (made, kept)) in made.iter().zip(&kept).enumerate() {
            assert_eq!(bytes(made), bytes(&as_draft(kept)), "seed {seed}, entry {}", n + 1);
        }
        assert_eq!(made.len(), kept.len(), "seed {seed}");
        seen.extend(kept.iter().map(|entry| {
            let fact: serde_json::Value = serde_json::from_str(&entry.fact).unwrap();
            fact["fact"].as_str().unwrap().to_owned()
        }));
        let usage = |mind: &Mind| -> Vec<_> { mind.zones.iter().map(|known| mind.usage(known)).collect() };
        let before = usage(&town.mind);
        town.restart();
        assert_eq!(usage(&town.mind), before, "seed {seed}");
    }
    for fact in [
        "answered",
        "case_closed",
        "case_opened",
        "exempted",
        "exemption_ended",
        "flagged",
        "notice_delivered",
        "notice_queued",
        "spike_counted",
        "surging",
    ] {
        assert!(seen.contains(fact), "{fact} is in no story: {seen:?}");
    }
}
