//! The mappable maps as the agent's own memory: read and changed without a system call.
//!
//! The kernel changes the same words at the same time, so every access is one 8-byte atomic load, store or
//! read-modify-write. A record read field by field is no snapshot: a reader must not expect two fields to agree to the
//! last event while traffic flows.

use std::{
    mem::offset_of,
    os::fd::{AsFd, AsRawFd as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
};

use aya::{
    Ebpf,
    maps::{Map, MapInfo},
};
use memmap2::{MmapOptions, MmapRaw};
use weir_common::{
    event::Event,
    host::{HostPolicy, HostUsage},
    names,
    reason::{CLOSES, REFUSALS},
    verdict::ZONE_DROPS,
    zone::{ZoneLeases, ZonePolicy, ZoneUsage},
};

use super::KernelError;

/// One mappable array map of records of 8-byte words.
pub(super) struct Records {
    memory: MmapRaw,
    words_per_record: usize,
    len: u32,
}

impl Records {
    pub(super) fn new(
        fd: impl AsFd,
        name: &'static str,
        record_size: usize,
        len: u32,
    ) -> Result<Self, KernelError> {
        let page =
            nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as usize;
        let bytes = (record_size * len as usize).next_multiple_of(page);
        let memory = MmapOptions::new()
            .len(bytes)
            .map_raw(fd.as_fd().as_raw_fd())
            .map_err(|source| KernelError::Memory { name, source })?;
        Ok(Self { memory, words_per_record: record_size / size_of::<u64>(), len })
    }

    pub(super) fn of(object: &Ebpf, name: &'static str, record_size: usize) -> Result<Self, KernelError> {
        let Some(Map::Array(map)) = object.map(name) else {
            return Err(KernelError::Missing { kind: "map", name });
        };
        // The size of an adopted map is the map's, not the object's.
        let len = map.info().map_err(KernelError::map(name))?.max_entries();
        Self::new(map.fd(), name, record_size, len)
    }

    /// The word of a field, by the field's offset in its record.
    ///
    /// # Panics
    /// If the record does not exist: slots come from this map's own length.
    pub(super) fn word(&self, index: u32, offset: usize) -> &AtomicU64 {
        assert!(index < self.len && offset / 8 < self.words_per_record, "record {index} of {}", self.len);
        let word = index as usize * self.words_per_record + offset / 8;
        // SAFETY: the assertion keeps the word inside the mapping, which lives as long as `self`; the mapping is page
        // aligned and words are 8 bytes; kernel and agent access them only atomically.
        unsafe { &*self.memory.as_mut_ptr().cast::<AtomicU64>().add(word) }
    }

    pub(super) fn get(&self, index: u32, offset: usize) -> u64 {
        self.word(index, offset).load(Relaxed)
    }
}

/// Policies and usage of all slots.
pub struct ZoneMemory {
    policy: Records,
    usage: Records,
}

impl ZoneMemory {
    pub(super) fn new(object: &Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            policy: Records::of(object, names::MAP_ZONE_POLICY, size_of::<ZonePolicy>())?,
            usage: Records::of(object, names::MAP_ZONE_USAGE, size_of::<ZoneUsage>())?,
        })
    }

    /// Number of slots, slot 0 included.
    pub fn slots(&self) -> u32 {
        self.usage.len.min(self.policy.len)
    }

    /// The key of the zone that has a slot; 0 if none.
    pub fn key(&self, slot: u32) -> u64 {
        self.policy.get(slot, offset_of!(ZonePolicy, key))
    }

    pub fn policy(&self, slot: u32) -> ZonePolicy {
        let get = |offset| self.policy.get(slot, offset);
        ZonePolicy {
            key: get(offset_of!(ZonePolicy, key)),
            guideline: get(offset_of!(ZonePolicy, guideline)),
            abuse_cap: get(offset_of!(ZonePolicy, abuse_cap)),
            socket_cap: get(offset_of!(ZonePolicy, socket_cap)),
            flags: get(offset_of!(ZonePolicy, flags)),
            source_cap: get(offset_of!(ZonePolicy, source_cap)),
            reserved: [0; 2],
            leases: ZoneLeases {
                block_until_boot_ns: get(offset_of!(ZonePolicy, leases.block_until_boot_ns)),
                verdict_cap: get(offset_of!(ZonePolicy, leases.verdict_cap)),
                verdict_until_boot_ns: get(offset_of!(ZonePolicy, leases.verdict_until_boot_ns)),
                limit_cap: get(offset_of!(ZonePolicy, leases.limit_cap)),
                limit_until_boot_ns: get(offset_of!(ZonePolicy, leases.limit_until_boot_ns)),
            },
            reserved_for_leases: [0; 3],
        }
    }

    /// Writes a policy field by field; each is in force as soon as it is written.
    ///
    /// A lease that goes on as it was is not interrupted. One that changes ends first, then gets its cap, then its new end: the
    /// kernel never meets an end with a cap that is not its own.
    pub fn set_policy(&self, slot: u32, policy: &ZonePolicy) {
        let set = |offset, value| self.policy.word(slot, offset).store(value, SeqCst);
        let lease = |cap_at, cap, until_at, until| {
            if self.policy.get(slot, cap_at) != cap {
                set(until_at, 0);
                set(cap_at, cap);
            }
            set(until_at, until);
        };
        let leases = &policy.leases;
        set(offset_of!(ZonePolicy, leases.block_until_boot_ns), leases.block_until_boot_ns);
        lease(
            offset_of!(ZonePolicy, leases.verdict_cap),
            leases.verdict_cap,
            offset_of!(ZonePolicy, leases.verdict_until_boot_ns),
            leases.verdict_until_boot_ns,
        );
        lease(
            offset_of!(ZonePolicy, leases.limit_cap),
            leases.limit_cap,
            offset_of!(ZonePolicy, leases.limit_until_boot_ns),
            leases.limit_until_boot_ns,
        );
        set(offset_of!(ZonePolicy, guideline), policy.guideline);
        set(offset_of!(ZonePolicy, abuse_cap), policy.abuse_cap);
        set(offset_of!(ZonePolicy, socket_cap), policy.socket_cap);
        set(offset_of!(ZonePolicy, flags), policy.flags);
        set(offset_of!(ZonePolicy, source_cap), policy.source_cap);
        set(offset_of!(ZonePolicy, key), policy.key);
    }

    /// Everything that the kernel counted for a slot, raw: totals before gauges, as the audit needs them.
    pub fn usage(&self, slot: u32) -> ZoneUsage {
        let get = |offset| self.usage.get(slot, offset);
        ZoneUsage {
            joined_total: get(offset_of!(ZoneUsage, joined_total)),
            left_total: get(offset_of!(ZoneUsage, left_total)),
            admitted_total: get(offset_of!(ZoneUsage, admitted_total)),
            ended_total: get(offset_of!(ZoneUsage, ended_total)),
            sockets: get(offset_of!(ZoneUsage, sockets)),
            websockets: get(offset_of!(ZoneUsage, websockets)),
            websockets_peak: get(offset_of!(ZoneUsage, websockets_peak)),
            unconnected: get(offset_of!(ZoneUsage, unconnected)),
            rx_bytes: get(offset_of!(ZoneUsage, rx_bytes)),
            tx_bytes: get(offset_of!(ZoneUsage, tx_bytes)),
            refusal_event_ns: get(offset_of!(ZoneUsage, refusal_event_ns)),
            guideline_event_ns: get(offset_of!(ZoneUsage, guideline_event_ns)),
            dropped: std::array::from_fn::<_, ZONE_DROPS, _>(|i| get(offset_of!(ZoneUsage, dropped) + 8 * i)),
            refused: std::array::from_fn::<_, REFUSALS, _>(|i| get(offset_of!(ZoneUsage, refused) + 8 * i)),
            closed: std::array::from_fn::<_, CLOSES, _>(|i| get(offset_of!(ZoneUsage, closed) + 8 * i)),
            released_total: get(offset_of!(ZoneUsage, released_total)),
            lived_total: get(offset_of!(ZoneUsage, lived_total)),
            lived_sum: get(offset_of!(ZoneUsage, lived_sum)),
            lived_squares: get(offset_of!(ZoneUsage, lived_squares)),
        }
    }

    /// Live kernel sockets of a slot.
    pub fn sockets(&self, slot: u32) -> u64 {
        at_least_zero(self.usage.get(slot, offset_of!(ZoneUsage, sockets)))
    }

    /// Live WebSockets of a slot.
    pub fn websockets(&self, slot: u32) -> u64 {
        at_least_zero(self.usage.get(slot, offset_of!(ZoneUsage, websockets)))
    }

    /// The high-water mark of live WebSockets since the last call; afterwards it stands at what is live now.
    ///
    /// A WebSocket that is admitted while this runs is seen by this call or by the next, never by none.
    pub fn take_peak(&self, slot: u32) -> u64 {
        let live = self.usage.word(slot, offset_of!(ZoneUsage, websockets));
        let mark = self.usage.word(slot, offset_of!(ZoneUsage, websockets_peak));
        let now = at_least_zero(live.load(SeqCst));
        let peak = mark.swap(now, SeqCst).max(now);
        // Admissions between the two steps may have raised the mark that was just taken away.
        mark.fetch_max(at_least_zero(live.load(SeqCst)), SeqCst);
        peak
    }

    /// Adds to the gauges of a slot, for the audit's repair.
    pub fn correct(&self, slot: u32, sockets: i64, websockets: i64) {
        let add = |offset, by: i64| self.usage.word(slot, offset).fetch_add(by as u64, SeqCst);
        add(offset_of!(ZoneUsage, sockets), sockets);
        add(offset_of!(ZoneUsage, websockets), websockets);
    }

    /// Sets all counts of a slot to 0, for its next zone. The slot must not be reachable from the kernel.
    pub fn clear_usage(&self, slot: u32) {
        for word in 0..size_of::<ZoneUsage>() / 8 {
            self.usage.word(slot, word * 8).store(0, SeqCst);
        }
    }
}

