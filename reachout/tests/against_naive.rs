//! The detector against the policy's words worked out from scratch after every slot, over random histories.

mod support;

use proptest::prelude::*;
use support::naive::Naive;
use weir_reachout::{
    decision::{Decision, Event},
    detector::Detector,
    params::PolicyParams,
    policy::Policy,
    slot::{Judgement, SlotIndex},
};

const FIRST: SlotIndex = SlotIndex::EPOCH;

/// The policy in a week instead of a month, so that random histories meet all of its edges.
fn short_policy() -> Policy {
    let mut params = PolicyParams::default();
    let d = &mut params.detection;
    (d.window_days, d.normal_days, d.repeated_spread_days) = (3, 1, 1);
    (d.sustained_hours, d.counted_gap_hours) = (9.0, 5);
    Policy::new(params).expect("valid")
}

fn first() -> SlotIndex {
    FIRST.forth(5_000_000)
}

/// Runs of one judgement, mixed so that episodes, gaps near an hour, long calms and outages all come up.
fn history(slots: usize) -> impl Strategy<Value = Vec<Judgement>> {
    let run = prop_oneof![
        4 => (Just(Judgement::Over), 1usize..4),
        1 => (Just(Judgement::Over), 4usize..80),
        4 => (Just(Judgement::Within), 9usize..16),
        3 => (Just(Judgement::Within), 16usize..120),
        1 => (Just(Judgement::Within), 280usize..420),
        1 => (Just(Judgement::Tolerated), 1usize..20),
        2 => (Just(Judgement::Unknown), 1usize..6),
        1 => (Just(Judgement::Unknown), 6usize..200),
    ];
    prop::collection::vec(run, 10..80).prop_map(move |runs| {
        let slots = runs.into_iter().flat_map(|(judgement, n)| std::iter::repeat_n(judgement, n)).take(slots);
        slots.skip_while(|judgement| *judgement == Judgement::Unknown).collect()
    })
}

/// Closes every case as soon as it is closable, as a simulation does.
fn naive_decisions(policy: &Policy, history: &[Judgement]) -> (Vec<Decision>, Naive) {
    let mut naive = Naive::new(policy, first());
    let mut all = Vec::new();
    for judgement in history {
        let decisions = naive.observe(*judgement);
        if decisions.iter().any(|decision| decision.event == Event::Closable) {
            naive.settle();
        }
        all.extend(decisions);
    }
    (all, naive)
}

fn feed(
    detector: &mut Detector,
    policy: &Policy,
    slots: impl IntoIterator<Item = (SlotIndex, Judgement)>,
) -> Vec<Decision> {
    let mut all = Vec::new();
    for (slot, judgement) in slots {
        let decisions = detector.observe(policy, slot, judgement);
        if decisions.iter().any(|decision| decision.event == Event::Closable) {
            detector.settle(slot.next());
        }
        all.extend(decisions);
    }
    all
}

