//! The gate's maps: the lists, the record, the counters of packets, and the samples of what was dropped.
//!
//! Only the agent changes a list, so what is in it is kept beside it; it is read back once, when an earlier agent's maps are
//! adopted.

use std::{
    collections::BTreeMap,
    io,
    mem::offset_of,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use aya::{
    Ebpf, Pod,
    maps::{
        Map, MapData, MapError, PerCpuArray, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
};
use tokio::io::unix::AsyncFd;
use weir_common::{
    gate::{DropEvent, GatePolicy, GateRecord, PrefixEntry, PrefixKey},
    listener::Address,
    names,
    verdict::{Outcome, Rule},
};

use super::{KernelError, MapFill, memory::Records};

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodEntry(PrefixEntry);
// SAFETY: `repr(C)` of plain numbers without padding (`common/tests/layout.rs`).
unsafe impl Pod for PodEntry {}

/// The gate's side of the kernel object.
pub struct GateTables {
    pub allow: PrefixTable,
    pub deny: PrefixTable,
    record: Arc<Records>,
    counts: PerCpuArray<MapData, u64>,
    drops: RingBuf<MapData>,
}

impl GateTables {
    pub(super) fn new(object: &mut Ebpf) -> Result<Self, KernelError> {
        let record = Arc::new(Records::of(object, names::MAP_GATE, size_of::<GateRecord>())?);
        let list =
            |object: &mut Ebpf, name, told_at| PrefixTable::take(object, name, Arc::clone(&record), told_at);
        let allow = list(object, names::MAP_ALLOW, offset_of!(GateRecord, policy.allow_entries))?;
        let deny = list(object, names::MAP_DENY, offset_of!(GateRecord, policy.deny_entries))?;
        let counts = take(object, names::MAP_GATE_COUNTS)?;
        let counts = PerCpuArray::try_from(counts).map_err(KernelError::map(names::MAP_GATE_COUNTS))?;
        let drops = take(object, names::MAP_DROPS)?;
        let drops = RingBuf::try_from(drops).map_err(KernelError::map(names::MAP_DROPS))?;
        Ok(Self { allow, deny, record, counts, drops })
    }

    /// Writes the policy field by field; each is in force as soon as it is written. The lists' fields are their tables'.
    pub fn set_policy(&self, policy: &GatePolicy) {
        let set = |offset, value| self.record.word(0, offset).store(value, SeqCst);
        set(offset_of!(GatePolicy, dry), policy.dry);
        set(offset_of!(GatePolicy, syn_burst_ns), policy.syn_burst_ns);
        set(offset_of!(GatePolicy, syn_token_ns), policy.syn_token_ns);
    }

    /// The rule counts and lets pass.
    pub fn runs_dry(&self, rule: Rule) -> bool {
        self.record.word(0, offset_of!(GateRecord, policy.dry)).load(SeqCst) & rule.bit() != 0
    }

    /// Packets by outcome: those that it was done to, and those that would have been dropped. Two system calls an outcome.
    pub fn packets(&self) -> Vec<(Outcome, u64, u64)> {
        let sum = |counter: u32| {
            self.counts.get(&counter, 0).map_or(0, |counts| counts.iter().copied().fold(0, u64::wrapping_add))
        };
        Outcome::ALL
            .into_iter()
            .map(|outcome| {
                let dry = if outcome.rule().is_some() { sum(outcome.dry_counter()) } else { 0 };
                (outcome, sum(outcome.counter()), dry)
            })
            .collect()
    }

    pub fn fill(&self) -> [MapFill; 2] {
        [self.allow.fill(), self.deny.fill()]
    }

    /// Becomes readable when a sample waits. Call it inside of a runtime.
    pub fn drops_ready(&self) -> io::Result<AsyncFd<OwnedFd>> {
        super::load::ready(self.drops.as_fd())
    }

    /// Next sample of what was dropped, if one waits. Never blocks.
    pub fn next_drop(&mut self) -> Option<DropEvent> {
        let item = self.drops.next()?;
        if item.len() < size_of::<DropEvent>() {
            return None;
        }
        // SAFETY: long enough by the check; a `DropEvent` is plain numbers, valid for all bit patterns.
        Some(unsafe { item.as_ptr().cast::<DropEvent>().read_unaligned() })
    }
}

/// One list: its map, and what is in it.
pub struct PrefixTable {
    /// Where the kernel is told how many entries there are, and at which offset: it does not look into an empty list.
    record: Arc<Records>,
    told_at: usize,
    map: LpmTrie<MapData, Address, PodEntry>,
    entries: BTreeMap<PrefixKey, PrefixEntry>,
    name: &'static str,
    capacity: u32,
}

impl PrefixTable {
    fn take(
        object: &mut Ebpf,
        name: &'static str,
        record: Arc<Records>,
        told_at: usize,
    ) -> Result<Self, KernelError> {
        let Map::LpmTrie(map) = take(object, name)? else {
            return Err(KernelError::Missing { kind: "map", name });
        };
        let capacity = map.info().map_err(KernelError::map(name))?.max_entries();
        let map: LpmTrie<_, Address, PodEntry> =
            LpmTrie::try_from(Map::LpmTrie(map)).map_err(KernelError::map(name))?;
        let entries: BTreeMap<_, _> = map
            .iter()
            .map(|entry| {
                entry.map(|(key, PodEntry(entry))| {
                    (PrefixKey { prefix_len: key.prefix_len(), address: key.data() }, entry)
                })
            })
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(name))?;
        let table = Self { record, told_at, map, entries, name, capacity };
        table.tell(table.entries.len());
        Ok(table)
    }

    fn tell(&self, entries: usize) {
        self.record.word(0, self.told_at).store(entries as u64, SeqCst);
    }

    pub fn entries(&self) -> &BTreeMap<PrefixKey, PrefixEntry> {
        &self.entries
    }

    /// Entries that fit in beside those that are there.
    pub fn room(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.entries.len())
    }

    /// Entries that the kernel's table has room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    pub fn full(&self) -> KernelError {
        KernelError::TableFull { name: self.name, capacity: self.capacity }
    }

    /// Puts an entry in place of the one that is there, in one step; nothing in place of it takes it away.
    pub fn set(&mut self, prefix: PrefixKey, entry: Option<PrefixEntry>) -> Result<(), KernelError> {
        let key = Key::new(prefix.prefix_len, prefix.address);
        let Some(entry) = entry else {
            match self.map.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(KernelError::map(self.name)(error)),
            }
            self.entries.remove(&prefix);
            self.tell(self.entries.len());
            return Ok(());
        };
        if self.room() == 0 && !self.entries.contains_key(&prefix) {
            return Err(self.full());
        }
        // Before it is there: the kernel may look for it in vain, but does not pass it by.
        self.tell(self.entries.len() + 1);
        let done = self.map.insert(&key, PodEntry(entry), 0).map_err(KernelError::map(self.name));
        if done.is_ok() {
            self.entries.insert(prefix, entry);
        }
        self.tell(self.entries.len());
        done
    }

    fn fill(&self) -> MapFill {
        MapFill { map: self.name, entries: self.entries.len() as u64, capacity: u64::from(self.capacity) }
    }
}

fn take(object: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    object.take_map(name).ok_or(KernelError::Missing { kind: "map", name })
}
