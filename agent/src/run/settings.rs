//! What the configuration comes to in the kernel's tables.

use std::{collections::HashSet, net::SocketAddr};

use nix::unistd::{User, geteuid};
use weir_common::{
    host::HostPolicy,
    listener::{Listener, WEBSOCKETS},
    zone::{UNATTRIBUTED, UNCAPPED, ZoneKey},
};
use weir_config::{Config, Counts};

use super::AgentError;
use crate::{
    marks::{MarkCollision, Marks},
    zones::ZoneTable,
};

/// Addresses whose sockets are followed from birth, and what becomes of these.
pub(super) fn listening(config: &Config, zones: &ZoneTable) -> Vec<(SocketAddr, Listener)> {
    let listener =
        |slot, flags, cap: Option<u64>| Listener { slot, flags, source_cap: cap.unwrap_or(UNCAPPED) };
    let ours = listener(UNATTRIBUTED, 0, config.proxy.source_cap);
    let proxy = config.proxy.http.iter().chain(&config.proxy.https).map(|address| (*address, ours));
    let foreign = config.listeners.iter().filter_map(|foreign| {
        let slot = match &foreign.zone {
            Some(zone) => zones.by_key(ZoneKey::of(zone.as_str()))?.slot,
            None => UNATTRIBUTED,
        };
        let flags = if foreign.counts == Counts::Websockets { WEBSOCKETS } else { 0 };
        Some((foreign.address, listener(slot, flags, foreign.source_cap)))
    });
    proxy.chain(foreign).collect()
}

pub(super) fn listener_count(config: &Config) -> usize {
    config.proxy.http.len() + config.proxy.https.len() + config.listeners.len()
}

pub(super) fn marks(config: &Config) -> Result<Option<Marks>, MarkCollision> {
    let marks = config.agent.marks.map(|range| Marks::new(range, &config.zones)).transpose()?;
    if let Some(marks) = marks.as_ref().filter(|marks| !marks.unmarked().is_empty()) {
        let first: Vec<&str> = marks.unmarked().iter().take(TOLD_ZONES).map(|zone| &**zone).collect();
        tracing::error!(
            zones = marks.unmarked().len(),
            first = first.join(", "),
            "zones without a number in marks: give them one with `mark = ...`, or `marks` a mask that leaves more bits"
        );
    }
    Ok(marks)
}

/// Zones that are named where there may be many.
const TOLD_ZONES: usize = 10;

pub(super) fn host_policy(config: &Config) -> HostPolicy {
    HostPolicy {
        source_v4_len: config.agent.source_prefix_v4.into(),
        source_v6_len: config.agent.source_prefix_v6.into(),
        mark_mask: config.agent.marks.map_or(0, |range| range.mask.into()),
        mark_base: config.agent.marks.map_or(0, |range| range.base.into()),
        agent_uid: geteuid().as_raw().into(),
        adopting: 0,
        reserved: [0; 10],
    }
}

/// Users that may speak for zones: root, the proxy's, and those that the configuration names.
pub(super) fn tagging_uids(config: &Config) -> Result<HashSet<u32>, AgentError> {
    let named = config.agent.tag_users.iter().map(|user| (user, "agent.tag_users"));
    let mut uids = HashSet::from([0]);
    for (user, key) in std::iter::once((&config.proxy.user, "proxy.user")).chain(named) {
        let found = User::from_name(user).ok().flatten();
        let found = found.ok_or_else(|| AgentError::User { user: user.clone(), key })?;
        uids.insert(found.uid.as_raw());
    }
    Ok(uids)
}
