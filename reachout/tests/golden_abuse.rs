//! Abuse and popularity: S16 and S17, and how a verdict lives.

mod support;

use support::{day, shell::ZONE};
use time::{Duration, OffsetDateTime};
use weir_reachout::{
    abuse::{Abuse, AbuseStep},
    actor::{Person, Reason},
    command::{About, Command},
    decision::Event,
    detector::Detector,
    ledger::{Entry, Head},
    limit::Effect,
    policy::Policy,
    signal::{Family, Observation, PrefixCount, Share, Signals},
    slot::{Slot, SlotBuilder, SlotIndex},
    surge::Surge,
    verdict::{Ended, Measure, Verdict},
};

/// An hour and a half of quiet time comes before every story.
const START: (i64, &str) = (10, "12:00");
const QUIET: Duration = Duration::minutes(90);

/// A zone as the agent sees it: an observation each 10 s, a slot each 5 minutes.
#[derive(Clone)]
struct Watched {
    policy: Policy,
    signals: Signals,
    abuse: Abuse,
    detector: Detector,
    surge: Surge,
    slot: SlotBuilder,
    now: OffsetDateTime,
    entries: Vec<Entry>,
    head: Head,
    commands: Vec<(OffsetDateTime, Command)>,
    decisions: Vec<Event>,
    told_surge: Vec<OffsetDateTime>,
}

impl Watched {
    fn new() -> Self {
        let now = day(START.0, START.1) - QUIET;
        let mut watched = Self {
            policy: Policy::default(),
            signals: Signals::default(),
            abuse: Abuse::new(ZONE),
            detector: Detector::default(),
            surge: Surge::default(),
            slot: SlotBuilder::new(SlotIndex::containing(now)),
            now,
            entries: Vec::new(),
            head: Head::default(),
            commands: Vec::new(),
            decisions: Vec::new(),
            told_surge: Vec::new(),
        };
        watched.run(QUIET, quiet);
        watched
    }

    /// Goes on for `length`; `shape` tells what is seen, by the seconds since the story began.
    fn run(&mut self, length: Duration, shape: impl Fn(f64, OffsetDateTime) -> Observation) {
        let (start, end) = (self.now, self.now + length);
        while self.now < end {
            self.now += Duration::seconds(10);
            let mut seen = shape((self.now - start).as_seconds_f64(), self.now);
            seen.is_refused =
                self.abuse.verdict().is_some_and(|verdict| *verdict.measure() != Measure::Observe);
            self.slot.hold(10_000, seen.live as f64, 1.0);
            let findings = self.signals.observe(&self.policy.params().abuse, &seen);
            let step = self.abuse.decide(&self.policy, self.now, &findings).expect("decides");
            self.take(step);
            if self.now == self.slot.index().end() {
                let next = SlotBuilder::new(self.slot.index().next());
                let slot = std::mem::replace(&mut self.slot, next).finish();
                self.judge(&slot);
            }
        }
    }

    fn take(&mut self, step: AbuseStep) {
        for draft in step.entries {
            self.entries.push(self.head.append(draft).expect("writable"));
        }
        for command in step.commands {
            if let Command::LeaveOut { from, to } = command {
                let slots = (0..=to.since(from)).map(|n| from.forth(n));
                self.detector.exclude(&self.policy, slots);
            }
            self.commands.push((self.now, command));
        }
        self.abuse = step.next;
    }

    fn judge(&mut self, slot: &Slot) {
        let covered = self.abuse.covers(slot.index);
        let judgement =
            if covered { weir_reachout::slot::Judgement::Unknown } else { slot.judge(&self.policy, 1000) };
        let decisions = self.detector.observe(&self.policy, slot.index, judgement);
        self.decisions.extend(decisions.iter().map(|decision| decision.event));
        if !covered && self.surge.observe(&self.policy, slot, 1000) {
            self.told_surge.push(self.now);
        }
    }

    fn when(&self, wanted: impl Fn(&Command) -> bool) -> Vec<OffsetDateTime> {
        self.commands.iter().filter(|(_, command)| wanted(command)).map(|(at, _)| *at).collect()
    }

    fn told(&self, about: impl Fn(&About) -> bool) -> Vec<OffsetDateTime> {
        self.when(|command| matches!(command, Command::TellOperators { about: said, .. } if about(said)))
    }

    fn replayed(&self) -> Abuse {
        Abuse::replay(ZONE, &self.entries, |_| Some(&self.policy)).expect("a ledger that can have happened")
    }
}

