//! The policy's invariants under random histories: inputs in any order, clock jumps both ways, reports twice and late, and
//! crashes between any two steps. What must hold is read off the ledger and the commands, not asked of the code under test.

mod support;

use proptest::prelude::*;
use support::{
    day,
    shell::{Shell, Store, ZONE},
};
use time::{Duration, OffsetDateTime};
use weir_reachout::{
    actor::{Actor, Person, Reason},
    case::CaseId,
    command::Command,
    contact::{Failure, NoticeKey, NoticeKind},
    decision::{Decision, Event, Rule},
    fact::{Answer, Fact},
    ledger::{self, Broken, Entry, Head},
    limit::{Effect, Ground, Lease},
    params::PolicyParams,
    policy::Policy,
    slot::{Judgement, Slot, SlotIndex},
    zone::{Act, Input, Resolution, Terms, Zone},
};

/// One thing that happens, told without knowing what is possible at the time.
#[derive(Clone, Debug)]
enum Happens {
    Decided(Event),
    Act(fn(OffsetDateTime) -> Act),
    Delivered(usize),
    Failed(usize),
    Answered,
    Guideline(u64, u64),
    /// One of [`policies`] judges from now on.
    Policy(usize),
    Tick,
}

/// Policies that an operator may have had, one after the other.
fn policies() -> Vec<Policy> {
    let changes: [fn(&mut PolicyParams); 4] = [
        |_| {},
        |params| (params.contact.grace_days, params.contact.per_case) = (5, 2),
        |params| (params.contact.zone_gap_hours, params.contact.case_gap_days) = (24, 2),
        |params| params.contact.grace_days = 25,
    ];
    let changed = |change: fn(&mut PolicyParams)| {
        let mut params = PolicyParams::default();
        change(&mut params);
        Policy::new(params).expect("valid")
    };
    changes.map(changed).into()
}

fn happens() -> impl Strategy<Value = Happens> {
    let event = prop_oneof![
        1 => Just(Event::SpikeCounted),
        1 => Just(Event::Flagged),
        4 => Just(Event::CaseOpened),
        1 => Just(Event::Closable),
        1 => Just(Event::Unflagged)
    ];
    let act = prop::sample::select(vec![
        (|_| Act::Contact) as fn(OffsetDateTime) -> Act,
        |_| Act::Contact,
        |_| Act::Reply { answer: Answer::Talk },
        |_| Act::Note,
        |_| Act::Bounce { number: None },
        |_| Act::Bounce { number: Some(1) },
        |now| Act::Exempt { until: now + Duration::days(3) },
        |_| Act::EndExemption,
        |_| Act::Resolve { how: Resolution::FalseAlarm },
        |now| Act::ScheduleLimit { cap: 1000, from: now },
        |now| Act::ScheduleLimit { cap: 900, from: now + Duration::days(14) },
        |_| Act::Approve,
        |_| Act::Approve,
        |_| Act::Lift,
    ]);
    prop_oneof![
        3 => event.prop_map(Happens::Decided),
        6 => act.prop_map(Happens::Act),
        4 => (0usize..4).prop_map(Happens::Delivered),
        1 => (0usize..4).prop_map(Happens::Failed),
        1 => Just(Happens::Answered),
        1 => (500u64..1500, 500u64..1500).prop_map(|(was, is)| Happens::Guideline(was, is)),
        1 => (0usize..4).prop_map(Happens::Policy),
        6 => Just(Happens::Tick),
    ]
}

/// Mostly forwards, by minutes or weeks; now and then the clock goes back.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..600, 4 => 600i64..40_000, 1 => -20_000i64..0]
}

