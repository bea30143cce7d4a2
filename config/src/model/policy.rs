//! `[policy]`: every number by which usage is judged and people are written to; what is left out has the default of the
//! policy's text (`docs/reachout.md`). Durations are whole numbers in the unit of their name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an operator may set; everything has the policy's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyParams {
    /// The operator's own number, for reading; default 1.
    pub version: u32,
    pub detection: Detection,
    pub contact: Contact,
    pub abuse: Abuse,
    pub recommend: Recommend,
}

impl Default for PolicyParams {
    fn default() -> Self {
        Self {
            version: 1,
            detection: Detection::default(),
            contact: Contact::default(),
            abuse: Abuse::default(),
            recommend: Recommend::default(),
        }
    }
}

/// When usage opens a case, and when it is back to normal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// A slot above this many guidelines is over; default 1.10.
    pub over_ratio: f64,
    /// Under time that ends an episode; default 60.
    pub episode_gap_minutes: u32,
    /// Over time that makes an episode a spike; default 10.
    pub spike_minutes: u32,
    /// From the start of one counted spike to the next one's, at least; default 20.
    pub counted_gap_hours: u32,
    /// The budgets look back this far; default 30.
    pub window_days: u32,
    /// R1: counted spikes in the window; default 4.
    pub repeated_spikes: u32,
    /// R1: from the first of them to the last, at least; default 7.
    pub repeated_spread_days: u32,
    /// R2 and R3: more over time than this in the window; default 36.
    pub sustained_hours: f64,
    /// Flagged at this part of the R2 budget; default 0.75.
    pub flagged_budget_ratio: f64,
    /// Flagged at this many counted spikes; default 3.
    pub flagged_spikes: u32,
    /// Back to normal is looked for over this long; default 14.
    pub normal_days: u32,
    /// ... with at least this share of the slots known; default 0.95.
    pub normal_coverage: f64,
    /// ... and this percentile; default 0.95.
    pub normal_percentile: f64,
    /// ... at most this many guidelines; default 1.0.
    pub normal_ratio: f64,
    /// R3: the zone's dominant share of the fleet above which it is asked to move; default 0.005.
    pub materiality: f64,
    /// Operators are told of a zone above this many guidelines; default 10 (the abuse cap's default); no case follows from it.
    pub surge_ratio: f64,
    /// ... for this long; default 60.
    pub surge_minutes: u32,
}

impl Default for Detection {
    fn default() -> Self {
        Self {
            over_ratio: 1.10,
            episode_gap_minutes: 60,
            spike_minutes: 10,
            counted_gap_hours: 20,
            window_days: 30,
            repeated_spikes: 4,
            repeated_spread_days: 7,
            sustained_hours: 36.0,
            flagged_budget_ratio: 0.75,
            flagged_spikes: 3,
            normal_days: 14,
            normal_coverage: 0.95,
            normal_percentile: 0.95,
            normal_ratio: 1.0,
            materiality: 0.005,
            surge_ratio: 10.0,
            surge_minutes: 60,
        }
    }
}

/// How people are written to, and what must have happened before a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contact {
    /// From a delivered contact to the earliest limit; default 14.
    pub grace_days: u32,
    /// Between two notices to one zone, whatever they are about; default 72.
    pub zone_gap_hours: u32,
    /// Between two notices of one case; default 7.
    pub case_gap_days: u32,
    /// Notices of one case; default 3.
    pub per_case: u8,
    /// Life of a limit's lease, renewed while it is right; default 5.
    pub lease_minutes: u32,
}

impl Default for Contact {
    fn default() -> Self {
        Self { grace_days: 14, zone_gap_hours: 72, case_gap_days: 7, per_case: 3, lease_minutes: 5 }
    }
}

/// When a zone's traffic is suspected of abuse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Abuse {
    /// A family speaks only after its signal has held this long; default 30.
    pub confirm_seconds: u32,
    /// Shape: growth by this factor; default 10.
    pub shape_ratio: f64,
    /// ... within this time; default 60.
    pub shape_seconds: u32,
    /// The shape family is silent for this long after our own restart; default 10.
    pub restart_silence_minutes: u32,
    /// Source, behaviour and handshake: the share that speaks; default 0.5.
    pub share: f64,
    /// ... and at least this many times the zone's own baseline; default 2.
    pub baseline_ratio: f64,
    /// A baseline is worth something after this long; default 60.
    pub baseline_minutes: u32,
    /// Prefixes that count as the top ones; default 3.
    pub top_prefixes: usize,
    /// Live WebSockets below which nothing is suspected; default 100.
    pub minimum_live: u64,
    /// Life of a verdict, renewed while its evidence lasts; default 15.
    pub verdict_minutes: u32,
    /// A mitigation without a person's word ends after this; default 24.
    pub unattended_hours: u32,
}

