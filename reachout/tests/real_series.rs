//! Three real series (see `data/README.md`): their decisions are pinned, and are those of the policy's words worked out from
//! scratch after every slot.

mod support;

use support::naive::Naive;
use weir_reachout::{
    decision::{Decision, Event},
    policy::Policy,
    series::Series,
    simulate::Simulation,
    slot::Judgement,
};

const UPS: &str = include_str!("data/realTweets_Twitter_volume_UPS.csv");
const ELB: &str = include_str!("data/realAWSCloudwatch_elb_request_count_8c0756.csv");
const OCCUPANCY: &str = include_str!("data/realTraffic_occupancy_t4013.csv");

/// Decisions by the detector, after they were compared with the naive ones.
fn decisions(csv: &str, guideline: u64) -> Vec<Decision> {
    let policy = Policy::default();
    let series = Series::read(csv.as_bytes()).expect("a good series");
    let found: Vec<_> = Simulation::new(&policy, guideline, &series).collect();

    let mut slots = series.slots().peekable();
    let first = slots.peek().expect("a slot").index;
    let mut naive = Naive::new(&policy, first);
    let mut expected = Vec::new();
    for slot in slots {
        let missing = slot.index.since(first) as usize - naive.history.len();
        let judged = std::iter::repeat_n(Judgement::Unknown, missing).chain([slot.judge(&policy, guideline)]);
        for judgement in judged.collect::<Vec<_>>() {
            let new = naive.observe(judgement);
            if new.iter().any(|decision| decision.event == Event::Closable) {
                naive.settle();
            }
            expected.extend(new);
        }
    }
    assert_eq!(found, expected);
    found
}

fn lines(csv: &str, guideline: u64) -> Vec<String> {
    let line = |decision: &Decision| {
        let event = serde_json::to_value(decision).expect("writes");
        let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
        format!(
            "{} {} {} {} {} {}",
            text("at"),
            text("event"),
            text("rule"),
            event["over_hours"],
            event["counted_spikes"],
            event["coverage"]
        )
    };
    decisions(csv, guideline).iter().map(line).collect()
}

#[test]
fn bursts_of_a_brand_at_100_are_one_case_that_never_calms_down() {
    assert_eq!(
        lines(UPS, 100),
        [
            "2015-03-03T21:45:00Z spike_counted - 0.17 1 1.0",
            "2015-03-04T21:30:00Z spike_counted - 1.25 2 1.0",
            "2015-03-05T19:05:00Z spike_counted - 2.5 3 1.0",
            "2015-03-05T19:05:00Z flagged - 2.5 3 1.0",
            "2015-03-06T16:55:00Z spike_counted - 4.17 4 1.0",
            "2015-03-08T10:30:00Z spike_counted - 5.67 5 1.0",
            "2015-03-09T22:05:00Z spike_counted - 7.33 6 1.0",
            "2015-03-10T18:10:00Z spike_counted - 9.33 7 1.0",
            "2015-03-12T00:20:00Z spike_counted - 9.75 8 1.0",
            "2015-03-12T00:20:00Z case_opened R1 9.75 8 1.0",
            "2015-03-12T23:05:00Z spike_counted - 10.42 9 1.0",
            "2015-03-14T01:30:00Z spike_counted - 11.17 10 1.0",
            "2015-03-16T08:45:00Z spike_counted - 12.58 11 1.0",
            "2015-03-18T02:55:00Z spike_counted - 12.92 12 1.0",
            "2015-03-24T18:25:00Z spike_counted - 13.33 13 1.0",
            "2015-03-26T09:20:00Z spike_counted - 14.08 14 1.0",
            "2015-03-29T10:25:00Z spike_counted - 14.75 15 1.0",
            "2015-04-01T21:10:00Z spike_counted - 15.17 16 1.0",
            "2015-04-03T06:50:00Z spike_counted - 16.0 16 1.0",
            "2015-04-06T14:45:00Z spike_counted - 11.0 14 1.0",
            "2015-04-09T10:10:00Z spike_counted - 9.08 13 1.0",
            "2015-04-14T12:50:00Z spike_counted - 4.92 10 1.0",
            "2015-04-15T16:20:00Z spike_counted - 5.0 10 1.0",
            "2015-04-16T13:55:00Z spike_counted - 5.67 11 1.0",
            "2015-04-17T18:55:00Z spike_counted - 5.67 11 1.0",
            "2015-04-18T19:05:00Z spike_counted - 6.42 12 1.0",
        ]
    );
}

