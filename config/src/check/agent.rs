//! `[agent]`.

use std::time::Duration;

use super::{
    WEEK,
    listeners::Listeners,
    proxy::{duration, user},
};
use crate::{
    model::{Agent, KernelLog},
    raw::Section,
};

const KERNEL_LOG: [(&str, KernelLog); 2] = [("off", KernelLog::Off), ("debug", KernelLog::Debug)];
const DEFAULT_ADMIN: &str = "127.0.0.1:9464";
const DEFAULT_LEDGER: &str = "/var/lib/weir/ledger.db";
const DEFAULT_MAX_ZONES: u32 = 16_384;
const MOST_ZONES: u32 = 1_000_000;

pub(super) fn read(section: &Section<'_>, listeners: &mut Listeners) -> Agent {
    let audit = Duration::from_secs(1)..=WEEK;
    Agent {
        admin: listeners.one(section, "admin", DEFAULT_ADMIN),
        ledger: section
            .get("ledger")
            .and_then(|value| value.path(&format!("{DEFAULT_LEDGER:?}")))
            .unwrap_or(DEFAULT_LEDGER.into()),
        cgroup: section.get("cgroup").and_then(|value| value.path("\"/sys/fs/cgroup\"")),
        tag_users: tag_users(section),
        max_zones: section
            .get("max_zones")
            .and_then(|value| value.number(1..=MOST_ZONES.into(), DEFAULT_MAX_ZONES.into()))
            .and_then(|number| number.try_into().ok())
            .unwrap_or(DEFAULT_MAX_ZONES),
        audit_interval: duration(section, "audit_interval", audit, Duration::from_secs(60)),
        program_stats: section.get("program_stats").and_then(|value| value.flag()).unwrap_or(true),
        kernel_log: section
            .get("kernel_log")
            .and_then(|value| value.choice(&KERNEL_LOG))
            .unwrap_or(KernelLog::Off),
    }
}

fn tag_users(section: &Section<'_>) -> Vec<String> {
    let names = section.get("tag_users").and_then(|value| value.texts("[\"www-data\"]")).unwrap_or_default();
    names.iter().filter_map(|(name, value)| user(name, value)).collect()
}

/// The kernel's maps have to have room for all zones.
pub(super) fn check_room(section: &Section<'_>, agent: &Agent, zones: usize) {
    if zones <= agent.max_zones as usize {
        return;
    }
    let message = format!("there are {zones} zones, but the kernel's maps have room for {}", agent.max_zones);
    let remedy = if zones <= MOST_ZONES as usize {
        format!("set max_zones in [agent] to {zones} or more; about 700 bytes of kernel memory each")
    } else {
        format!("one host has at most {MOST_ZONES} zones: spread them over more hosts")
    };
    match section.get("max_zones") {
        Some(value) => value.fault(message, remedy),
        None => section.fault(message, remedy),
    }
}
