//! From a decision to a dialogue: the golden scenarios that people take part in, and the way to a limit.

mod support;

use support::{
    SLOTS_A_DAY, day, feed, shape,
    shell::{Shell, Store, ZONE},
};
use time::{Duration, OffsetDateTime};
use weir_reachout::{
    case::{CaseId, CaseState, Closing},
    command::{About, Command},
    contact::{Failure, NoticeKey, NoticeKind},
    decision::{Decision, Event, Rule},
    detector::Detector,
    fact::Answer,
    limit::{Effect, Lease},
    policy::Policy,
    refusal::Refused,
    slot::SlotIndex,
    zone::{Act, Input, Resolution, Terms, Zone},
};

fn decided(event: Event, at: OffsetDateTime) -> Input {
    let rule = (event == Event::CaseOpened).then_some(Rule::R2);
    let decision = Decision { at, event, rule, over_hours: 36.08, counted_spikes: 1, coverage: 1.0 };
    Input::Decided { decision, evidence: serde_json::to_string(&decision).expect("writes") }
}

/// S06's case, opened on day 6.
fn opened(automatic: bool) -> (Shell, CaseId) {
    let mut shell = Shell::new(automatic);
    shell.input(day(6, "12:06"), decided(Event::CaseOpened, day(6, "12:05"))).expect("opens");
    let case = shell.zone.open_case().expect("open").id().clone();
    (shell, case)
}

/// ... whose first notice was delivered on day 7, 09:00.
fn contacted() -> (Shell, CaseId) {
    let (mut shell, case) = opened(false);
    shell.act(day(7, "08:59"), Act::Contact).expect("may be sent");
    let notice = first(&case);
    shell.input(day(7, "09:00"), Input::Delivered { notice }).expect("delivered");
    (shell, case)
}

fn first(case: &CaseId) -> NoticeKey {
    NoticeKey { case: case.clone(), kind: NoticeKind::First, number: 1 }
}

/// ... and on whose limit of 1000 everything stands, from day 21 on.
fn limited() -> (Shell, CaseId) {
    let (mut shell, case) = contacted();
    shell.act(day(15, "10:00"), Act::ScheduleLimit { cap: 1000, from: day(21, "09:00") }).expect("scheduled");
    shell.act(day(15, "10:01"), Act::Approve).expect("approved");
    shell.input(day(21, "09:00"), Input::Tick).expect("ticks");
    assert_eq!(shell.state(), "limited");
    (shell, case)
}

fn leases(commands: &[Command]) -> Vec<&Lease> {
    commands
        .iter()
        .filter_map(|command| if let Command::GrantLease(lease) = command { Some(lease) } else { None })
        .collect()
}

#[test]
fn s14_an_upgrade_closes_the_case_and_opens_no_other() {
    let policy = Policy::default();
    let values = shape(60, |t| if t >= 5.0 { 1500.0 } else { 600.0 });
    let (before, after) = values.split_at(8 * SLOTS_A_DAY);
    let (mut detector, mut shell) = (Detector::default(), Shell::new(false));
    for decision in feed(&mut detector, &policy, day(0, "00:00"), before, 1000) {
        let input = Input::Decided { decision, evidence: "{}".to_owned() };
        shell.input(decision.at, input).expect("taken");
    }
    assert_eq!(shell.state(), "open");

    let commands = shell.input(day(8, "00:00"), Input::Guideline { was: 1000, is: 5000 }).expect("taken");
    assert_eq!(shell.zone.case().expect("a case").state(), &CaseState::Closed { closing: Closing::Upgraded });
    let until = SlotIndex::containing(day(8, "00:00"));
    assert!(commands.contains(&Command::SettleUsage { until }));
    detector.settle(until);
    assert_eq!(feed(&mut detector, &policy, day(8, "00:00"), after, 5000), []);
}

#[test]
fn s18_a_bounced_notice_is_no_contact_so_a_limit_on_day_15_is_refused() {
    let (mut shell, case) = opened(false);
    shell.act(day(6, "13:00"), Act::Contact).expect("may be sent");
    let schedule = Act::ScheduleLimit { cap: 1000, from: day(40, "00:00") };
    assert_eq!(
        shell.act(day(6, "14:00"), schedule),
        Err(Refused::NotContacted),
        "queued is no contact either"
    );
    let failure = Input::NotDelivered { notice: first(&case), failure: Failure::Bounced };
    shell.input(day(6, "15:00"), failure).expect("taken");
    assert_eq!(shell.act(day(15, "00:00"), schedule), Err(Refused::NotContacted));
    assert_eq!(shell.state(), "open");
}