fn input(shell: &Shell, now: OffsetDateTime, happens: &Happens) -> Option<Input> {
    let case = shell.zone.case().map(|case| case.id().clone());
    // Any row that ever was, also of cases long closed.
    let row = |n: &usize| shell.store.outbox.keys().rev().nth(*n).cloned();
    Some(match happens {
        Happens::Decided(event) => {
            let rule = (*event == Event::CaseOpened).then_some(Rule::R1);
            let decision =
                Decision { at: now, event: *event, rule, over_hours: 1.0, counted_spikes: 4, coverage: 1.0 };
            Input::Decided { decision, evidence: "{}".to_owned() }
        }
        Happens::Act(act) => {
            let (by, reason) = (Person::new("ann").ok()?, Reason::new("because").ok()?);
            Input::Act { by, reason, act: act(now) }
        }
        Happens::Delivered(n) => Input::Delivered { notice: row(n)? },
        Happens::Failed(n) => Input::NotDelivered { notice: row(n)?, failure: Failure::Bounced },
        Happens::Answered => Input::Answered { case: case?, answer: Answer::Talk },
        Happens::Guideline(was, is) => Input::Guideline { was: *was, is: *is },
        // Whoever judges by another one says so; by itself it brings nothing about.
        Happens::Policy(_) | Happens::Tick => Input::Tick,
    })
}

/// Invariant 1, from the ledger's words alone.
fn may_limit(policy: &Policy, entries: &[Entry], case: &CaseId, now: OffsetDateTime) -> Result<(), String> {
    let (mut contacts, mut approved, mut exempt_until, mut closed) = (Vec::new(), None, None, false);
    for entry in entries {
        match entry.fact().expect("readable") {
            Fact::NoticeDelivered { notice } if notice.case == *case => {
                contacts.push((notice.number, entry.at))
            }
            Fact::NoticeFailed { notice, .. } if notice.case == *case => {
                contacts.retain(|(n, _)| *n != notice.number)
            }
            Fact::LimitScheduled { case: of, .. } | Fact::LimitLifted { case: of } if of == *case => {
                approved = None
            }
            Fact::LimitApproved { case: of, .. } if of == *case => {
                approved = matches!(entry.actor, Actor::Person(_)).then_some(entry.at);
            }
            Fact::Exempted { until } => exempt_until = Some(until),
            Fact::ExemptionEnded => exempt_until = None,
            Fact::CaseClosed { case: of, .. } if of == *case => closed = true,
            _ => {}
        }
    }
    let grace = Duration::days(policy.params().contact.grace_days.into());
    if !contacts.iter().any(|(_, at)| *at + grace <= now) {
        return Err(format!("no contact 14 days before {now}: {contacts:?}"));
    }
    if approved.is_none() {
        return Err("nobody approved".to_owned());
    }
    if closed || exempt_until.is_some_and(|until| now < until) {
        return Err("closed or exempt".to_owned());
    }
    Ok(())
}

fn check_lease(shell: &Shell, now: OffsetDateTime, lease: &Lease) -> Result<(), TestCaseError> {
    let Ground::Case { case } = lease.ground() else {
        return Err(TestCaseError::fail("no verdict was given"));
    };
    prop_assert_eq!(may_limit(&shell.policy, &shell.store.entries, case, now), Ok(()));
    prop_assert_eq!(lease.until() - lease.from(), Duration::minutes(5));
    prop_assert!(matches!(lease.effect(), Effect::RefuseUpgradesAbove { .. }), "new upgrades only");
    Ok(())
}