fn spread_over(live: u64, prefixes: u64) -> Vec<PrefixCount> {
    (0..prefixes.min(20))
        .map(|n| PrefixCount { prefix: format!("198.51.{n}.0/24"), live: live / prefixes })
        .collect()
}

fn quiet(_: f64, at: OffsetDateTime) -> Observation {
    Observation {
        at,
        live: 600,
        look: at.unix_timestamp().unsigned_abs(),
        prefixes: spread_over(600, 100),
        sourced: 600,
        silent: Share::new(60, 600),
        lifetime_spread: Some(1.2),
        unanswered: Share::new(2, 100),
        requestless: Share::new(6, 600),
        harm: false,
        is_refused: false,
    }
}

/// x30 in 60 s from 3 prefixes, no bytes, 70 % failed upgrades.
fn attack(seconds: f64, at: OffsetDateTime) -> Observation {
    let extra = (600.0 * 29.0 * (seconds / 60.0).min(1.0)) as u64;
    let mut prefixes: Vec<_> =
        (1..=3).map(|n| PrefixCount { prefix: format!("203.0.{n}.0/24"), live: extra / 3 }).collect();
    prefixes.extend(spread_over(600, 100));
    Observation {
        live: 600 + extra,
        prefixes,
        sourced: 600 + extra,
        silent: Share::new(extra, extra + 600),
        unanswered: Share::new(700, 1000),
        requestless: Share::new(60, 600),
        ..quiet(seconds, at)
    }
}

/// x30 in 10 min, many prefixes, two-way bytes.
fn popular(seconds: f64, at: OffsetDateTime) -> Observation {
    let live = (600.0 * 30f64.powf((seconds / 600.0).min(1.0))) as u64;
    Observation { live, prefixes: spread_over(live, 3000), sourced: live, ..quiet(seconds, at) }
}

#[test]
fn s16_an_attack_is_suspected_within_two_minutes_and_its_prefixes_are_refused() {
    let mut zone = Watched::new();
    let start = zone.now;
    zone.run(Duration::minutes(60), attack);
    let suspected = zone.told(|about| matches!(about, About::Suspected { .. }));
    let mitigating = zone.told(|about| matches!(about, About::Mitigating { .. }));
    assert!(suspected.len() == 1 && suspected[0] - start <= Duration::minutes(2), "{suspected:?}");
    assert!(mitigating.len() == 1 && mitigating[0] - start <= Duration::minutes(2), "{mitigating:?}");
    let verdict = zone.abuse.verdict().expect("a verdict");
    let Measure::RefusePrefixes { prefixes } = verdict.measure() else { panic!("{verdict:?}") };
    assert_eq!(prefixes, &["203.0.1.0/24", "203.0.2.0/24", "203.0.3.0/24"]);
    assert!(verdict.evidence().families.len() >= 3);
    for (at, command) in &zone.commands {
        if let Command::GrantLease(lease) = command {
            assert!(lease.until() - *at <= Duration::minutes(15));
            assert_eq!(lease.effect(), &Effect::RefusePrefixes { prefixes: prefixes.clone() });
        }
    }
    assert_eq!(zone.replayed(), zone.abuse);

    zone.run(Duration::minutes(16), quiet);
    assert_eq!(zone.abuse.verdict(), None, "it expires after the end");
    assert_eq!(zone.when(|command| matches!(command, Command::EndVerdict { .. })).len(), 1);
    assert_eq!(zone.decisions, [], "no spike, no case");
    assert_eq!(zone.detector.usage(&zone.policy).over_hours, 0.0);
    assert_eq!(zone.replayed(), zone.abuse);
}

#[test]
fn s17_popularity_is_one_spike_told_after_an_hour_and_no_verdict() {
    let mut zone = Watched::new();
    let start = zone.now;
    zone.run(Duration::hours(3), popular);
    zone.run(Duration::hours(3), quiet);
    assert_eq!((zone.abuse.verdict(), zone.entries.len()), (None, 0));
    assert_eq!(zone.decisions, [Event::SpikeCounted]);
    let [told] = zone.told_surge[..] else { panic!("told once: {:?}", zone.told_surge) };
    assert!((Duration::minutes(60)..=Duration::minutes(75)).contains(&(told - start)), "{}", told - start);
}