fn numbered(history: &[Judgement]) -> Vec<(SlotIndex, Judgement)> {
    history.iter().enumerate().map(|(n, judgement)| (first().forth(n as u32), *judgement)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn decides_what_the_words_of_the_policy_say(history in history(1800), report_unknown in any::<bool>()) {
        let policy = short_policy();
        let (expected, naive) = naive_decisions(&policy, &history);
        let mut detector = Detector::default();
        let mut slots = numbered(&history);
        // What nobody reports is unknown, too.
        slots.retain(|(_, judgement)| report_unknown || judgement.is_known());
        let decisions = feed(&mut detector, &policy, slots);
        prop_assert_eq!(&decisions, &expected.into_iter().filter(|decision| decision.at <= last_known(&history)).collect::<Vec<_>>());
        let _ = detector.pass_until(&policy, first().forth(history.len() as u32));
        prop_assert_eq!(detector.usage(&policy).over_hours, naive.over_slots(0) as f64 / 12.0);
    }

    #[test]
    fn late_slots_lead_to_the_budgets_of_slots_in_time(
        history in history(1500),
        lost in prop::collection::vec((0usize..1500, 1usize..60), 0..6),
    ) {
        let policy = short_policy();
        let mut known = history.clone();
        for (from, n) in lost {
            known.iter_mut().skip(from).take(n).for_each(|judgement| *judgement = Judgement::Unknown);
        }
        let mut detector = Detector::default();
        let before = feed(&mut detector, &policy, numbered(&known));
        let late = numbered(&history).into_iter().zip(&known).filter(|((_, now), then)| now != *then).map(|(slot, _)| slot);
        let added = detector.late(&policy, late.collect::<Vec<_>>());

        // Only the last 3 days can still be corrected.
        let held = history.len().saturating_sub(3 * support::SLOTS_A_DAY);
        let mut corrected = known.clone();
        corrected[held..].copy_from_slice(&history[held..]);
        let mut naive = Naive::new(&policy, first());
        naive.history = corrected;
        let usage = detector.usage(&policy);
        prop_assert_eq!(usage.over_hours, naive.over_slots(0) as f64 / 12.0);
        let counted: Vec<_> = naive.counted().into_iter().filter(|spike| spike.start >= held).collect();
        prop_assert_eq!(usage.counted_spikes as usize, counted.len());

        // Every spike that is now known was decided on, before or now; and nothing twice.
        let spikes = |decisions: &[Decision]| {
            decisions.iter().filter(|d| d.event == Event::SpikeCounted).map(|d| d.slot().since(first()) as usize).collect::<Vec<_>>()
        };
        let (before, added) = (spikes(&before), spikes(&added));
        for spike in counted {
            let its = spike.start..=*spike.over.last().expect("not empty");
            prop_assert!(before.iter().chain(&added).any(|by| its.contains(by)), "{:?} is missing in {before:?} + {added:?}", its);
        }
        prop_assert!(added.iter().all(|by| !before.contains(by)), "{added:?} again");
        prop_assert_eq!(detector.late(&policy, numbered(&history)), vec![], "the same data once more");
    }

    #[test]
    fn order_of_arrival_does_not_change_the_budgets(history in history(900), keys in prop::collection::vec(0u64..40, 900)) {
        let policy = short_policy();
        let mut in_time = Detector::default();
        let mut shuffled = Detector::default();
        let slots = numbered(&history);
        for (slot, judgement) in &slots {
            in_time.observe(&policy, *slot, *judgement);
        }
        let mut arrivals: Vec<_> = slots.iter().enumerate().map(|(n, slot)| (n as u64 + keys[n], *slot)).collect();
        arrivals.sort_by_key(|(at, _)| *at);
        for (_, (slot, judgement)) in arrivals {
            shuffled.observe(&policy, slot, judgement);
        }
        let (in_time, shuffled) = (in_time.usage(&policy), shuffled.usage(&policy));
        prop_assert_eq!(in_time.over_hours, shuffled.over_hours);
        prop_assert_eq!(in_time.counted_spikes, shuffled.counted_spikes);
        prop_assert_eq!(in_time.spiking, shuffled.spiking);
        prop_assert_eq!(in_time.normal, shuffled.normal);
    }

    #[test]
    fn a_snapshot_goes_on_where_the_detector_was(history in history(600), cut in 0usize..600) {
        let policy = short_policy();
        let slots = numbered(&history);
        let (before, after) = slots.split_at(cut.min(slots.len()));
        let mut through = Detector::default();
        let expected = feed(&mut through, &policy, slots.clone());
        let mut detector = Detector::default();
        let mut decisions = feed(&mut detector, &policy, before.to_vec());
        let text = serde_json::to_string(&detector).expect("writes");
        let mut restored: Detector = serde_json::from_str(&text).expect("reads");
        decisions.extend(feed(&mut restored, &policy, after.to_vec()));
        prop_assert_eq!(decisions, expected);
        prop_assert_eq!(restored, through);
    }

    #[test]
    fn unknown_slots_bring_nothing_about(history in history(1200), outage in 200u32..2000) {
        let policy = short_policy();
        let mut detector = Detector::default();
        let _ = feed(&mut detector, &policy, numbered(&history));
        let passed = detector.pass_until(&policy, first().forth(history.len() as u32 + outage));
        prop_assert_eq!(passed, vec![]);
    }
}

/// The end of the last slot that is known: unknown ones at the end are not reported, so nothing is decided on them.
fn last_known(history: &[Judgement]) -> time::OffsetDateTime {
    let known = history.iter().rposition(|judgement| judgement.is_known()).unwrap_or(0);
    first().forth(known as u32).end()
}

#[test]
fn a_late_over_slot_adds_the_spike_at_its_own_time() {
    let policy = Policy::default();
    let mut detector = Detector::default();
    let slot = |n| first().forth(n);
    let mut decisions = Vec::new();
    for n in 0..100 {
        let judgement = if n == 10 { Judgement::Over } else { Judgement::Within };
        if n != 11 {
            decisions.extend(detector.observe(&policy, slot(n), judgement));
        }
    }
    assert_eq!(decisions, []);
    let late = detector.observe(&policy, slot(11), Judgement::Over);
    assert_eq!(
        late.iter().map(|decision| (decision.event, decision.at)).collect::<Vec<_>>(),
        [(Event::SpikeCounted, slot(11).end())]
    );
}

#[test]
fn an_attack_that_is_recognised_late_is_left_out_of_the_budgets_and_unsays_nothing() {
    let policy = Policy::default();
    let mut detector = Detector::default();
    let slot = |n| first().forth(n);
    let judgement = |n| if n < 24 { Judgement::Over } else { Judgement::Within };
    let decisions: Vec<_> = (0..100).flat_map(|n| detector.observe(&policy, slot(n), judgement(n))).collect();
    assert_eq!(decisions.len(), 1);
    assert_eq!(detector.exclude(&policy, (0..24).map(slot)), []);
    let usage = detector.usage(&policy);
    assert_eq!((usage.over_hours, usage.counted_spikes), (0.0, 0));
    assert!(usage.coverage < 0.77, "what was left out is not known");
}

#[test]
fn another_policy_judges_only_what_comes_after_it() {
    let (policy, mut params) = (Policy::default(), PolicyParams::default());
    params.detection.spike_minutes = 5;
    params.detection.window_days = 60;
    let strict = Policy::new(params).expect("valid");
    let mut detector = Detector::default();
    let slot = |n| first().forth(n);
    let single = |n: u32| if n.is_multiple_of(288) { Judgement::Over } else { Judgement::Within };
    let before: Vec<_> = (0..2000).flat_map(|n| detector.observe(&policy, slot(n), single(n))).collect();
    assert_eq!(before, []);
    detector.adopt(&strict);
    let next = detector.observe(&strict, slot(2000), Judgement::Within);
    assert!(next.iter().all(|decision| decision.event != Event::SpikeCounted));
    let spike = detector.observe(&strict, slot(2300), Judgement::Over);
    assert_eq!(spike.first().map(|decision| decision.event), Some(Event::SpikeCounted));
}