/// Invariants 5, 9, 10 and 12.
fn check_ledger(store: &Store) -> Result<(), TestCaseError> {
    let policies = policies();
    let (mut open, mut queued): (Option<CaseId>, Vec<(OffsetDateTime, NoticeKey, &Policy)>) =
        (None, Vec::new());
    for entry in &store.entries {
        match entry.fact().expect("readable") {
            Fact::CaseOpened { case, .. } => prop_assert_eq!(open.replace(case), None, "a second open case"),
            Fact::CaseClosed { case, .. } => prop_assert_eq!(open.take(), Some(case)),
            Fact::NoticeQueued { notice } => {
                let policy = policies.iter().find(|policy| *policy.version() == entry.policy);
                queued.push((entry.at, notice, policy.expect("a policy")));
            }
            _ => {}
        }
    }
    // The spacing is that of the policy that the later one was queued under.
    for pair in queued.windows(2) {
        let contact = &pair[1].2.params().contact;
        let zone_gap = Duration::hours(contact.zone_gap_hours.into());
        prop_assert!(pair[1].0 - pair[0].0 >= zone_gap, "{:?}", pair);
        if pair[0].1.case == pair[1].1.case {
            prop_assert!(pair[1].0 - pair[0].0 >= Duration::days(contact.case_gap_days.into()), "{:?}", pair);
        }
    }
    for (place, (_, key, policy)) in queued.iter().enumerate() {
        let until_then = queued[..=place].iter().filter(|(_, other, _)| other.case == key.case).count();
        prop_assert!(until_then <= policy.params().contact.per_case.into());
    }
    let mut mails: Vec<_> = store.mails.clone();
    mails.sort();
    let rows: Vec<_> = store.outbox.keys().cloned().collect();
    prop_assert_eq!(mails, rows, "each row leaves once");
    prop_assert_eq!(ledger::verify(&store.entries, Some(store.head)), Ok(store.head));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nobody_is_limited_without_contact_grace_approval_and_nobody_is_written_to_too_often(
        story in prop::collection::vec((pause(), happens()), 1..120),
        automatic in any::<bool>(),
    ) {
        let mut shell = Shell::new(automatic);
        let mut now = day(0, "00:00");
        for (minutes, happens) in &story {
            now += Duration::minutes(*minutes);
            if let Happens::Policy(n) = happens {
                shell.policy = policies()[*n].clone();
            }
            let Some(input) = input(&shell, now, happens) else { continue };
            let before = shell.zone.clone();
            match shell.input(now, input) {
                Ok(commands) => {
                    for command in &commands {
                        if let Command::GrantLease(lease) = command {
                            check_lease(&shell, now, lease)?;
                        }
                    }
                    let changed = before != shell.zone;
                    prop_assert!(!changed || shell.store.head != Head::default(), "a change without an entry");
                }
                Err(_) => prop_assert_eq!(&before, &shell.zone, "refused, it changes nothing"),
            }
            if let Some(lease) = shell.zone.lease(&shell.policy, now) {
                check_lease(&shell, now, &lease)?;
            }
        }
        check_ledger(&shell.store)?;
        let policies = policies();
        let known = |version: &_| policies.iter().find(|policy| policy.version() == version);
        prop_assert_eq!(Zone::replay(ZONE, &shell.store.entries, known).expect("it can have happened"), shell.zone);
    }

    #[test]
    fn two_evaluators_that_crash_anywhere_make_what_one_makes(
        story in prop::collection::vec((0i64..20_000, happens(), 0u8..4), 1..60),
    ) {
        let mut alone = Shell::new(true);
        let (policy, terms) = (Policy::default(), Terms { automatic_notices: true });
        let mut store = Store::default();
        let mut now = day(0, "00:00");
        for (minutes, happens, crash) in &story {
            now += Duration::minutes(*minutes);
            let Some(input) = input(&alone, now, happens) else { continue };
            let _ = alone.input(now, input.clone());
            // The first evaluator dies before its commit (1), after it (2), after sending (3), or not at all; the second
            // one looks at the same input, from what was kept before or after.
            for evaluator in 0..2 {
                let seen = store.head;
                let zone = if store.entries.is_empty() { Zone::new(ZONE) } else { store.zone(&policy) };
                let Ok(step) = zone.decide(&policy, terms, now, input.clone()) else { continue };
                if evaluator == 0 && *crash == 1 {
                    continue;
                }
                // Acts by people and links are asked of one evaluator only: who asked sees whether it was done.
                if evaluator == 1 && *crash != 1 && !is_repeatable(&input) {
                    continue;
                }
                store.commit(seen, &step);
                if *crash != 2 {
                    store.send();
                }
            }
        }
        store.send();
        check_ledger(&store)?;
        prop_assert_eq!(&store.entries, &alone.store.entries);
        prop_assert_eq!(store.mails.len(), alone.store.mails.len());
    }

    #[test]
    fn hosts_that_are_missing_hide_nothing_that_the_others_prove(
        hosts in prop::collection::vec((0u32..900, any::<bool>()), 1..6),
        guideline in 1u64..1500,
    ) {
        let policy = Policy::default();
        let judged = |there: &dyn Fn(bool) -> bool| {
            let counts = hosts.iter().filter(|(_, is)| there(*is)).map(|(count, _)| f64::from(*count));
            let complete = hosts.iter().filter(|(_, is)| there(*is)).count() as f64 / hosts.len() as f64;
            let value = counts.sum();
            Slot { index: SlotIndex::EPOCH, value, max: value, complete }.judge(&policy, guideline)
        };
        let (some, all) = (judged(&|is| is), judged(&|_| true));
        prop_assert!(all.is_known());
        if hosts.iter().all(|(_, is)| *is) {
            prop_assert_eq!(some, all);
        } else {
            // What is missing adds nothing, so it may hide an over slot, and never makes one or denies one.
            prop_assert!(some == Judgement::Unknown || (some, all) == (Judgement::Over, Judgement::Over));
        }
    }

    #[test]
    fn any_edit_of_the_ledger_is_found(entries in 2usize..12, place in any::<prop::sample::Index>(), how in 0usize..9) {
        let (written, head) = written(entries);
        prop_assert_eq!(ledger::verify(&written, Some(head)), Ok(head));
        let mut edited = written.clone();
        let at = place.index(entries);
        match how {
            0 => edited[at].zone.push('x'),
            1 => edited[at].at += Duration::seconds(1),
            2 => edited[at].reason = Reason::new("another").expect("given"),
            3 => edited[at].evidence = r#"{"over_hours":99}"#.to_owned(),
            4 => edited[at].fact = edited[at].fact.replace("flagged", "unflagged"),
            5 => edited[at].actor = Actor::Person(Person::new("eve").expect("named")),
            6 => drop(edited.remove(at)),
            7 => edited.swap(at, (at + 1) % entries),
            _ => edited.insert(at, edited[at].clone()),
        }
        prop_assert!(ledger::verify(&edited, Some(head)).is_err(), "edit {how} at {at}");
    }
}

