//! The kernel's counts as they lie in the pinned map: read, and falsified, without an agent.

use std::mem::offset_of;

use aya::maps::{Array, Map, MapData};
use weir_common::{names, zone::ZoneUsage};

use crate::World;

const WORDS: usize = size_of::<ZoneUsage>() / size_of::<u64>();
const SOCKETS: usize = offset_of!(ZoneUsage, sockets) / size_of::<u64>();
const WEBSOCKETS: usize = offset_of!(ZoneUsage, websockets) / size_of::<u64>();

/// The pinned counts of all slots.
pub struct Pinned(Array<MapData, [u64; WORDS]>);

impl World {
    /// Opens the counts that the agent of this world pinned.
    pub fn pinned(&self) -> Pinned {
        let pinned = MapData::from_pin(self.pins().join(names::MAP_ZONE_USAGE)).expect("a pinned map");
        Pinned(Map::Array(pinned).try_into().expect("an array"))
    }
}

impl Pinned {
    /// Live sockets and live WebSockets of a slot.
    pub fn live(&self, slot: u32) -> (u64, u64) {
        let usage = self.0.get(&slot, 0).expect("a record");
        (usage[SOCKETS], usage[WEBSOCKETS])
    }

    /// Adds to the live counts behind everybody's back. Nothing may move in the slot meanwhile.
    pub fn falsify(&mut self, slot: u32, sockets: i64, websockets: i64) {
        let mut usage = self.0.get(&slot, 0).expect("a record");
        usage[SOCKETS] = usage[SOCKETS].wrapping_add_signed(sockets);
        usage[WEBSOCKETS] = usage[WEBSOCKETS].wrapping_add_signed(websockets);
        self.0.set(slot, usage, 0).expect("a record");
    }
}
