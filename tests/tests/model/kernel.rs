//! The kernel's own numbers, from the pinned maps: there whether an agent runs or not.

use std::{collections::BTreeMap, mem::offset_of, net::Ipv6Addr};

use aya::maps::{Array, HashMap, Map, MapData};
use weir_common::{
    names,
    source::SourceUsage,
    zone::{ZoneKey, ZonePolicy, ZoneUsage},
};
use weir_tests::World;

use crate::books::{Books, Caps, Counts};

const POLICY: usize = size_of::<ZonePolicy>() / 8;
const USAGE: usize = size_of::<ZoneUsage>() / 8;
const UNCAPPED: u64 = u64::MAX;

macro_rules! word {
    ($of:ident, $row:expr, $field:ident) => {
        $row[offset_of!($of, $field) / 8]
    };
}

pub struct Kernel {
    names: BTreeMap<u64, String>,
    slots: HashMap<MapData, u64, u32>,
    policies: Array<MapData, [u64; POLICY]>,
    usages: Array<MapData, [u64; USAGE]>,
    sources: HashMap<MapData, [u32; 5], [u64; 4]>,
    listeners: HashMap<MapData, [u32; 5], [u32; 4]>,
    /// Port of the dedicated listener.
    dedicated: u16,
}

impl Kernel {
    pub fn open(world: &World, names: &[&str], dedicated: u16) -> Self {
        let map = |name| MapData::from_pin(world.pins().join(name)).expect("a pinned map");
        Self {
            names: names.iter().map(|name| (ZoneKey::of(name).to_raw(), (*name).to_owned())).collect(),
            slots: Map::HashMap(map(names::MAP_ZONE_SLOTS)).try_into().expect("a hash map"),
            policies: Map::Array(map(names::MAP_ZONE_POLICY)).try_into().expect("an array"),
            usages: Map::Array(map(names::MAP_ZONE_USAGE)).try_into().expect("an array"),
            sources: Map::HashMap(map(names::MAP_SOURCES)).try_into().expect("a hash map"),
            listeners: Map::HashMap(map(names::MAP_LISTENERS)).try_into().expect("a hash map"),
            dedicated,
        }
    }

    /// What is counted, or a number that contradicts another.
    pub fn counts(&self) -> Result<Counts, String> {
        let mut counts = Counts::default();
        for slot in 0..self.usages.len() {
            let usage = self.usages.get(&slot, 0).map_err(|error| error.to_string())?;
            let live = (word!(ZoneUsage, usage, sockets), word!(ZoneUsage, usage, websockets));
            let by_totals = (
                word!(ZoneUsage, usage, joined_total).wrapping_sub(word!(ZoneUsage, usage, left_total)),
                word!(ZoneUsage, usage, admitted_total).wrapping_sub(word!(ZoneUsage, usage, ended_total)),
            );
            if live != by_totals {
                return Err(format!("slot {slot}: {live:?} live, and {by_totals:?} by its totals"));
            }
            let key = word!(ZonePolicy, self.policies.get(&slot, 0).map_err(|error| error.to_string())?, key);
            match self.names.get(&key) {
                _ if slot == 0 => counts.unattributed = live.0,
                _ if live == (0, 0) => {}
                Some(name) => drop(counts.zones.insert(name.clone(), live)),
                None => return Err(format!("slot {slot} is nobody's, and counts {live:?}")),
            }
        }
        for row in self.sources.iter() {
            // A row may go while they are read; then they are read again.
            let (key, row) = row.map_err(|error| error.to_string())?;
            counts.sources.insert(written(key), word!(SourceUsage, row, live));
        }
        Ok(counts)
    }

    /// Why the kernel does not know exactly these zones, caps and listener.
    pub fn misses(&self, books: &Books) -> Result<(), String> {
        let mut known = BTreeMap::new();
        for row in self.slots.iter() {
            let (key, slot) = row.map_err(|error| error.to_string())?;
            let policy = self.policies.get(&slot, 0).map_err(|error| error.to_string())?;
            let caps = Caps {
                websockets: word!(ZonePolicy, policy, abuse_cap),
                sockets: Some(word!(ZonePolicy, policy, socket_cap)).filter(|cap| *cap != UNCAPPED),
                of_source: Some(word!(ZonePolicy, policy, source_cap)).filter(|cap| *cap != UNCAPPED),
            };
            known.insert(self.names.get(&key).ok_or("a key of no zone")?.clone(), (slot, caps));
        }
        let caps: BTreeMap<_, _> = known.iter().map(|(name, (_, caps))| (name.clone(), *caps)).collect();
        let port = u32::from(self.dedicated);
        let listener = self.listeners.get(&[0, 0, 0, 0, port], 0).ok().map(|listener| listener[0]);
        let wanted = books.dedicated.as_ref().and_then(|name| known.get(name)).map(|(slot, _)| *slot);
        if caps == books.zones && listener == wanted {
            return Ok(());
        }
        Err(format!("zones {known:?}, and the listener is that of slot {listener:?}"))
    }
}

/// As `books` calls it.
fn written(key: [u32; 5]) -> String {
    let [a, b, c, d, prefix_len] = key;
    let octets: Vec<u8> = [a, b, c, d].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets).expect("16 bytes"));
    match address.to_ipv4_mapped() {
        Some(v4) => format!("{v4}/{}", prefix_len - 96),
        None => format!("{address}/{prefix_len}"),
    }
}