/// Decisions and reports may be taken up twice without consequence: the second time is no news.
fn is_repeatable(input: &Input) -> bool {
    matches!(
        input,
        Input::Decided { .. } | Input::Delivered { .. } | Input::NotDelivered { .. } | Input::Tick
    )
}

fn written(entries: usize) -> (Vec<Entry>, Head) {
    let (mut head, policy) = (Head::default(), Policy::default());
    let drafts = (0..entries).map(|n| ledger::Draft {
        at: day(n as i64, "00:00"),
        zone: ZONE.to_owned(),
        actor: Actor::Policy,
        reason: Reason::new(format!("reason {n}")).expect("given"),
        evidence: "{}".to_owned(),
        policy: policy.version().clone(),
        fact: Fact::Flagged,
    });
    let entries = drafts.map(|draft| head.append(draft).expect("writable")).collect();
    (entries, head)
}

#[test]
fn a_ledger_that_was_rewritten_to_its_end_is_not_the_one_that_was_kept() {
    let (written, kept) = written(5);
    let mut forged = Head::default();
    let rewritten: Vec<_> = written
        .iter()
        .map(|entry| {
            let fact = Fact::Unflagged;
            let Entry { at, zone, actor, reason, evidence, policy, .. } = entry.clone();
            forged
                .append(ledger::Draft { at, zone, actor, reason, evidence, policy, fact })
                .expect("writable")
        })
        .collect();
    assert_eq!(ledger::verify(&rewritten, None), Ok(forged), "consistent in itself");
    assert_eq!(ledger::verify(&rewritten, Some(kept)), Err(Broken::Replaced { seq: 5 }));
    assert_eq!(ledger::verify(&written[..3], Some(kept)), Err(Broken::Cut { end: 3, kept: 5 }));
}