#[test]
fn s18_a_bounce_after_delivery_takes_the_contact_back_and_the_limit_with_it() {
    let (mut shell, case) = limited();
    let failure = Input::NotDelivered { notice: first(&case), failure: Failure::Bounced };
    let commands = shell.input(day(22, "00:00"), failure).expect("taken");
    assert_eq!(shell.state(), "open");
    assert!(commands.contains(&Command::EndLimit { case }));
    assert_eq!(shell.zone.lease(&shell.policy, day(22, "00:01")), None);
}

/// A reminder was delivered on day 14, and the limit is scheduled for day 21, when the first notice's grace is over.
fn scheduled_on_two_notices() -> (Shell, CaseId) {
    let (mut shell, case) = contacted();
    shell.act(day(14, "08:59"), Act::Contact).expect("a week later");
    let notice = NoticeKey { case: case.clone(), kind: NoticeKind::Reminder, number: 2 };
    shell.input(day(14, "09:00"), Input::Delivered { notice }).expect("delivered");
    shell.act(day(15, "10:00"), Act::ScheduleLimit { cap: 1000, from: day(21, "09:00") }).expect("scheduled");
    shell.act(day(15, "10:01"), Act::Approve).expect("approved");
    (shell, case)
}

#[test]
fn a_bounce_of_the_first_notice_moves_the_grace_to_the_second_one() {
    let (mut shell, case) = scheduled_on_two_notices();
    let failure = Input::NotDelivered { notice: first(&case), failure: Failure::Bounced };
    shell.input(day(16, "00:00"), failure).expect("taken");
    assert_eq!(leases(&shell.ticks(day(16, "00:00"), day(28, "08:55"))), Vec::<&Lease>::new());
    assert_eq!(leases(&shell.ticks(day(28, "09:00"), day(28, "09:00"))).len(), 1);
}

#[test]
fn a_bounce_in_the_middle_of_a_limit_ends_it_until_the_second_notice_carries_it() {
    for (bounced, state) in [(day(22, "00:00"), "contacted"), (day(29, "00:00"), "limited")] {
        let (mut shell, case) = scheduled_on_two_notices();
        shell.ticks(day(21, "09:00"), day(21, "09:00"));
        assert_eq!(shell.state(), "limited");
        let failure = Input::NotDelivered { notice: first(&case), failure: Failure::Bounced };
        shell.input(bounced, failure).expect("taken");
        assert_eq!(shell.state(), state);
        assert_eq!(shell.store.zone(&shell.policy), shell.zone);
    }
}

#[test]
fn s19_two_evaluators_one_dies_between_commit_and_sending_make_one_case_and_one_mail() {
    let policy = Policy::default();
    let terms = Terms { automatic_notices: true };
    let opening = decided(Event::CaseOpened, day(6, "12:05"));
    let mut store = Store::default();
    let (seen_by_a, seen_by_b) = (store.head, store.head);
    // They look at the clock at different times, and mean the same case and the same row.
    let a = Zone::new(ZONE).decide(&policy, terms, day(6, "12:06"), opening.clone()).expect("decides");
    let b = Zone::new(ZONE).decide(&policy, terms, day(6, "12:09"), opening.clone()).expect("decides");
    assert_eq!(a.next.case().map(|case| case.id()), b.next.case().map(|case| case.id()));
    assert_eq!(a.commands, b.commands);

    assert!(store.commit(seen_by_a, &a), "A commits, and dies");
    assert!(!store.commit(seen_by_b, &b), "B comes too late");
    let zone = store.zone(&policy);
    let again = zone.decide(&policy, terms, day(6, "12:10"), opening).expect("decides");
    assert_eq!((again.entries, again.commands), (vec![], vec![]), "decided already");
    store.send();
    store.send();
    assert_eq!(store.mails, [first(zone.open_case().expect("open").id())]);
    assert_eq!(store.entries.iter().filter(|entry| entry.fact.contains("case_opened")).count(), 1);
}

