//! The golden scenarios of the policy that usage alone decides. G = 1000, base 600, slots of 5 minutes, day 0 at 00:00.

mod support;

use support::{SLOTS_A_DAY, dates, day, feed, shape, simulated, within, without_spikes};
use weir_reachout::{
    decision::{Event, Rule},
    detector::Detector,
    policy::Policy,
    slot::SlotIndex,
};

#[test]
fn s01_twenty_minutes_at_5000_is_one_counted_spike_and_nothing_else() {
    let values = shape(60, |t| if t as i64 == 10 && within(t, 12.0, 20.0) { 5000.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(decisions.len(), 1);
    assert_eq!((decisions[0].event, decisions[0].at), (Event::SpikeCounted, day(10, "12:10")));
    assert_eq!((decisions[0].counted_spikes, decisions[0].coverage), (1, 1.0));
}

#[test]
fn s02_a_day_at_3000_is_nothing_but_the_spike() {
    let values = shape(60, |t| if (10.0..11.0).contains(&t) { 3000.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(decisions.len(), 1);
    assert_eq!((decisions[0].event, decisions[0].at), (Event::SpikeCounted, day(10, "00:10")));
}

#[test]
fn s04_two_hours_every_seven_days_is_flagged_at_the_third_and_r1_on_day_28() {
    let spikes = |t: f64| t >= 7.0 && t as i64 % 7 == 0 && within(t, 12.0, 120.0);
    let values = shape(120, |t| if spikes(t) { 2000.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(
        without_spikes(&decisions),
        [(day(21, "12:10"), Event::Flagged), (day(28, "12:10"), Event::CaseOpened),]
    );
    assert_eq!(decisions.iter().find_map(|decision| decision.rule), Some(Rule::R1));
    assert_eq!(
        dates(&decisions, Event::SpikeCounted).len(),
        17,
        "not closable while it goes on, so one case"
    );
}

#[test]
fn s04_is_closable_fourteen_days_after_it_ends() {
    let spikes = |t: f64| (7.0..29.0).contains(&t) && t as i64 % 7 == 0 && within(t, 12.0, 120.0);
    let values = shape(90, |t| if spikes(t) { 2000.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(without_spikes(&decisions)[2..], [(day(42, "14:00"), Event::Closable)]);
}

#[test]
fn s05_a_quarter_of_an_hour_daily_is_flagged_on_day_7_and_r1_on_day_12() {
    let values = shape(40, |t| if t >= 5.0 && within(t, 9.0, 15.0) { 2000.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(
        without_spikes(&decisions),
        [(day(7, "09:10"), Event::Flagged), (day(12, "09:10"), Event::CaseOpened),]
    );
    let opened = decisions.iter().find(|decision| decision.event == Event::CaseOpened).expect("opened");
    assert_eq!((opened.rule, opened.counted_spikes), (Some(Rule::R1), 8));
}

#[test]
fn s06_above_for_good_is_flagged_at_27_hours_and_r2_just_past_36() {
    let values = shape(60, |t| if t >= 5.0 { 1500.0 } else { 600.0 });
    let decisions = simulated(&values);
    assert_eq!(
        without_spikes(&decisions),
        [(day(6, "03:00"), Event::Flagged), (day(6, "12:05"), Event::CaseOpened),]
    );
    assert_eq!(
        decisions.iter().map(|decision| decision.over_hours.floor()).collect::<Vec<_>>(),
        [0.0, 27.0, 36.0]
    );
    assert_eq!(decisions[2].rule, Some(Rule::R2));
}

#[test]
fn s07_a_daily_sine_below_the_guideline_is_nothing() {
    let values = shape(60, |t| 600.0 + 350.0 * (std::f64::consts::TAU * t).sin());
    assert_eq!(simulated(&values), []);
}

#[test]
fn s08_a_daily_sine_to_140_percent_is_flagged_and_r2_within_five_days() {
    for base in [700.0, 850.0, 1000.0] {
        let sine = |t: f64| base + (1400.0 - base) * (std::f64::consts::TAU * t).sin();
        let values = shape(30, |t| if t >= 5.0 { sine(t) } else { 600.0 });
        let decisions = simulated(&values);
        let others = without_spikes(&decisions);
        assert_eq!(
            others.iter().map(|(_, event)| *event).collect::<Vec<_>>(),
            [Event::Flagged, Event::CaseOpened]
        );
        assert!(others[1].0 <= day(10, "00:00"), "base {base}: {others:?}");
        assert_eq!(decisions.iter().find_map(|decision| decision.rule), Some(Rule::R2));
    }
}

#[test]
fn s09_slow_growth_is_r2_thirty_six_hours_after_it_passes_110_percent() {
    let values = shape(60, |t| 700.0 * 1.02f64.powi(t as i32));
    let decisions = simulated(&values);
    // 700 * 1.02^23 = 1104 is the first day above 1100.
    assert_eq!(
        without_spikes(&decisions),
        [(day(24, "03:00"), Event::Flagged), (day(24, "12:05"), Event::CaseOpened),]
    );
}

#[test]
fn s10_five_percent_around_the_guideline_is_nothing() {
    let values = shape(60, |t| if (t * 288.0).round() as i64 % 2 == 0 { 1050.0 } else { 950.0 });
    assert_eq!(simulated(&values), []);
}

#[test]
fn s10_twenty_percent_around_the_guideline_is_one_episode_and_r2_at_36_hours() {
    let values = shape(60, |t| if (t * 288.0).round() as i64 % 2 == 0 { 1200.0 } else { 800.0 });
    let decisions = simulated(&values);
    assert_eq!(dates(&decisions, Event::SpikeCounted), [day(0, "00:15")]);
    // Every second slot is over: the 433rd of them is the slot number 864.
    assert_eq!(without_spikes(&decisions)[1], (day(3, "00:05"), Event::CaseOpened));
    assert_eq!(decisions.len(), 3);
}

#[test]
fn s14_after_an_upgrade_old_slots_keep_the_old_guideline_and_open_nothing() {
    let policy = Policy::default();
    let values = shape(80, |t| if t >= 5.0 { 1500.0 } else { 600.0 });
    let (before, after) = values.split_at(8 * SLOTS_A_DAY);
    let mut detector = Detector::default();
    let decisions = feed(&mut detector, &policy, day(0, "00:00"), before, 1000);
    assert_eq!(dates(&decisions, Event::CaseOpened), [day(6, "12:05")]);

    detector.settle(SlotIndex::containing(day(8, "00:00")));
    let first_day = feed(&mut detector, &policy, day(8, "00:00"), &after[..SLOTS_A_DAY], 5000);
    assert_eq!(detector.usage(&policy).over_hours, 72.0, "days 5 to 7 were over and stay so");
    let later = feed(&mut detector, &policy, day(9, "00:00"), &after[SLOTS_A_DAY..], 5000);
    assert_eq!((first_day, later), (vec![], vec![]));
    assert_eq!(detector.usage(&policy).over_hours, 0.0);
}

#[test]
fn three_spikes_that_leave_the_window_are_unflagged() {
    let spikes = |t: f64| [5, 7, 9].contains(&(t as i64)) && within(t, 9.0, 15.0);
    let values = shape(60, |t| if spikes(t) { 2000.0 } else { 600.0 });
    assert_eq!(
        without_spikes(&simulated(&values)),
        [(day(9, "09:10"), Event::Flagged), (day(35, "09:05"), Event::Unflagged),]
    );
}

#[test]
fn after_a_closed_case_the_same_hours_open_no_other_and_new_ones_do() {
    // Thirty hours on day 5 and eight on day 9; quiet; then the same again from day 26 on, still within 30 days of day 5.
    let busy = |t: f64| {
        let day = t as i64;
        (5.0..6.25).contains(&t) || (9.0..9.34).contains(&t) || (day >= 26 && (0.0..0.5).contains(&t.fract()))
    };
    let values = shape(40, |t| if busy(t) { 1500.0 } else { 600.0 });
    let events = without_spikes(&simulated(&values));
    assert_eq!(
        events.iter().map(|(_, event)| *event).collect::<Vec<_>>(),
        [Event::Flagged, Event::CaseOpened, Event::Closable, Event::Flagged, Event::CaseOpened,]
    );
    // Twelve hours a day: more than 36 from day 26 are spent on day 29.
    assert_eq!(events[4].0, day(29, "00:05"));
}
