//! Where clients come from: the busiest sources, of the host and of a zone.
//!
//! Of the host they are read from the kernel's table; of a zone from the kernel's socket list, as the table knows no zones: one
//! walk over all sockets, so it is for people and evidence, not for scrapes.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use weir_common::{
    listener::is_mapped,
    socket::{ADMITTED, COUNTED, SOURCED},
    source::{MAPPED_LEN, SourceKey, SourceUsage},
};

use crate::{
    api::{SourceRecord, SourcesReply},
    kernel::{KernelError, list_sockets},
    state::{State, lock},
};

/// The busiest sources, `top` of them; of the whole host if no slot is named.
pub fn busiest(state: &State, slot: Option<u32>, top: usize) -> Result<SourcesReply, KernelError> {
    let mut rows: HashMap<SourceKey, (u64, Option<u64>)> = HashMap::new();
    let mut uncounted = 0;
    match slot {
        None => state.sources.each(|key, usage| {
            let live = SourceUsage::live(usage.live);
            if live > 0 {
                rows.insert(key, (live, None));
            }
        })?,
        Some(slot) => list_sockets(&state.tags, |socket| {
            let Some(tag) = socket.tag.filter(|tag| tag.slot == slot && tag.flags & COUNTED != 0) else {
                return;
            };
            if tag.flags & SOURCED == 0 {
                uncounted += 1;
                return;
            }
            let (sockets, websockets) = rows.entry(tag.source).or_insert((0, Some(0)));
            *sockets += 1;
            *websockets = websockets.map(|n| n + u64::from(tag.flags & ADMITTED != 0));
        })
        .map_err(KernelError::SockDiag)?,
    }
    let sockets = rows.values().map(|(sockets, _)| sockets).sum();
    let sources = rows.len() as u64;
    let mut busiest: Vec<SourceRecord> = rows
        .into_iter()
        .map(|(key, (sockets, websockets))| SourceRecord { source: text(&key), sockets, websockets })
        .collect();
    busiest.sort_unstable_by(|a, b| b.sockets.cmp(&a.sockets).then_with(|| a.source.cmp(&b.source)));
    busiest.truncate(top);
    let zone = slot.map(|slot| zone_of(state, slot));
    let uncounted = slot.map(|_| uncounted);
    Ok(SourcesReply { zone, sources, sockets, uncounted, top: busiest, capacity: state.sources.capacity() })
}

fn zone_of(state: &State, slot: u32) -> String {
    let zones = lock(&state.zones);
    zones
        .entries()
        .iter()
        .find(|entry| entry.slot == slot)
        .map_or_else(String::new, |entry| entry.name.to_string())
}

/// `192.0.2.7/32`, `2001:db8::/64`.
pub fn text(key: &SourceKey) -> String {
    let octets: Vec<u8> = key.address.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let v6 = <[u8; 16]>::try_from(octets).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from);
    if is_mapped(&key.address) && key.prefix_len >= MAPPED_LEN {
        let v4 = v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
        return format!("{v4}/{}", key.prefix_len - MAPPED_LEN);
    }
    format!("{v6}/{}", key.prefix_len)
}

#[cfg(test)]
mod tests {
    use weir_common::listener::words;

    use super::*;

    #[test]
    fn a_source_is_written_as_a_prefix_of_its_family() {
        let key = |address: &str, v4_len, v6_len| {
            SourceKey::of(&words(address.parse::<Ipv6Addr>().unwrap().octets()), v4_len, v6_len)
        };
        assert_eq!(text(&key("::ffff:192.0.2.7", 32, 64)), "192.0.2.7/32");
        assert_eq!(text(&key("::ffff:192.0.2.7", 24, 64)), "192.0.2.0/24");
        assert_eq!(text(&key("2001:db8:1:2:3::", 32, 64)), "2001:db8:1:2::/64");
    }
}
