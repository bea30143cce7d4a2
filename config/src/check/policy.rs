//! `[policy]`.

use crate::{
    model::PolicyParams,
    raw::{ABUSE, CONTACT, DETECTION, RECOMMEND, Section, Value},
};

pub(super) fn read(policy: &Section<'_>) -> PolicyParams {
    let mut params = PolicyParams::default();
    whole(policy, "version", &mut params.version);
    let (section, of) = (policy.section("detection", &DETECTION), &mut params.detection);
    decimal(&section, "over_ratio", &mut of.over_ratio);
    whole(&section, "episode_gap_minutes", &mut of.episode_gap_minutes);
    whole(&section, "spike_minutes", &mut of.spike_minutes);
    whole(&section, "counted_gap_hours", &mut of.counted_gap_hours);
    whole(&section, "window_days", &mut of.window_days);
    whole(&section, "repeated_spikes", &mut of.repeated_spikes);
    whole(&section, "repeated_spread_days", &mut of.repeated_spread_days);
    decimal(&section, "sustained_hours", &mut of.sustained_hours);
    decimal(&section, "flagged_budget_ratio", &mut of.flagged_budget_ratio);
    whole(&section, "flagged_spikes", &mut of.flagged_spikes);
    whole(&section, "normal_days", &mut of.normal_days);
    decimal(&section, "normal_coverage", &mut of.normal_coverage);
    decimal(&section, "normal_percentile", &mut of.normal_percentile);
    decimal(&section, "normal_ratio", &mut of.normal_ratio);
    decimal(&section, "materiality", &mut of.materiality);
    decimal(&section, "surge_ratio", &mut of.surge_ratio);
    whole(&section, "surge_minutes", &mut of.surge_minutes);
    let (section, of) = (policy.section("contact", &CONTACT), &mut params.contact);
    whole(&section, "grace_days", &mut of.grace_days);
    whole(&section, "zone_gap_hours", &mut of.zone_gap_hours);
    whole(&section, "case_gap_days", &mut of.case_gap_days);
    whole(&section, "per_case", &mut of.per_case);
    whole(&section, "lease_minutes", &mut of.lease_minutes);
    let (section, of) = (policy.section("abuse", &ABUSE), &mut params.abuse);
    whole(&section, "confirm_seconds", &mut of.confirm_seconds);
    decimal(&section, "shape_ratio", &mut of.shape_ratio);
    whole(&section, "shape_seconds", &mut of.shape_seconds);
    whole(&section, "restart_silence_minutes", &mut of.restart_silence_minutes);
    decimal(&section, "share", &mut of.share);
    decimal(&section, "baseline_ratio", &mut of.baseline_ratio);
    whole(&section, "baseline_minutes", &mut of.baseline_minutes);
    whole(&section, "top_prefixes", &mut of.top_prefixes);
    whole(&section, "minimum_live", &mut of.minimum_live);
    whole(&section, "verdict_minutes", &mut of.verdict_minutes);
    whole(&section, "unattended_hours", &mut of.unattended_hours);
    let (section, of) = (policy.section("recommend", &RECOMMEND), &mut params.recommend);
    decimal(&section, "headroom", &mut of.headroom);
    whole(&section, "forecast_days", &mut of.forecast_days);
    whole(&section, "horizon_days", &mut of.horizon_days);
    for fault in params.faults() {
        let message = format!("`policy.{}` is {}, which the policy cannot mean", fault.name, fault.is);
        match place(policy, fault.name) {
            Some(value) => value.fault(message, fault.remedy),
            None => policy.fault(message, fault.remedy),
        }
    }
    params
}

/// Where a parameter is written; nowhere if it has its default.
fn place<'a>(policy: &Section<'a>, name: &str) -> Option<Value<'a>> {
    let (section, key) = name.split_once('.')?;
    [("detection", &DETECTION), ("contact", &CONTACT), ("abuse", &ABUSE), ("recommend", &RECOMMEND)]
        .into_iter()
        .filter(|(name, _)| *name == section)
        .find_map(|(name, keys)| {
            let key = keys.keys.iter().find(|known| **known == key)?;
            policy.section(name, keys).get(key)
        })
}

/// A whole number into the place of the default.
fn whole<N: TryFrom<u64> + TryInto<u64> + Copy>(section: &Section<'_>, key: &'static str, place: &mut N) {
    let example = (*place).try_into().unwrap_or(1);
    // What each may be is the policy's to say; here it is what fits.
    let most = if size_of::<N>() >= 8 { i64::MAX as u64 } else { (1 << (8 * size_of::<N>())) - 1 };
    let number = section.get(key).and_then(|value| value.number(0..=most, example));
    if let Some(Ok(number)) = number.map(N::try_from) {
        *place = number;
    }
}

fn decimal(section: &Section<'_>, key: &'static str, place: &mut f64) {
    if let Some(number) = section.get(key).and_then(|value| value.decimal(*place)) {
        *place = number;
    }
}