#[test]
fn a_limit_needs_contact_grace_approval_and_its_time() {
    let (mut shell, case) = contacted();
    let too_early = Act::ScheduleLimit { cap: 1000, from: day(21, "08:59") };
    assert_eq!(shell.act(day(8, "00:00"), too_early), Err(Refused::GraceNotOver { until: day(21, "09:00") }));
    assert_eq!(shell.act(day(8, "00:00"), Act::Approve), Err(Refused::State { state: "contacted" }));
    shell.act(day(8, "00:00"), Act::ScheduleLimit { cap: 1000, from: day(21, "09:00") }).expect("scheduled");

    assert_eq!(
        leases(&shell.ticks(day(21, "08:00"), day(23, "00:00"))),
        Vec::<&Lease>::new(),
        "nobody approved"
    );
    shell.act(day(23, "00:01"), Act::Approve).expect("approved");
    let commands = shell.ticks(day(23, "00:02"), day(23, "00:02"));
    assert_eq!(shell.state(), "limited");
    let [lease] = leases(&commands)[..] else { panic!("one lease: {commands:?}") };
    assert_eq!(lease.effect(), &Effect::RefuseUpgradesAbove { websockets: 1000 });
    assert_eq!(lease.until() - lease.from(), Duration::minutes(5));
    let commands = shell.act(day(24, "00:00"), Act::Lift).expect("lifted");
    assert_eq!(commands, [Command::EndLimit { case }]);
    assert_eq!(shell.state(), "in_dialogue");
}

#[test]
fn a_limits_letter_that_would_come_too_soon_leaves_later_and_once() {
    let (mut shell, case) = opened(true);
    shell.input(day(6, "12:10"), Input::Delivered { notice: first(&case) }).expect("delivered");
    let letters = |commands: &[Command]| -> Vec<NoticeKey> {
        commands
            .iter()
            .filter_map(|command| match command {
                Command::SendNotice { notice } => Some(notice.clone()),
                _ => None,
            })
            .collect()
    };
    let schedule = Act::ScheduleLimit { cap: 1000, from: day(25, "09:00") };
    let commands = shell.act(day(6, "15:00"), schedule).expect("scheduled");
    assert_eq!(letters(&commands), [], "within hours of the first letter");
    let letter = NoticeKey { case, kind: NoticeKind::LimitScheduled, number: 2 };
    assert_eq!(letters(&shell.ticks(day(6, "15:05"), day(14, "00:00"))), std::slice::from_ref(&letter));
    shell.input(day(14, "00:01"), Input::Delivered { notice: letter }).expect("delivered");
    assert_eq!(letters(&shell.ticks(day(14, "00:05"), day(24, "00:00"))), []);
}

#[test]
fn a_limit_is_a_lease_that_is_renewed_only_while_it_is_right() {
    let (mut shell, case) = limited();
    assert_eq!(leases(&shell.ticks(day(21, "09:05"), day(21, "10:00"))).len(), 12);
    let commands = shell.act(day(21, "10:01"), Act::Exempt { until: day(30, "00:00") }).expect("exempted");
    assert!(commands.contains(&Command::EndLimit { case }));
    assert_eq!(shell.zone.case().expect("a case").state(), &CaseState::Closed { closing: Closing::Exempted });
    assert_eq!(leases(&shell.ticks(day(21, "10:05"), day(31, "00:00"))), Vec::<&Lease>::new());
}

#[test]
fn a_clock_that_goes_back_before_the_grace_is_over_renews_no_lease() {
    let (shell, _) = limited();
    assert!(shell.zone.lease(&shell.policy, day(21, "09:00")).is_some());
    assert_eq!(shell.zone.lease(&shell.policy, day(21, "08:59")), None);
}