#[test]
fn being_far_above_the_guideline_is_no_evidence() {
    let mut zone = Watched::new();
    let crowd = |_: f64, at| Observation {
        live: 1_000_000,
        prefixes: spread_over(1_000_000, 3000),
        sourced: 1_000_000,
        ..quiet(0.0, at)
    };
    zone.run(Duration::hours(2), crowd);
    assert_eq!(zone.abuse.verdict(), None, "a jump alone is one family of four");
}

#[test]
fn two_families_are_observed_and_refused_only_with_harm_to_the_host() {
    let two = |harm| {
        move |s, at| Observation {
            unanswered: Share::new(0, 100),
            silent: Share::new(0, 600),
            harm,
            ..attack(s, at)
        }
    };
    let mut zone = Watched::new();
    zone.run(Duration::minutes(30), two(false));
    let verdict = zone.abuse.verdict().expect("suspected");
    assert_eq!(verdict.measure(), &Measure::Observe);
    assert!(verdict.lease(zone.now).is_err());
    let families: Vec<_> = verdict.evidence().families.iter().map(|finding| finding.family).collect();
    assert_eq!(families, [Family::Source, Family::Shape]);
    assert!(zone.when(|command| matches!(command, Command::GrantLease(_))).is_empty());
    zone.run(Duration::minutes(1), |s, at| two(true)(s + 1800.0, at));
    assert!(matches!(zone.abuse.verdict().expect("still").measure(), Measure::RefusePrefixes { .. }));
}

#[test]
fn without_a_person_a_mitigation_ends_after_24_hours_and_with_one_it_goes_on() {
    let mut alone = Watched::new();
    alone.run(Duration::hours(30), attack);
    let granted = alone.when(|command| matches!(command, Command::GrantLease(_)));
    assert!(granted[granted.len() - 1] - granted[0] < Duration::hours(24));
    assert!(granted.len() < 24 * 60 / 7, "renewed each 7 minutes at most, and not each 10 s at the end");
    assert_eq!(alone.told(|about| matches!(about, About::Unattended { .. })).len(), 1);
    let verdict = alone.abuse.verdict().expect("still a suspicion");
    assert_eq!(verdict.measure(), &Measure::Observe, "for as long as it lasts");
    assert_eq!(alone.replayed(), alone.abuse);

    let mut attended = Watched::new();
    attended.run(Duration::hours(1), attack);
    let (by, why) = (Person::new("ann").expect("named"), Reason::new("seen it").expect("given"));
    let step = attended.abuse.attend(&attended.policy, attended.now, by, why).expect("attends");
    attended.take(step);
    attended.run(Duration::hours(30), |s, at| attack(s + 3600.0, at));
    assert!(attended.abuse.verdict().expect("goes on").lease(attended.now).is_ok());
}

#[test]
fn a_person_ends_a_verdict_and_it_does_not_come_back_by_itself() {
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    let (by, why) = (Person::new("ann").expect("named"), Reason::new("load test, announced").expect("given"));
    let step = zone.abuse.end(&zone.policy, zone.now, by, why).expect("ends");
    assert!(matches!(step.commands[..], [Command::EndVerdict { .. }]));
    zone.take(step);
    zone.run(Duration::hours(2), |s, at| attack(s + 600.0, at));
    assert_eq!(zone.abuse.verdict(), None);
}

#[test]
fn our_own_restart_is_no_jump() {
    let mut zone = Watched::new();
    let params = zone.policy.params().abuse.clone();
    zone.signals.restarted(&params, zone.now);
    // Everybody is lost and comes back within a minute.
    let back = |s: f64, at| Observation { live: (600.0 * (s / 60.0).min(1.0)) as u64, ..quiet(s, at) };
    let start = zone.now;
    for n in 1..60 {
        let at = start + Duration::seconds(10 * n);
        assert_eq!(zone.signals.observe(&params, &back(10.0 * n as f64, at)).families, []);
    }
}

#[test]
fn a_verdict_without_its_evidence_cannot_be_read() {
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    let mut json = serde_json::to_value(zone.abuse.verdict().expect("a verdict")).expect("writes");
    assert!(serde_json::from_value::<Verdict>(json.clone()).is_ok());
    json["evidence"]["families"] = serde_json::json!([]);
    assert!(serde_json::from_value::<Verdict>(json).is_err());
}

#[test]
fn an_expired_verdict_gives_no_lease() {
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    let verdict = zone.abuse.verdict().expect("a verdict");
    assert!(verdict.lease(verdict.until() - Duration::SECOND).is_ok());
    assert!(verdict.lease(verdict.until()).is_err());
}