impl Default for Abuse {
    fn default() -> Self {
        Self {
            confirm_seconds: 30,
            shape_ratio: 10.0,
            shape_seconds: 60,
            restart_silence_minutes: 10,
            share: 0.5,
            baseline_ratio: 2.0,
            baseline_minutes: 60,
            top_prefixes: 3,
            minimum_live: 100,
            verdict_minutes: 15,
            unattended_hours: 24,
        }
    }
}

/// How a plan is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recommend {
    /// The plan's guideline holds this many times the 95th percentile; default 1.25.
    pub headroom: f64,
    /// Days of known usage that a forecast needs; default 7.
    pub forecast_days: u32,
    /// A forecast further away than this is not made; default 180.
    pub horizon_days: u32,
}

impl Default for Recommend {
    fn default() -> Self {
        Self { headroom: 1.25, forecast_days: 7, horizon_days: 180 }
    }
}

/// A parameter that would make the policy say something it cannot mean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy: {name} is {is}; {remedy}")]
pub struct PolicyError {
    /// Dotted, as it is written: `detection.over_ratio`.
    pub name: &'static str,
    pub is: String,
    pub remedy: &'static str,
}

impl PolicyParams {
    /// What they cannot mean, each alone and together.
    pub fn faults(&self) -> Vec<PolicyError> {
        faults(self)
    }
}

fn faults(p: &PolicyParams) -> Vec<PolicyError> {
    let mut faults = Vec::new();
    let mut number = |name: &'static str, is: &dyn fmt::Display, good: bool, remedy: &'static str| {
        if !good {
            faults.push(PolicyError { name, is: is.to_string(), remedy });
        }
    };
    let d = &p.detection;
    let positive = "write a number above 0";
    let share = "write a share above 0 and at most 1";
    number("detection.over_ratio", &d.over_ratio, (1.0..=100.0).contains(&d.over_ratio), "write 1.0 to 100");
    for (name, n) in [
        ("detection.episode_gap_minutes", d.episode_gap_minutes),
        ("detection.spike_minutes", d.spike_minutes),
        ("detection.window_days", d.window_days),
        ("detection.repeated_spikes", d.repeated_spikes),
        ("detection.flagged_spikes", d.flagged_spikes),
        ("detection.normal_days", d.normal_days),
        ("detection.surge_minutes", d.surge_minutes),
        ("contact.lease_minutes", p.contact.lease_minutes),
        ("contact.per_case", p.contact.per_case.into()),
        ("abuse.verdict_minutes", p.abuse.verdict_minutes),
        ("abuse.shape_seconds", p.abuse.shape_seconds),
    ] {
        number(name, &n, n > 0, positive);
    }
    // Longer ones would not be days of a window, and would overflow when they are counted in slots.
    for (name, n, most) in [
        ("detection.window_days", d.window_days, 366),
        ("detection.repeated_spread_days", d.repeated_spread_days, 366),
        ("detection.counted_gap_hours", d.counted_gap_hours, 366 * 24),
        ("detection.episode_gap_minutes", d.episode_gap_minutes, 366 * 24 * 60),
        ("detection.spike_minutes", d.spike_minutes, 366 * 24 * 60),
        ("detection.surge_minutes", d.surge_minutes, 366 * 24 * 60),
    ] {
        number(name, &n, n <= most, "at most 366 days");
    }
    number("detection.normal_days", &d.normal_days, d.normal_days <= d.window_days, "at most window_days");
    for (name, n) in [
        ("detection.flagged_budget_ratio", d.flagged_budget_ratio),
        ("detection.normal_coverage", d.normal_coverage),
        ("detection.normal_percentile", d.normal_percentile),
        ("abuse.share", p.abuse.share),
    ] {
        number(name, &n, n > 0.0 && n <= 1.0, share);
    }
    let normal_below_over = d.normal_ratio > 0.0 && d.normal_ratio <= d.over_ratio;
    number("detection.normal_ratio", &d.normal_ratio, normal_below_over, "above 0 and at most over_ratio");
    number(
        "detection.materiality",
        &d.materiality,
        (0.0..=1.0).contains(&d.materiality),
        "write a share, 0 to 1",
    );
    for (name, n) in [
        ("detection.sustained_hours", d.sustained_hours),
        ("detection.surge_ratio", d.surge_ratio),
        ("abuse.shape_ratio", p.abuse.shape_ratio),
        ("abuse.baseline_ratio", p.abuse.baseline_ratio),
        ("recommend.headroom", p.recommend.headroom),
    ] {
        number(name, &n, n > 0.0 && n.is_finite(), positive);
    }
    faults
}