#[test]
fn three_notices_without_an_answer_go_to_a_person_and_limit_nothing() {
    let mut shell = Shell::new(true);
    shell.input(day(6, "12:06"), decided(Event::CaseOpened, day(6, "12:05"))).expect("opens");
    let mut now = day(6, "12:10");
    let mut sent = Vec::new();
    while now < day(60, "00:00") {
        if let Some(key) = shell.store.mails.get(sent.len()).cloned() {
            sent.push(now);
            shell.input(now, Input::Delivered { notice: key }).expect("delivered");
        }
        shell.input(now, Input::Tick).expect("ticks");
        now += Duration::hours(1);
    }
    assert_eq!(
        shell.store.mails.iter().map(|key| key.kind).collect::<Vec<_>>(),
        [NoticeKind::First, NoticeKind::Reminder, NoticeKind::Reminder]
    );
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= Duration::days(7)), "{sent:?}");
    assert_eq!(shell.state(), "escalated");
    let case = shell.zone.case().expect("a case").id().clone();
    let told = Command::TellOperators { zone: ZONE.to_owned(), about: About::Escalated { case } };
    assert_eq!(shell.commands.iter().filter(|command| **command == told).count(), 1);
    assert_eq!(leases(&shell.commands), Vec::<&Lease>::new());
}

#[test]
fn a_notice_waits_for_the_one_before_it_even_of_another_case() {
    let (mut shell, _) = contacted();
    shell.act(day(8, "00:00"), Act::Resolve { how: Resolution::Resolved }).expect("resolved");
    shell.input(day(9, "00:01"), decided(Event::CaseOpened, day(9, "00:00"))).expect("opens");
    assert_eq!(
        shell.act(day(9, "00:02"), Act::Contact),
        Err(Refused::NoticeTooSoon { from: day(10, "08:59") })
    );
    shell.act(day(10, "08:59"), Act::Contact).expect("72 h later");
    assert_eq!(
        shell.act(day(17, "08:58"), Act::Contact),
        Err(Refused::NoticeTooSoon { from: day(17, "08:59") })
    );
}

#[test]
fn an_answer_ends_the_reminders_and_moves_the_case() {
    let (mut shell, case) = contacted();
    shell.terms.automatic_notices = true;
    let commands =
        shell.input(day(8, "00:00"), Input::Answered { case: case.clone(), answer: Answer::Event });
    assert!(commands.expect("taken").iter().any(|command| matches!(command, Command::TellOperators { .. })));
    assert_eq!(shell.state(), "in_dialogue");
    shell.ticks(day(8, "00:00"), day(50, "00:00"));
    assert_eq!((shell.state(), shell.store.mails.len()), ("in_dialogue", 1));
}

#[test]
fn back_to_normal_closes_what_nobody_talks_about_and_asks_where_somebody_does() {
    let (mut shell, _) = contacted();
    shell.input(day(25, "00:00"), decided(Event::Closable, day(25, "00:00"))).expect("taken");
    assert_eq!(
        shell.zone.case().expect("a case").state(),
        &CaseState::Closed { closing: Closing::SelfResolved }
    );

    let (mut shell, case) = contacted();
    shell
        .input(day(8, "00:00"), Input::Answered { case: case.clone(), answer: Answer::Talk })
        .expect("taken");
    let commands = shell.input(day(25, "00:00"), decided(Event::Closable, day(25, "00:00"))).expect("taken");
    let about = About::Closable { case };
    assert_eq!(commands, [Command::TellOperators { zone: ZONE.to_owned(), about }]);
    assert_eq!(shell.state(), "in_dialogue");
}

#[test]
fn an_exempt_zone_gets_no_case_and_what_it_did_meanwhile_opens_none_later() {
    let mut shell = Shell::new(true);
    let commands = shell.act(day(1, "00:00"), Act::Exempt { until: day(20, "00:00") }).expect("exempted");
    assert_eq!(commands, [Command::SettleUsage { until: SlotIndex::containing(day(20, "00:00")) }]);
    shell.input(day(6, "12:06"), decided(Event::CaseOpened, day(6, "12:05"))).expect("spared");
    assert_eq!((shell.state(), shell.store.mails.len()), ("none", 0));

    let policy = Policy::default();
    let mut detector = Detector::default();
    detector.settle(shell.zone.settled());
    let values = shape(40, |t| if (5.0..15.0).contains(&t) { 3000.0 } else { 600.0 });
    let decisions = feed(&mut detector, &policy, day(0, "00:00"), &values, 1000);
    assert_eq!(support::without_spikes(&decisions), []);
    assert_eq!(decisions.len(), 1, "the spike is still counted");
}

