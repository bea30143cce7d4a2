//! From counts to the ledger and back: restarts between any two slots, full disks, and nobody limited by accident.

use std::path::PathBuf;

use tempfile::TempDir;
use time::{Duration, OffsetDateTime, macros::datetime};
use weir_reachout::{
    actor::{Actor, Person, Reason},
    contact::Failure,
    decision::Event,
    fact::{Answer, Fact},
    ledger::{Draft, Entry, Head},
    outbox::{Outcome, Recipient, Subject},
    policy::Policy,
    refusal::Refused,
    zone::{Act, Terms},
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
        let store = Store::open(&path, |_| Ok(())).unwrap();
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
        let store = Store::open(&self.path, |_| Ok(())).unwrap();
        self.mind = past::read(&store, Policy::default()).unwrap();
        self.store = Some(store);
        self.configure();
    }

    fn keep(&mut self, turn: Turn) {
        self.store.as_mut().unwrap().commit(&turn.batch).unwrap();
        self.effects.extend(turn.effects);
    }

    /// Looks each 10 s until then, at so many live WebSockets; sends and delivers nothing.
    pub fn live(&mut self, until: OffsetDateTime, live: u64) {
        let id = self.mind.id_of(ZONE).unwrap();
        while self.now < until {
            self.now += Duration::seconds(10);
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
            let next = restarted.now + Duration::seconds(i64::from(seed >> 16) % 9000 / 10 * 10 + 10);
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

#[test]
fn the_policys_entries_are_made_anew_from_the_stored_slots_byte_for_byte() {
    let mut bench = with_case();
    bench.send(&Outcome::Delivered);
    bench.live(day(4), 1500);
    bench.live(day(20), 600);
    let decided = |fact: &Fact| {
        matches!(
            fact,
            Fact::SpikeCounted
                | Fact::Flagged
                | Fact::Unflagged
                | Fact::CaseOpened { .. }
                | Fact::Closable { .. }
        )
    };
    let entries = bench.entries();
    let kept: Vec<&Entry> = entries.iter().filter(|entry| decided(&entry.fact().unwrap())).collect();
    assert_eq!(kept.len(), 3);
    let made = super::replay::decisions(bench.store.as_ref().unwrap(), &bench.mind, ZONE).unwrap();
    let bytes = |draft: &Draft| {
        let mut head = Head::default();
        serde_json::to_string(&head.append(draft.clone()).unwrap()).unwrap()
    };
    let as_draft = |entry: &&Entry| Draft {
        at: entry.at,
        zone: entry.zone.clone(),
        actor: Actor::Policy,
        reason: entry.reason.clone(),
        evidence: entry.evidence.clone(),
        policy: entry.policy.clone(),
        fact: entry.fact().unwrap(),
    };
    let made: Vec<String> = made.iter().filter(|draft| decided(&draft.fact)).map(bytes).collect();
    assert_eq!(made, kept.iter().map(as_draft).map(|draft| bytes(&draft)).collect::<Vec<_>>());
    assert!(bench.mind.decisions_total.contains_key(&Event::CaseOpened));
}
