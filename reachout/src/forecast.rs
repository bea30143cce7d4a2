//! When a growing zone will pass its guideline: a range of dates, never a day.
//!
//! Each day's 95th percentile, as a logarithm, against its day; the slope is the median of the slopes between all pairs
//! of days (Theil and Sen), which a few great days do not move, and the range comes from the slopes' quartiles. A trend is
//! one only if nearly all of these slopes rise. Days with unknown parts, and days of attacks, are left out.

use crate::{
    policy::Policy,
    slot::{Judgement, Slot},
};
use time::{Date, Duration, OffsetDateTime};

/// When the daily 95th percentile passes 1.10 of the guideline, if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    pub earliest: Date,
    pub latest: Date,
}

/// A day's usage that is known well enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Day {
    pub date: Date,
    pub p95: f64,
}

/// The days of a history of slots in order. What is judged unknown (incomplete, or of an attack) is left out.
pub fn days<'a>(policy: &Policy, slots: impl IntoIterator<Item = (&'a Slot, Judgement)>) -> Vec<Day> {
    let mut days: Vec<(Date, Vec<f64>)> = Vec::new();
    for (slot, judgement) in slots {
        let date = slot.index.start().date();
        if days.last().is_none_or(|(last, _)| *last != date) {
            days.push((date, Vec::new()));
        }
        if let Some((_, values)) = days.last_mut().filter(|_| judgement.is_known()) {
            values.push(slot.value);
        }
    }
    let enough = policy.detection().normal_coverage * 288.0;
    let known = days.into_iter().filter(|(_, values)| values.len() as f64 >= enough);
    known.filter_map(|(date, mut values)| Some(Day { date, p95: percentile(&mut values, 0.95)? })).collect()
}

/// The nearest-rank percentile; none of nothing.
pub fn percentile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share - 1e-6).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// None without a trend, above the bound already, or beyond the policy's horizon.
pub fn forecast(policy: &Policy, days: &[Day], guideline: u64) -> Option<Forecast> {
    let params = &policy.params().recommend;
    if days.len() < params.forecast_days as usize {
        return None;
    }
    let points: Vec<(f64, f64)> =
        days.iter().map(|day| (f64::from(day.date.to_julian_day()), day.p95.max(1.0).ln())).collect();
    let mut slopes = Vec::new();
    for (n, (x1, y1)) in points.iter().enumerate() {
        slopes.extend(points[n + 1..].iter().map(|(x2, y2)| (y2 - y1) / (x2 - x1)));
    }
    let steep = percentile(&mut slopes, 0.75)?;
    let (flat, middle) = (percentile(&mut slopes, 0.25)?, percentile(&mut slopes, 0.5)?);
    if flat <= 0.0 {
        return None;
    }
    let today = points.last()?.0;
    let mut levels: Vec<f64> = points.iter().map(|(x, y)| y + middle * (today - x)).collect();
    let level = percentile(&mut levels, 0.5)?;
    let missing = (policy.detection().over_ratio * guideline as f64).max(1.0).ln() - level;
    if missing <= 0.0 {
        return None;
    }
    // A tenth of the way on both sides is the least that such a guess is off.
    let soon = (missing / steep).min(missing / middle * 0.9).floor();
    let late = (missing / flat).max(missing / middle * 1.1).ceil();
    let horizon = f64::from(params.horizon_days);
    let from = days.last()?.date;
    let date = |days: f64| from.checked_add(Duration::seconds_f64(days * 86_400.0));
    (soon <= horizon)
        .then(|| Some(Forecast { earliest: date(soon)?, latest: date(late.min(horizon * 2.0))? }))?
}

/// True while the forecast is ahead of `now`.
pub fn is_ahead(forecast: &Forecast, now: OffsetDateTime) -> bool {
    now.date() <= forecast.latest
}
