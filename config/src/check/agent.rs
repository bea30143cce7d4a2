//! `[agent]`.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    WEEK,
    foreign::marks,
    listeners::Listeners,
    proxy::{duration, user},
};
use crate::{
    model::{Agent, InstanceName, KernelLog, Operator},
    raw::{Section, Value},
};

const KERNEL_LOG: [(&str, KernelLog); 2] = [("off", KernelLog::Off), ("debug", KernelLog::Debug)];
const DEFAULT_ADMIN: &str = "127.0.0.1:9464";
const DEFAULT_INSTANCE: &str = "default";
/// `sun_path` of a Unix socket's address, without the 0 at its end.
const LONGEST_SOCKET: usize = 107;
const DEFAULT_MAX_ZONES: u32 = 16_384;
const MOST_ZONES: u32 = 1_000_000;
const DEFAULT_MAX_SOURCES: u32 = 262_144;
const MOST_SOURCES: u32 = 16_777_216;

pub(super) fn read(section: &Section<'_>, instance: &InstanceName, listeners: &mut Listeners) -> Agent {
    let audit = Duration::from_secs(1)..=WEEK;
    Agent {
        admin: listeners.one(section, "admin", DEFAULT_ADMIN),
        socket: socket(section, own("/run/weir", instance, "agent.sock")),
        operators: operators(section),
        ledger: path(section, "ledger", own("/var/lib/weir", instance, "ledger.db")),
        cgroup: section.get("cgroup").and_then(|value| value.path("\"/sys/fs/cgroup\"")),
        tag_users: tag_users(section),
        max_zones: number(section, "max_zones", 1..=MOST_ZONES, DEFAULT_MAX_ZONES),
        max_sources: number(section, "max_sources", 1..=MOST_SOURCES, DEFAULT_MAX_SOURCES),
        source_prefix_v4: number(section, "source_prefix_v4", 0..=32, 32),
        source_prefix_v6: number(section, "source_prefix_v6", 0..=128, 64),
        marks: marks(section),
        audit_interval: duration(section, "audit_interval", audit, Duration::from_secs(60)),
        program_stats: section.get("program_stats").and_then(|value| value.flag()).unwrap_or(true),
        kernel_log: section
            .get("kernel_log")
            .and_then(|value| value.choice(&KERNEL_LOG))
            .unwrap_or(KernelLog::Off),
    }
}

fn number(section: &Section<'_>, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
    let wide = u64::from(*range.start())..=u64::from(*range.end());
    let value = section.get(key).and_then(|value| value.number(wide, default.into()));
    value.and_then(|number| number.try_into().ok()).unwrap_or(default)
}

/// A file of this instance alone: two agents on a host must not meet.
fn own(folder: &str, instance: &InstanceName, name: &str) -> PathBuf {
    match instance.as_str() {
        DEFAULT_INSTANCE => PathBuf::from(folder).join(name),
        instance => PathBuf::from(folder).join(instance).join(name),
    }
}

fn path(section: &Section<'_>, key: &'static str, default: PathBuf) -> PathBuf {
    section.get(key).and_then(|value| value.path(&format!("{default:?}"))).unwrap_or(default)
}

fn socket(section: &Section<'_>, default: PathBuf) -> PathBuf {
    let path = path(section, "socket", default);
    let len = path.as_os_str().len();
    if len > LONGEST_SOCKET {
        let message =
            format!("the path of the socket has {len} bytes, and the kernel takes {LONGEST_SOCKET}");
        let remedy = "name a shorter one, for example socket = \"/run/weir/agent.sock\"";
        match section.get("socket") {
            Some(value) => value.fault(message, remedy),
            None => section.fault(message, remedy),
        }
    }
    path
}

fn operators(section: &Section<'_>) -> Vec<Operator> {
    let Some(value) = section.get("operators") else { return vec![Operator::User("root".to_owned())] };
    let names = value.texts("[\"root\", \"@weir\"]").unwrap_or_default();
    let operator = |(name, value): &(&str, Value<'_>)| match name.strip_prefix('@') {
        Some(group) => user(group, value).map(Operator::Group),
        None => user(name, value).map(Operator::User),
    };
    names.iter().filter_map(operator).collect()
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
