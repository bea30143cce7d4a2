//! The kernel's counts as they lie in the pinned map: read, and falsified, without an agent.

#![expect(unsafe_code, reason = "a word of a mapped map is changed beside the kernel")]

use std::{
    collections::BTreeMap,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use aya::{
    maps::{Array, Map, MapData},
    programs::links::{FdLink, PinnedLink},
};
use memmap2::MmapOptions;
use weir_common::{host::HostUsage, names, zone::ZoneUsage};

use crate::World;

const WORDS: usize = size_of::<ZoneUsage>() / size_of::<u64>();
const SOCKETS: usize = offset_of!(ZoneUsage, sockets) / size_of::<u64>();
const WEBSOCKETS: usize = offset_of!(ZoneUsage, websockets) / size_of::<u64>();
const LIVED: usize = offset_of!(ZoneUsage, lived_total) / size_of::<u64>();

/// The pinned counts of all slots.
pub struct Pinned(Array<MapData, [u64; WORDS]>);

impl World {
    /// Opens the counts that the agent of this world pinned.
    pub fn pinned(&self) -> Pinned {
        let pinned = MapData::from_pin(self.pins().join(names::MAP_ZONE_USAGE)).expect("a pinned map");
        Pinned(Map::Array(pinned).try_into().expect("an array"))
    }
}

impl World {
    /// Has what is pinned say that it is another ABI version's; all else goes on beside.
    pub fn pretend_abi(&self, version: u64) {
        self.host_word(offset_of!(HostUsage, abi_version), |word| word.store(version, SeqCst));
    }

    /// Sockets that wait to be ended, as the host's record says.
    pub fn doomed(&self) -> u64 {
        self.host_word(offset_of!(HostUsage, doomed), |word| word.load(SeqCst))
    }

    /// Adds to their number behind everybody's back.
    pub fn falsify_doomed(&self, off: i64) {
        self.host_word(offset_of!(HostUsage, doomed), |word| word.fetch_add(off as u64, SeqCst));
    }

    fn host_word<T>(&self, offset: usize, with: impl FnOnce(&AtomicU64) -> T) -> T {
        let pinned = MapData::from_pin(self.pins().join(names::MAP_HOST)).expect("a pinned map");
        let fd = pinned.fd().as_fd().as_raw_fd();
        // SAFETY: the map is mappable, and kernel and agents change its words atomically, as is done here.
        let memory = MmapOptions::new().len(size_of::<HostUsage>()).map_raw(fd).expect("a mapping");
        // SAFETY: inside of the mapping, which lives until this returns, and aligned.
        with(unsafe { &*memory.as_ptr().cast::<AtomicU64>().add(offset / size_of::<u64>()) })
    }

    /// The program that each pinned link of this world's agent runs, by its number.
    pub fn attached(&self) -> BTreeMap<&'static str, u32> {
        let program = |name: &'static str| {
            let link = PinnedLink::from_pin(self.pins().join(name)).expect("a pinned link");
            (name, FdLink::from(link).info().expect("its link").program_id())
        };
        names::PROGRAMS.into_iter().map(program).collect()
    }
}

impl Pinned {
    /// Live sockets and live WebSockets of a slot.
    pub fn live(&self, slot: u32) -> (u64, u64) {
        let usage = self.0.get(&slot, 0).expect("a record");
        (usage[SOCKETS], usage[WEBSOCKETS])
    }

    /// Of a slot's ended WebSockets: how many, and the sum of their lifetimes in units of `Lifetime`.
    pub fn lived(&self, slot: u32) -> (u64, u64) {
        let usage = self.0.get(&slot, 0).expect("a record");
        (usage[LIVED], usage[LIVED + 1])
    }

    /// Adds to the live counts behind everybody's back. Nothing may move in the slot meanwhile.
    pub fn falsify(&mut self, slot: u32, sockets: i64, websockets: i64) {
        let mut usage = self.0.get(&slot, 0).expect("a record");
        usage[SOCKETS] = usage[SOCKETS].wrapping_add_signed(sockets);
        usage[WEBSOCKETS] = usage[WEBSOCKETS].wrapping_add_signed(websockets);
        self.0.set(slot, usage, 0).expect("a record");
    }
}