/// A gauge as people see it. Below 0 it is a fault that the audit finds; until then it is not told as 2^64 less something.
pub fn at_least_zero(gauge: u64) -> u64 {
    if (gauge as i64) < 0 { 0 } else { gauge }
}

/// What the kernel enforces for the host.
pub struct HostPolicyMemory(Records);

impl HostPolicyMemory {
    pub(super) fn new(object: &Ebpf) -> Result<Self, KernelError> {
        Records::of(object, names::MAP_HOST_POLICY, size_of::<HostPolicy>()).map(Self)
    }

    /// Writes the policy field by field; each is in force as soon as it is written.
    pub fn set(&self, policy: &HostPolicy) {
        let set = |offset, value| self.0.word(0, offset).store(value, SeqCst);
        set(offset_of!(HostPolicy, source_v4_len), policy.source_v4_len);
        set(offset_of!(HostPolicy, source_v6_len), policy.source_v6_len);
        set(offset_of!(HostPolicy, mark_mask), policy.mark_mask);
        set(offset_of!(HostPolicy, mark_base), policy.mark_base);
        set(offset_of!(HostPolicy, agent_uid), policy.agent_uid);
    }

    /// Whether programs of another ABI version are attached beside this one's.
    pub fn set_adopting(&self, adopting: bool) {
        self.0.word(0, offset_of!(HostPolicy, adopting)).store(adopting.into(), SeqCst);
    }
}