/// Clients that were lost for half an hour and come back within a minute, as after an outage of their own.
#[test]
fn a_crowd_that_comes_back_is_no_jump() {
    let mut zone = Watched::new();
    let gone = |_: f64, at| Observation {
        live: 0,
        prefixes: Vec::new(),
        sourced: 0,
        silent: Share::default(),
        unanswered: Share::default(),
        requestless: Share::default(),
        lifetime_spread: None,
        ..quiet(0.0, at)
    };
    zone.run(Duration::minutes(30), gone);
    // They wait for what the server says: none has carried a byte yet.
    let back = |s: f64, at| {
        let live = (600.0 * (s / 60.0).min(1.0)) as u64;
        Observation {
            live,
            prefixes: spread_over(live, 100),
            silent: Share::new(live, live),
            sourced: live,
            ..quiet(s, at)
        }
    };
    zone.run(Duration::minutes(5), back);
    assert_eq!((zone.abuse.verdict(), zone.entries.len()), (None, 0));
}

#[test]
fn what_nobody_has_looked_at_is_no_sign_and_no_baseline() {
    let mut zone = Watched::new();
    let blind = |s: f64, at| Observation {
        prefixes: Vec::new(),
        sourced: 0,
        silent: Share::default(),
        unanswered: Share::default(),
        requestless: Share::default(),
        lifetime_spread: None,
        ..attack(s, at)
    };
    zone.run(Duration::minutes(30), blind);
    assert_eq!(zone.abuse.verdict(), None, "a jump alone is one family");
    // Baselines are what they were: had the blind hours been learned as 0, an ordinary evening would be twice as much.
    let kept = Signals::decode(&zone.signals.encode().expect("learned")).expect("its own bytes");
    let mut seen = Signals::default();
    let params = zone.policy.params().abuse.clone();
    let start = day(START.0, START.1) - QUIET;
    (1..=QUIET.whole_seconds() / 10).for_each(|n| {
        let at = start + Duration::seconds(10 * n);
        seen.observe(&params, &quiet(0.0, at));
    });
    // Of the numbers only the count of sockets was known.
    let shares = |signals: &Signals| signals.encode().map(|bytes| bytes[..1 + 5 * 8].to_vec());
    assert_eq!(shares(&kept), shares(&seen));
}

#[test]
fn lifetimes_that_are_all_alike_are_behaviour_where_they_were_not() {
    let mut zone = Watched::new();
    let alike = |s: f64, at| Observation { lifetime_spread: Some(0.02), ..quiet(s, at) };
    zone.run(Duration::minutes(2), alike);
    let params = zone.policy.params().abuse.clone();
    let at = zone.now + Duration::seconds(10);
    let findings = zone.signals.observe(&params, &alike(0.0, at));
    let families: Vec<_> = findings.families.iter().map(|finding| finding.family).collect();
    assert_eq!(families, [Family::Behaviour]);
    assert_eq!(zone.abuse.verdict(), None, "one family is nothing");
    // A zone whose lifetimes are always alike, as a poller's, is what it is.
    let mut poller = Signals::default();
    let always = |at| Observation { lifetime_spread: Some(0.02), ..quiet(0.0, at) };
    for n in 0..600 {
        assert_eq!(poller.observe(&params, &always(at + Duration::seconds(10 * n))).families, []);
    }
}

#[test]
fn a_few_sockets_are_no_sign() {
    let mut zone = Watched::new();
    let few = |s: f64, at| Observation {
        silent: Share::new(19, 19),
        unanswered: Share::new(19, 19),
        sourced: 19,
        prefixes: vec![PrefixCount { prefix: "203.0.113.0/24".to_owned(), live: 19 }],
        ..quiet(s, at)
    };
    zone.run(Duration::minutes(10), few);
    assert!(!zone.signals.is_restless(zone.now));
    assert_eq!(zone.abuse.verdict(), None);
}

#[test]
fn bytes_of_something_else_are_no_baselines() {
    let zone = Watched::new();
    let bytes = zone.signals.encode().expect("learned");
    assert_eq!(Signals::default().encode(), None);
    for broken in [&bytes[1..], &bytes[..bytes.len() - 1], &[], &[2]] {
        assert_eq!(Signals::decode(broken), None);
    }
    let mut infinite = bytes;
    infinite[1..5].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_eq!(Signals::decode(&infinite), None);
}

/// Nine in ten of the sockets say nothing: one sign.
fn mute(seconds: f64, at: OffsetDateTime) -> Observation {
    Observation { silent: Share::new(540, 600), ..quiet(seconds, at) }
}

