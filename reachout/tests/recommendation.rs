//! What is offered, when growth is foreseen, and R3.

mod support;

use support::{SLOTS_A_DAY, day, shape, simulated};
use time::Duration;
use weir_reachout::{
    decision::{Event, Rule},
    detector::Detector,
    disproportion::{self, Overuse},
    forecast::{Forecast, days, forecast, percentile},
    policy::Policy,
    recommend::{ClientFault, ClientSigns, Offer, Offered, Resources, recommend},
    slot::{Judgement, Slot, SlotIndex},
};

fn offers() -> Vec<Offer> {
    let unbounded = f64::INFINITY;
    [("free", 1000.0), ("pro", 2000.0), ("business", 5000.0)]
        .map(|(name, websockets)| Offer {
            name: name.to_owned(),
            holds: Resources {
                websockets,
                socket_memory_bytes: unbounded,
                bytes_per_second: websockets * 1e4,
                upgrades_per_second: unbounded,
            },
        })
        .to_vec()
}

fn offered(rule: Rule, websockets: f64) -> Offered {
    let p95 = Resources { websockets, ..Resources::default() };
    recommend(&Policy::default(), rule, &p95, &ClientSigns::default(), "free", &offers()).offer
}

fn slots(values: &[f64]) -> Vec<(Slot, Judgement)> {
    let policy = Policy::default();
    let first = SlotIndex::containing(day(0, "00:00"));
    let slots = values.iter().zip(0..).map(|(value, n)| Slot {
        index: first.forth(n),
        value: *value,
        max: *value,
        complete: 1.0,
    });
    slots.map(|slot| (slot, slot.judge(&policy, 1000))).collect()
}

fn foreseen(values: &[f64]) -> Option<Forecast> {
    let policy = Policy::default();
    let history = slots(values);
    forecast(&policy, &days(&policy, history.iter().map(|(slot, judgement)| (slot, *judgement))), 1000)
}

#[test]
fn s09_growth_is_foreseen_before_the_first_over_slot_then_r2_and_a_plan_is_named() {
    let values = shape(60, |t| 700.0 * 1.02f64.powi(t as i32));
    let over = day(23, "00:00").date();
    for known_days in 7..23 {
        let forecast = foreseen(&values[..known_days * SLOTS_A_DAY]).expect("a trend");
        assert!(
            forecast.earliest <= over && over <= forecast.latest,
            "after {known_days} days: {forecast:?}"
        );
        assert!(forecast.latest - forecast.earliest >= Duration::DAY, "a range, not a day");
    }
    let decisions = simulated(&values);
    let opened = decisions.iter().find(|decision| decision.event == Event::CaseOpened).expect("later R2");
    assert_eq!(opened.rule, Some(Rule::R2));
    let until = SlotIndex::containing(opened.at).since(SlotIndex::containing(day(0, "00:00"))) as usize;
    let p95 = percentile(&mut values[..until].to_vec(), 0.95).expect("values");
    assert_eq!(offered(Rule::R2, p95), Offered::Plan("pro".to_owned()));
}

#[test]
fn without_a_trend_nothing_is_foreseen() {
    assert_eq!(foreseen(&shape(30, |_| 800.0)), None, "flat");
    assert_eq!(foreseen(&shape(30, |t| 900.0 - 10.0 * t)), None, "falling");
    assert_eq!(foreseen(&shape(6, |t| 700.0 + 20.0 * t)), None, "too short");
    let one_great_day = shape(30, |t| if t as i64 == 28 { 5000.0 } else { 600.0 });
    assert_eq!(foreseen(&one_great_day), None);
    assert_eq!(foreseen(&shape(30, |t| 600.0 + t / 10.0)), None, "beyond the horizon");
    assert_eq!(foreseen(&shape(30, |t| 1200.0 + t)), None, "over already");
}

#[test]
fn days_that_are_not_known_do_not_bend_the_trend() {
    let policy = Policy::default();
    let values = shape(14, |t| 700.0 * 1.02f64.powi(t as i32));
    let mut history = slots(&values);
    for (slot, judgement) in &mut history[5 * SLOTS_A_DAY..7 * SLOTS_A_DAY] {
        (slot.value, *judgement) = (0.0, Judgement::Unknown);
    }
    let known = days(&policy, history.iter().map(|(slot, judgement)| (slot, *judgement)));
    assert_eq!(known.len(), 12);
    let forecast = forecast(&policy, &known, 1000).expect("a trend");
    assert!(forecast.earliest <= day(23, "00:00").date() && day(23, "00:00").date() <= forecast.latest);
}

#[test]
fn the_smallest_plan_with_headroom_is_named_or_a_talk() {
    assert_eq!(offered(Rule::R2, 1600.0), Offered::Plan("pro".to_owned()));
    assert_eq!(offered(Rule::R2, 1600.1), Offered::Plan("business".to_owned()));
    assert_eq!(offered(Rule::R2, 4001.0), Offered::Talk);
    assert_eq!(offered(Rule::R2, 700.0), Offered::Stay);
    let busy = Resources { websockets: 1500.0, bytes_per_second: 3e7, ..Resources::default() };
    let offer =
        recommend(&Policy::default(), Rule::R2, &busy, &ClientSigns::default(), "free", &offers()).offer;
    assert_eq!(offer, Offered::Plan("business".to_owned()), "every resource has to fit");
}