#[test]
fn an_entry_survives_being_stored_as_json() {
    let (written, _) = written(3);
    let text = serde_json::to_string(&written).expect("writes");
    let read: Vec<Entry> = serde_json::from_str(&text).expect("reads");
    assert_eq!(read, written);
    assert!(ledger::verify(&read, None).is_ok());
}

/// What a replay says of a ledger whose hashes are right and whose facts are made up.
fn forged(facts: &[(i64, Fact)], actor: &Actor) -> String {
    let (policy, mut head) = (Policy::default(), Head::default());
    let entries: Vec<_> = facts
        .iter()
        .map(|(on, fact)| {
            let (at, zone, fact) = (day(*on, "00:00"), ZONE.to_owned(), fact.clone());
            let reason = Reason::new("forged").expect("given");
            let (evidence, policy) = ("{}".to_owned(), policy.version().clone());
            let draft = ledger::Draft { at, zone, actor: actor.clone(), reason, evidence, policy, fact };
            head.append(draft).expect("writable")
        })
        .collect();
    Zone::replay(ZONE, &entries, |_| Some(&policy))
        .map_or_else(|error| error.to_string(), |_| "believed".to_owned())
}

#[test]
fn a_forged_ledger_is_not_believed() {
    let case = CaseId::of(ZONE, day(0, "00:00"));
    let opened = (0, Fact::CaseOpened { case: case.clone(), rule: Rule::R2 });
    let notice = NoticeKey { case: case.clone(), kind: NoticeKind::First, number: 1 };
    let contacted =
        [(0, Fact::NoticeQueued { notice: notice.clone() }), (1, Fact::NoticeDelivered { notice })];
    let scheduled = |on| (2, Fact::LimitScheduled { case: case.clone(), cap: 10, from: day(on, "00:00") });
    let approved = |cap| (3, Fact::LimitApproved { case: case.clone(), cap });
    let began = |on| (on, Fact::LimitBegan { case: case.clone(), cap: 10 });
    let story = |rest: Vec<(i64, Fact)>| [vec![opened.clone()], contacted.to_vec(), rest].concat();
    let ann = Actor::Person(Person::new("ann").expect("named"));

    assert_eq!(forged(&story(vec![scheduled(15), approved(10), began(15)]), &ann), "believed");
    let said = |facts: Vec<(i64, Fact)>, actor: &Actor| {
        let said = forged(&facts, actor);
        said.split_once(": ").map(|(_, why)| why.to_owned()).unwrap_or(said)
    };
    assert_eq!(said(vec![opened.clone(), began(99)], &ann), "not possible while the case is open");
    assert!(said(vec![opened.clone(), scheduled(15)], &ann).contains("is no contact"));
    assert!(said(story(vec![scheduled(14)]), &ann).starts_with("the grace"));
    assert!(said(story(vec![scheduled(15), began(15)]), &ann).starts_with("no person has approved"));
    assert!(said(story(vec![scheduled(15), approved(11)]), &ann).contains("another cap"));
    assert!(said(story(vec![scheduled(15), approved(10), began(14)]), &ann).contains("scheduled for"));
    assert_eq!(said(story(vec![scheduled(15)]), &Actor::Policy), "only a person can do this");
    assert!(said(vec![opened.clone(), opened.clone()], &ann).contains("is open already"));
    let again = NoticeKey { case: case.clone(), kind: NoticeKind::Reminder, number: 2 };
    assert!(
        said(story(vec![(6, Fact::NoticeQueued { notice: again })]), &ann).starts_with("the next notice")
    );
    let exempt = (0, Fact::Exempted { until: day(9, "00:00") });
    assert_eq!(said(vec![exempt.clone()], &Actor::Policy), "only a person can do this");
    assert!(said(vec![exempt, opened], &ann).starts_with("the zone is exempt until"));
}