/// The host's record.
pub struct HostMemory(Records);

impl HostMemory {
    pub(super) fn new(object: &Ebpf) -> Result<Self, KernelError> {
        Records::of(object, names::MAP_HOST, size_of::<HostUsage>()).map(Self)
    }

    /// The record of an earlier agent, if it is pinned. Of a record of any ABI version only the first fields are read.
    pub(super) fn open_pinned(path: &Path) -> Result<Option<Self>, KernelError> {
        if !path.exists() {
            return Ok(None);
        }
        let name = names::MAP_HOST;
        let fd = super::sys::get_pinned(path).map_err(|source| KernelError::Pin {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        let size = MapInfo::from_pin(path).map_err(KernelError::map(name))?.value_size() as usize;
        Records::new(fd, name, size, 1).map(|records| Some(Self(records)))
    }

    pub fn abi_version(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, abi_version))
    }

    pub fn netns_cookie(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, netns_cookie))
    }

    pub fn cgroup_id(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, cgroup_id))
    }

    pub(super) fn describe(&self, netns_cookie: u64, cgroup_id: u64) {
        self.0.word(0, offset_of!(HostUsage, netns_cookie)).store(netns_cookie, SeqCst);
        self.0.word(0, offset_of!(HostUsage, cgroup_id)).store(cgroup_id, SeqCst);
    }

    /// Says that the maps are whole: from now on a later agent may adopt them.
    pub(super) fn seal(&self, abi_version: u32) {
        self.0.word(0, offset_of!(HostUsage, abi_version)).store(u64::from(abi_version), SeqCst);
    }

    /// Refusals that no zone can be named for, by their number.
    pub fn refused(&self) -> [u64; REFUSALS] {
        std::array::from_fn(|i| self.0.get(0, offset_of!(HostUsage, refused) + 8 * i))
    }

    pub fn events_lost(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, events_lost))
    }

    pub fn untracked_total(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, untracked_total))
    }

    /// Source prefixes with live sockets.
    pub fn sources(&self) -> u64 {
        let gone = self.0.get(0, offset_of!(HostUsage, source_rows_gone_total));
        at_least_zero(self.0.get(0, offset_of!(HostUsage, source_rows_total)).wrapping_sub(gone))
    }

    pub fn sources_full_total(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, sources_full_total))
    }

    pub fn sources_missed_total(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, sources_missed_total))
    }

    /// Live sockets that are above a cap and to be ended.
    pub fn doomed(&self) -> u64 {
        at_least_zero(self.0.get(0, offset_of!(HostUsage, doomed)))
    }

    /// The same as it stands, and how many there ever were. Read in the order that the audit's bounds want.
    pub fn doomed_reading(&self) -> (u64, u64) {
        let live = self.0.get(0, offset_of!(HostUsage, doomed));
        (live, self.0.get(0, offset_of!(HostUsage, doomed_total)))
    }

    /// Adds to the number of those that are to be ended, as the audit proved that it is wrong.
    pub fn correct_doomed(&self, add: i64) {
        self.0.word(0, offset_of!(HostUsage, doomed)).fetch_add(add as u64, SeqCst);
        self.0.word(0, offset_of!(HostUsage, doomed_total)).fetch_add(add as u64, SeqCst);
    }

    pub fn contended_total(&self) -> u64 {
        self.0.get(0, offset_of!(HostUsage, contended_total))
    }
}

/// An event as it lies in the ring buffer; `None` if it is cut short.
pub(super) fn read_event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: long enough by the check; an `Event` is plain numbers, valid for all bit patterns.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}