#[test]
fn a_suspicion_reaches_back_to_its_second_sign_and_not_for_days() {
    let mut zone = Watched::new();
    zone.run(Duration::hours(6), mute);
    let began = zone.now;
    let both = |s: f64, at| Observation { unanswered: Share::new(80, 100), ..mute(s, at) };
    zone.run(Duration::minutes(2), both);
    let verdict = zone.abuse.verdict().expect("two signs");
    assert!(verdict.since() > began, "not since {}", verdict.since());
    let left_out = |command: &Command| match command {
        Command::LeaveOut { from, .. } => from.start() < began - Duration::minutes(5),
        _ => false,
    };
    assert!(zone.when(left_out).is_empty(), "six hours of one sign are the customer's usage");

    // A person has ended it; a day later both signs still hold. What they cover begins half an hour before.
    let (by, why) = (Person::new("ann").expect("named"), Reason::new("it is none").expect("given"));
    let step = zone.abuse.end(&zone.policy, zone.now, by, why).expect("ends");
    zone.take(step);
    zone.run(Duration::hours(24) + Duration::minutes(1), both);
    let verdict = zone.abuse.verdict().expect("again");
    assert!(zone.now - verdict.since() <= Duration::minutes(32), "{}", verdict.since());
    assert_eq!(zone.replayed(), zone.abuse);
}

#[test]
fn who_attends_a_suspicion_does_not_attend_the_measures_that_follow_it() {
    let two = |s: f64, at| Observation {
        silent: Share::new(0, 600),
        unanswered: Share::new(0, 100),
        ..attack(s, at)
    };
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), two);
    let (by, why) = (Person::new("ann").expect("named"), Reason::new("seen it").expect("given"));
    let step = zone.abuse.attend(&zone.policy, zone.now, by, why).expect("attends");
    zone.take(step);
    zone.run(Duration::minutes(10), |s, at| attack(s + 600.0, at));
    let verdict = zone.abuse.verdict().expect("refuses");
    assert!(matches!(verdict.measure(), Measure::RefusePrefixes { .. }));
    assert_eq!(verdict.attended_by(), None);
    zone.run(Duration::hours(25), |s, at| attack(s + 1200.0, at));
    assert_eq!(zone.told(|about| matches!(about, About::Unattended { .. })).len(), 1);
    assert_eq!(zone.replayed(), zone.abuse);
}

#[test]
fn after_a_day_alone_it_observes_until_a_person_acts_or_an_hour_of_quiet() {
    let refuses =
        |zone: &Watched| zone.abuse.verdict().is_some_and(|verdict| *verdict.measure() != Measure::Observe);
    let mut zone = Watched::new();
    zone.run(Duration::hours(25), attack);
    assert!(zone.abuse.verdict().is_some() && !refuses(&zone));
    let mut attended = zone.clone();
    zone.run(Duration::hours(30), |s, at| attack(s + 90_000.0, at));
    assert!(zone.abuse.verdict().is_some() && !refuses(&zone), "not a day off and a day on");
    zone.run(Duration::minutes(40), quiet);
    assert_eq!(zone.abuse.verdict(), None);
    zone.run(Duration::minutes(2), attack);
    assert!(zone.abuse.verdict().is_some() && !refuses(&zone), "a pause is no end");
    zone.run(Duration::minutes(80), quiet);
    zone.run(Duration::minutes(2), attack);
    assert!(refuses(&zone), "another attack");
    assert_eq!(zone.replayed(), zone.abuse);

    let (by, why) = (Person::new("ann").expect("named"), Reason::new("a botnet").expect("given"));
    let step = attended.abuse.attend(&attended.policy, attended.now, by, why).expect("attends");
    attended.take(step);
    attended.run(Duration::minutes(1), |s, at| attack(s + 90_000.0, at));
    assert!(refuses(&attended), "a person has seen it");
    assert_eq!(attended.replayed(), attended.abuse);
}

#[test]
fn what_ended_while_nobody_was_there_has_expired() {
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    zone.now += Duration::hours(30);
    let step = zone.abuse.decide(&zone.policy, zone.now, &Default::default()).expect("decides");
    zone.take(step);
    assert_eq!(zone.abuse.verdict(), None);
    assert!(zone.told(|about| matches!(about, About::Unattended { .. })).is_empty());
    let last = zone.entries.last().expect("an entry").fact().expect("readable");
    assert!(matches!(last, weir_reachout::fact::Fact::VerdictEnded { ended: Ended::Expired, .. }));
}