#[test]
fn bursts_of_a_brand_at_180_calm_down_for_fourteen_days() {
    assert_eq!(
        lines(UPS, 180),
        [
            "2015-03-24T18:25:00Z spike_counted - 1.0 1 1.0",
            "2015-03-26T09:20:00Z spike_counted - 1.42 2 1.0",
            "2015-03-29T10:30:00Z spike_counted - 1.58 3 1.0",
            "2015-03-29T10:30:00Z flagged - 1.58 3 1.0",
            "2015-04-03T07:00:00Z spike_counted - 1.92 4 1.0",
            "2015-04-03T07:00:00Z case_opened R1 1.92 4 1.0",
            "2015-04-17T07:00:00Z closable - 1.42 4 1.0",
            "2015-04-18T04:40:00Z spike_counted - 1.58 5 1.0",
        ]
    );
}

#[test]
fn a_load_balancers_daily_peaks_at_150_are_r1_after_a_week() {
    assert_eq!(
        lines(ELB, 150),
        [
            "2014-04-10T12:00:00Z spike_counted - 0.58 1 0.9931",
            "2014-04-11T09:20:00Z spike_counted - 2.25 2 0.9975",
            "2014-04-12T05:50:00Z spike_counted - 4.08 3 0.9985",
            "2014-04-12T05:50:00Z flagged - 4.08 3 0.9985",
            "2014-04-13T14:30:00Z spike_counted - 5.08 4 0.9981",
            "2014-04-14T13:00:00Z spike_counted - 6.25 5 0.9977",
            "2014-04-15T12:15:00Z spike_counted - 8.17 6 0.9981",
            "2014-04-16T10:45:00Z spike_counted - 9.83 7 0.9978",
            "2014-04-17T10:15:00Z spike_counted - 11.92 8 0.9977",
            "2014-04-18T13:20:00Z spike_counted - 13.0 9 0.9972",
            "2014-04-18T13:20:00Z case_opened R1 13.0 9 0.9972",
            "2014-04-21T13:35:00Z spike_counted - 14.75 10 0.9976",
            "2014-04-22T17:05:00Z spike_counted - 16.08 11 0.9978",
            "2014-04-23T15:35:00Z spike_counted - 18.17 12 0.998",
        ]
    );
}

#[test]
fn half_a_series_still_proves_its_spikes() {
    assert_eq!(
        lines(OCCUPANCY, 12),
        [
            "2015-09-01T12:00:00Z spike_counted - 0.17 1 0.6667",
            "2015-09-03T09:20:00Z spike_counted - 5.92 2 0.6455",
            "2015-09-04T08:20:00Z spike_counted - 6.92 3 0.6392",
            "2015-09-04T08:20:00Z flagged - 6.92 3 0.6392",
            "2015-09-08T12:10:00Z spike_counted - 7.42 4 0.3226",
            "2015-09-08T12:10:00Z case_opened R1 7.42 4 0.3226",
            "2015-09-10T08:25:00Z spike_counted - 7.92 5 0.3511",
            "2015-09-11T07:15:00Z spike_counted - 8.83 6 0.3828",
            "2015-09-14T07:05:00Z spike_counted - 9.83 7 0.4525",
            "2015-09-15T07:15:00Z spike_counted - 11.0 8 0.475",
            "2015-09-16T06:35:00Z spike_counted - 11.75 9 0.4985",
            "2015-09-17T07:35:00Z spike_counted - 14.0 10 0.5231",
        ]
    );
}
