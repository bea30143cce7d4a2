//! `[plans.NAME]`.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Bounds, Notify, Plan, PlanName},
    raw::{PLAN, Section, Value},
};

/// What a TOML integer can say.
const MOST: u64 = i64::MAX as u64;
/// The abuse cap of a plan that has none, in guidelines.
const ABUSE_FACTOR: u64 = 10;

const NOTIFY: [(&str, Notify); 2] = [("manual", Notify::Manual), ("automatic", Notify::Automatic)];

/// By name. A faulty plan is in it too, so that its zones are not said to have an unknown one.
pub(super) type Plans = BTreeMap<String, Arc<Plan>>;

pub(super) fn read(plans: Option<Value<'_>>) -> Plans {
    let entries = plans.map(|plans| plans.entries(&PLAN)).unwrap_or_default();
    let plan = |(name, section): (&str, Section<'_>)| (name.to_owned(), Arc::new(plan(name, &section)));
    entries.into_iter().map(plan).collect()
}

fn plan(name: &str, section: &Section<'_>) -> Plan {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(good) {
        section.fault(format!("{name:?} is no plan's name"), "write 1 to 64 of A-Z a-z 0-9 . - _");
    }
    let guideline = section.required("guideline", "500").and_then(|value| value.number(1..=MOST, 500));
    let default_cap = guideline.unwrap_or(MOST).saturating_mul(ABUSE_FACTOR).min(MOST);
    let abuse_cap = section.get("abuse_cap").and_then(|value| abuse_cap(&value, guideline.unwrap_or(1)));
    Plan {
        name: PlanName(name.into()),
        guideline: guideline.unwrap_or(1),
        abuse_cap: abuse_cap.unwrap_or(default_cap),
        socket_cap: section.get("socket_cap").and_then(|value| value.number(1..=MOST, default_cap)),
        source_cap: source_cap(section),
        bounds: bounds(section),
        notify: section.get("notify").and_then(|value| value.choice(&NOTIFY)).unwrap_or_default(),
    }
}

/// What the plan is made for beside WebSockets.
fn bounds(section: &Section<'_>) -> Bounds {
    let bound = |key, example| section.get(key).and_then(|value| value.number(1..=MOST, example));
    Bounds {
        socket_memory_bytes: bound("socket_memory_bytes", 64 << 20),
        bytes_per_second: bound("bytes_per_second", 1_000_000),
        upgrades_per_second: bound("upgrades_per_second", 50),
    }
}

/// Live sockets of one source prefix.
pub(super) fn source_cap(section: &Section<'_>) -> Option<u64> {
    section.get("source_cap").and_then(|value| value.number(1..=MOST, 1000))
}

fn abuse_cap(value: &Value<'_>, guideline: u64) -> Option<u64> {
    let cap = value.number(1..=MOST, guideline.saturating_mul(ABUSE_FACTOR))?;
    if cap < guideline {
        value.fault(
            format!(
                "the abuse cap {cap} is below the guideline {guideline}: it would refuse what the plan allows"
            ),
            format!(
                "set abuse_cap well above the guideline; without it, it is {ABUSE_FACTOR} times the guideline"
            ),
        );
    }
    Some(cap)
}