#[test]
fn a_refusal_ends_when_who_is_refused_is_gone_whatever_else_is_strange() {
    // The networks have left; half of the upgrades are declined still, and who is left is silent.
    let gone = |s: f64, at| Observation {
        silent: Share::new(540, 600),
        unanswered: Share::new(80, 100),
        ..quiet(s, at)
    };
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    zone.run(Duration::minutes(16), gone);
    assert_eq!(zone.abuse.verdict().expect("two signs").measure(), &Measure::Observe);

    // Others take their place: they are refused then, and the first no more.
    let mut zone = Watched::new();
    zone.run(Duration::minutes(10), attack);
    let others = |s: f64, at| {
        let mut seen = attack(s + 600.0, at);
        for prefix in &mut seen.prefixes {
            prefix.prefix = prefix.prefix.replace("203.0.", "192.0.");
        }
        seen
    };
    zone.run(Duration::minutes(10), others);
    let Measure::RefusePrefixes { prefixes } = zone.abuse.verdict().expect("goes on").measure() else {
        panic!("{:?}", zone.abuse)
    };
    assert_eq!(prefixes, &["192.0.1.0/24", "192.0.2.0/24", "192.0.3.0/24"]);
    assert_eq!(zone.replayed(), zone.abuse);
}

#[test]
fn an_attack_on_a_few_sockets_is_not_learned() {
    let small = |of: u64| {
        move |s: f64, at| Observation {
            live: of,
            prefixes: spread_over(of, 30),
            sourced: of,
            silent: Share::new(of / 10, of),
            requestless: Share::new(0, of),
            ..quiet(s, at)
        }
    };
    let mut zone = Watched::new();
    zone.signals = Signals::default();
    zone.run(Duration::hours(2), small(60));
    zone.run(Duration::hours(23), |s, at| Observation {
        silent: Share::new(80, 90),
        prefixes: vec![PrefixCount { prefix: "203.0.113.0/24".to_owned(), live: 80 }],
        unanswered: Share::new(90, 100),
        ..small(90)(s, at)
    });
    assert_eq!(zone.abuse.verdict(), None, "too few to be accused");
    zone.run(Duration::minutes(2), attack);
    let verdict = zone.abuse.verdict().expect("what was learned is from before");
    assert!(matches!(verdict.measure(), Measure::RefusePrefixes { .. }), "{verdict:?}");
}

#[test]
fn what_is_strange_for_a_week_becomes_normal_and_what_is_refused_does_not() {
    // All users come by one network from now on, and their clients send no heartbeats.
    let moved = |s: f64, at| Observation {
        prefixes: vec![PrefixCount { prefix: "203.0.113.0/24".to_owned(), live: 600 }],
        ..mute(s, at)
    };
    let mut zone = Watched::new();
    zone.run(Duration::hours(24), moved);
    assert_eq!(zone.abuse.verdict().expect("two signs").measure(), &Measure::Observe);
    zone.run(Duration::days(7), moved);
    assert_eq!(zone.abuse.verdict(), None, "it is how the zone is");
    let params = zone.policy.params().abuse.clone();
    let mut refused = Watched::new();
    for n in 0..6 * 60 * 24 * 8 {
        let at = refused.now + Duration::seconds(10 * n);
        let seen = Observation { is_refused: true, ..moved(0.0, at) };
        let findings = refused.signals.observe(&params, &seen);
        assert!(n < 4 || findings.families.len() == 2, "{n}");
    }
}

#[test]
fn one_look_does_not_confirm_itself() {
    let params = Policy::default().params().abuse.clone();
    let mut zone = Watched::new();
    let begin = zone.now;
    let seen =
        |seconds: i64, look: u64| Observation { look, ..mute(0.0, begin + Duration::seconds(seconds)) };
    for n in 1..18 {
        assert_eq!(zone.signals.observe(&params, &seen(10 * n, 1)).families, [], "{n}");
    }
    let findings = zone.signals.observe(&params, &seen(180, 2));
    assert_eq!(findings.families.len(), 1, "a second look, a minute or more later");
}

#[test]
fn a_sign_that_has_held_for_long_is_in_no_hurry() {
    let mut zone = Watched::new();
    zone.run(Duration::minutes(5), mute);
    assert!(zone.signals.is_restless(zone.now));
    zone.run(Duration::minutes(30), mute);
    assert!(!zone.signals.is_restless(zone.now));
}