#[test]
fn an_exemption_can_be_ended_early() {
    let mut shell = Shell::new(false);
    shell.act(day(1, "00:00"), Act::Exempt { until: day(400, "00:00") }).expect("exempted");
    let commands = shell.act(day(2, "00:00"), Act::EndExemption).expect("ended");
    assert_eq!(commands, [Command::SettleUsage { until: SlotIndex::containing(day(2, "00:00")) }]);
    assert_eq!(shell.act(day(2, "00:01"), Act::EndExemption), Err(Refused::NotExempted));
}

#[test]
fn every_act_is_in_the_ledger_with_who_why_and_under_which_policy() {
    let (shell, _) = limited();
    let by_people: Vec<_> =
        shell.store.entries.iter().filter(|entry| format!("{:?}", entry.actor).contains("ann")).collect();
    assert_eq!(by_people.len(), 3, "contact, schedule, approve");
    assert!(by_people.iter().all(|entry| entry.reason.as_str() == "as agreed"));
    assert!(shell.store.entries.iter().all(|entry| &entry.policy == shell.policy.version()));
    assert_eq!(shell.store.zone(&shell.policy), shell.zone);
}

fn opened_by_r3(automatic: bool) -> (Shell, CaseId) {
    let mut shell = Shell::new(automatic);
    shell.input(day(6, "12:06"), by_r3(Event::CaseOpened, day(6, "12:05"))).expect("opens");
    let case = shell.zone.open_case().expect("open").id().clone();
    (shell, case)
}

fn by_r3(event: Event, at: OffsetDateTime) -> Input {
    let decision =
        Decision { at, event, rule: Some(Rule::R3), over_hours: 0.0, counted_spikes: 0, coverage: 1.0 };
    Input::Decided { decision, evidence: "{}".to_owned() }
}

#[test]
fn a_letter_on_r3_goes_by_a_person_whatever_the_plan_says() {
    let (mut shell, case) = opened_by_r3(true);
    let sent = |command: &Command| matches!(command, Command::SendNotice { .. });
    let draft = Command::DraftNotice { case: case.clone(), kind: NoticeKind::First };
    assert!(shell.commands.contains(&draft), "{:?}", shell.commands);
    assert!(!shell.commands.iter().any(sent));
    assert!(!shell.ticks(day(6, "12:10"), day(8, "0:00")).iter().any(sent), "nor does it wait for a tick");
    shell.act(day(8, "08:59"), Act::Contact).expect("a person may");
    shell.input(day(8, "09:00"), Input::Delivered { notice: first(&case) }).expect("delivered");
    assert!(!shell.ticks(day(8, "09:05"), day(20, "0:00")).iter().any(sent), "nor are there reminders");
    shell.act(day(20, "09:00"), Act::Resolve { how: Resolution::Resolved }).expect("closed");
    assert!(shell.commands.contains(&Command::DraftNotice { case, kind: NoticeKind::Resolved }));
}

#[test]
fn a_case_by_r3_has_a_way_back_of_its_own() {
    let (mut shell, _) = opened_by_r3(false);
    shell.input(day(7, "0:01"), decided(Event::Closable, day(7, "0:00"))).expect("taken");
    assert_eq!(shell.state(), "open", "the detector speaks of WebSockets only");
    shell.input(day(21, "0:01"), by_r3(Event::Closable, day(21, "0:00"))).expect("taken");
    assert_eq!(shell.state(), "closed");
    let (mut shell, _) = opened(false);
    shell.input(day(21, "0:01"), by_r3(Event::Closable, day(21, "0:00"))).expect("taken");
    assert_eq!(shell.state(), "open", "and R3 of its own cases only");
}

#[test]
fn larger_bounds_end_a_case_by_r3_and_no_other() {
    let raised = || Input::Bounds { evidence: r#"{"bounds":{}}"#.to_owned() };
    let (mut shell, _) = opened_by_r3(false);
    shell.input(day(8, "0:00"), raised()).expect("taken");
    let closing = Closing::Upgraded;
    assert_eq!(shell.zone.case().expect("a case").state(), &CaseState::Closed { closing });
    let (mut shell, _) = opened(false);
    shell.input(day(8, "0:00"), raised()).expect("taken");
    assert_eq!(shell.state(), "open");
}