#[test]
fn spikes_alone_are_offered_an_exemption_and_never_an_upgrade() {
    assert_eq!(offered(Rule::R1, 999.0), Offered::Exemption);
    assert_eq!(offered(Rule::R1, 1300.0), Offered::Plan("pro".to_owned()));
}

#[test]
fn a_likely_fault_of_the_client_is_said_first() {
    let p95 = Resources { websockets: 1500.0, ..Resources::default() };
    let first = |upgrades_per_websocket_hour, silent| {
        let signs = ClientSigns { upgrades_per_websocket_hour, silent };
        recommend(&Policy::default(), Rule::R2, &p95, &signs, "free", &offers()).first
    };
    assert_eq!(first(2.0, 0.1), None);
    assert_eq!(first(120.0, 0.1), Some(ClientFault::ReconnectStorm));
    assert_eq!(first(2.0, 0.9), Some(ClientFault::SilentSockets));
}

#[test]
fn r3_needs_an_overspent_resource_and_a_material_share() {
    let policy = Policy::default();
    let (mut overuse, usage) = (Overuse::default(), Detector::default().usage(&policy));
    let slot = |n| SlotIndex::containing(day(0, "00:00")).forth(n);
    for n in 0..432 {
        overuse.observe(&policy, slot(n), Judgement::Over);
    }
    let said =
        |overuse: &Overuse, n, share| disproportion::decide(&policy, slot(n), &usage, [(overuse, share)]);
    assert_eq!(said(&overuse, 431, Some(0.1)), None, "36 hours are free");
    overuse.observe(&policy, slot(432), Judgement::Over);
    assert_eq!(said(&overuse, 432, Some(0.005)), None, "little for the fleet");
    assert_eq!(said(&overuse, 432, None), None, "nobody knows");
    let decision = said(&overuse, 432, Some(0.0051)).expect("R3");
    assert_eq!(
        (decision.event, decision.rule, decision.at),
        (Event::CaseOpened, Some(Rule::R3), slot(432).end())
    );

    overuse.settle(slot(433));
    assert!(!overuse.is_overspent(&policy), "settled");
    overuse.settle(SlotIndex::EPOCH);
    overuse.observe(&policy, slot(433 + 8640), Judgement::Within);
    assert!(!overuse.is_overspent(&policy), "30 days later");
}

#[test]
fn what_belongs_to_an_attack_is_left_out_of_every_resource() {
    let policy = Policy::default();
    let mut overuse = Overuse::default();
    let slot = |n| SlotIndex::containing(day(0, "00:00")).forth(n);
    for n in 0..433 {
        overuse.observe(&policy, slot(n), Judgement::Over);
    }
    overuse.exclude((430..500).map(slot));
    assert!(!overuse.is_overspent(&policy));
    assert_eq!(overuse.over_hours(), 430.0 / 12.0);
    for n in 433..436 {
        overuse.observe(&policy, slot(n), Judgement::Over);
    }
    assert!(overuse.is_overspent(&policy), "433 again, in their places");
}

#[test]
fn a_resource_is_normal_after_14_known_days_within_its_bound() {
    let policy = Policy::default();
    let mut overuse = Overuse::default();
    let slot = |n| SlotIndex::containing(day(0, "00:00")).forth(n);
    let mut n = 0;
    let mut run = |overuse: &mut Overuse, slots: u32, judgement| {
        for _ in 0..slots {
            overuse.observe(&policy, slot(n), judgement);
            n += 1;
        }
    };
    run(&mut overuse, 500, Judgement::Over);
    run(&mut overuse, 4032 - 202, Judgement::Within);
    assert!(!overuse.is_normal(&policy), "202 of 4032 are above: more than a twentieth");
    run(&mut overuse, 1, Judgement::Within);
    assert!(overuse.is_normal(&policy));
    run(&mut overuse, 202, Judgement::Unknown);
    assert!(!overuse.is_normal(&policy), "too little is known");
}

#[test]
fn what_is_not_known_fits_no_plan_that_bounds_it() {
    let unknown = f64::INFINITY;
    let p95 = Resources { websockets: 1500.0, bytes_per_second: unknown, ..Resources::default() };
    let signs = ClientSigns::default();
    let offer =
        |rule, p95: &Resources| recommend(&Policy::default(), rule, p95, &signs, "free", &offers()).offer;
    assert_eq!(offer(Rule::R2, &p95), Offered::Talk);
    let p95 = Resources { websockets: 1500.0, upgrades_per_second: unknown, ..Resources::default() };
    assert_eq!(offer(Rule::R2, &p95), Offered::Plan("pro".to_owned()), "no plan bounds it");
    let p95 = Resources { websockets: 900.0, bytes_per_second: unknown, ..Resources::default() };
    assert_eq!(offer(Rule::R1, &p95), Offered::Exemption, "spikes alone never lead to an upgrade");
}
