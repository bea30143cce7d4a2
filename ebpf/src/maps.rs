//! Every map, private beside its accessors. Names are `common::names`'s, sizes are set when the agent loads the object.

use core::{mem::MaybeUninit, ptr::write_volatile};

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage, lpm_trie::Key},
    macros::btf_map,
};
use weir_common::{
    event::Event,
    gate::{Bucket, DropEvent, GateRecord, MAX_ALLOWED, MAX_DENIED, MAX_RATES, PrefixEntry},
    host::{HostPolicy, HostUsage},
    listener::{Address, Listener, ListenerKey, PORT_WORDS, port_place},
    socket::SocketTag,
    source::{SourceKey, SourceUsage},
    verdict::OUTCOMES,
    zone::{ZonePolicy, ZoneUsage},
};

const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
static WEIR_SLOTS: HashMap<u64, u32, 16384> = HashMap::new();
#[btf_map]
static WEIR_POLICY: Array<ZonePolicy, 16385, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_USAGE: Array<ZoneUsage, 16385, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_TAGS: SkStorage<SocketTag> = SkStorage::new();
#[btf_map]
static WEIR_LISTENERS: HashMap<ListenerKey, Listener, 1024> = HashMap::new();
#[btf_map]
static WEIR_PORTS: Array<u64, { PORT_WORDS as usize }, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_UIDS: HashMap<u32, u32, 64> = HashMap::new();
#[btf_map]
static WEIR_HOST: Array<HostUsage, 1, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_HOSTPOLICY: Array<HostPolicy, 1, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_SOURCES: HashMap<SourceKey, SourceUsage, 262_144> = HashMap::new();
#[btf_map]
static WEIR_MARKS: HashMap<u32, u64, 16384> = HashMap::new();
#[btf_map]
static WEIR_EVENTS: RingBuf<Event, 262_144> = RingBuf::new();
#[btf_map]
static WEIR_ALLOW: LpmTrie<Address, PrefixEntry, { MAX_ALLOWED as usize }> = LpmTrie::new();
#[btf_map]
static WEIR_DENY: LpmTrie<Address, PrefixEntry, { MAX_DENIED as usize }> = LpmTrie::new();
#[btf_map]
static WEIR_RATES: LruHashMap<SourceKey, Bucket, { MAX_RATES as usize }> = LruHashMap::new();
#[btf_map]
static WEIR_GATE: Array<GateRecord, 1, MAPPABLE> = Array::new();
#[btf_map]
static WEIR_GATE_CNT: PerCpuArray<u64, { 2 * OUTCOMES as usize }> = PerCpuArray::new();
#[btf_map]
static WEIR_DROPS: RingBuf<DropEvent, 65_536> = RingBuf::new();

/// `SO_NETNS_COOKIE` of the namespace whose sockets are counted; patched when the object is loaded.
#[unsafe(no_mangle)]
static WEIR_NETNS: Global<u64> = Global::new(0);

/// The namespace whose sockets are ours.
#[inline(always)]
pub fn netns_cookie() -> u64 {
    WEIR_NETNS.load()
}

/// The slot of a zone key.
#[inline(always)]
pub fn slot(zone_key: u64) -> Option<u32> {
    WEIR_SLOTS.get_ptr(zone_key).map(|slot| {
        // SAFETY: a slot is written once, before its key can be found.
        unsafe { *slot }
    })
}

#[inline(always)]
pub fn policy(slot: u32) -> Option<*const ZonePolicy> {
    WEIR_POLICY.get_ptr(slot)
}

#[inline(always)]
pub fn usage(slot: u32) -> Option<*mut ZoneUsage> {
    WEIR_USAGE.get_ptr_mut(slot)
}

#[inline(always)]
pub fn host() -> Option<*mut HostUsage> {
    WEIR_HOST.get_ptr_mut(0)
}

#[inline(always)]
pub fn host_policy() -> Option<*const HostPolicy> {
    WEIR_HOSTPOLICY.get_ptr(0)
}

/// The programs of another ABI version are attached beside these ones.
#[inline(always)]
pub fn is_adopting() -> bool {
    // SAFETY: the policy lives as long as its map.
    host_policy().is_some_and(|policy| unsafe { crate::atomic::load(&raw const (*policy).adopting) } != 0)
}

/// The key of the zone that a mark's number is for.
#[inline(always)]
pub fn marked_zone(number: u32) -> Option<u64> {
    WEIR_MARKS.get_ptr(number).map(|key| {
        // SAFETY: one aligned load of a value that the agent replaces whole.
        unsafe { *key }
    })
}

/// The row of a source prefix.
#[inline(always)]
pub fn source(key: &SourceKey) -> Option<*mut SourceUsage> {
    WEIR_SOURCES.get_ptr_mut(key)
}

/// Makes the row of a source prefix that has none.
#[inline(always)]
pub fn insert_source(key: &SourceKey, usage: &SourceUsage) -> Result<(), i32> {
    WEIR_SOURCES.insert(key, usage, u64::from(BPF_NOEXIST))
}

#[inline(always)]
pub fn remove_source(key: &SourceKey) -> Result<(), i32> {
    WEIR_SOURCES.remove(key)
}

/// What becomes of sockets that are accepted on this address.
///
/// The key is written word by word: LLVM makes a call of `memset` of 16 zero bytes, whose loop the verifier (seen on Linux
/// 6.18) allows with `CAP_PERFMON` only: "pointer arithmetic with it prohibited for !root".
#[inline(always)]
pub fn listener(address: Address, port: u32) -> Option<*const Listener> {
    let mut key = MaybeUninit::<ListenerKey>::uninit();
    let fields = key.as_mut_ptr();
    // SAFETY: every field is written before the key is read; the writes are inside of it.
    let key = unsafe {
        write_volatile(&raw mut (*fields).address[0], address[0]);
        write_volatile(&raw mut (*fields).address[1], address[1]);
        write_volatile(&raw mut (*fields).address[2], address[2]);
        write_volatile(&raw mut (*fields).address[3], address[3]);
        write_volatile(&raw mut (*fields).port, port);
        key.assume_init_ref()
    };
    WEIR_LISTENERS.get_ptr(key)
}

/// The forms of addresses that are listened on at a port.
#[inline(always)]
pub fn forms(port: u32) -> u64 {
    let (word, up) = port_place(port);
    // SAFETY: one aligned load of a word that the agent changes whole.
    WEIR_PORTS.get_ptr(word).map_or(0, |forms| unsafe { crate::atomic::load(forms) } >> up)
}

#[inline(always)]
pub fn may_tag(uid: u32) -> bool {
    WEIR_UIDS.get_ptr(uid).is_some()
}

/// The address of the tag map, for the storage helpers.
#[inline(always)]
pub fn tags() -> *mut core::ffi::c_void {
    (&raw const WEIR_TAGS).cast_mut().cast()
}

/// Room for one event, or none.
#[inline(always)]
pub fn reserve_event() -> Option<aya_ebpf::maps::ring_buf::RingBufEntry<Event>> {
    WEIR_EVENTS.reserve(0)
}

/// The allow list's entry of the longest prefix of an address, of at most `prefix_len` bits.
#[inline(always)]
pub fn allowed(prefix_len: u32, address: &Address) -> Option<*const PrefixEntry> {
    WEIR_ALLOW.get(&Key::new(prefix_len, *address)).map(|entry| entry as *const _)
}

/// The deny list's, as above.
#[inline(always)]
pub fn denied(prefix_len: u32, address: &Address) -> Option<*const PrefixEntry> {
    WEIR_DENY.get(&Key::new(prefix_len, *address)).map(|entry| entry as *const _)
}

/// The bucket of a source prefix.
#[inline(always)]
pub fn bucket(source: &SourceKey) -> Option<*mut Bucket> {
    WEIR_RATES.get_ptr_mut(source)
}

/// Makes the bucket of a source prefix; without room for it the source has no bound.
#[inline(always)]
pub fn insert_bucket(source: &SourceKey, bucket: &Bucket) {
    let _ = WEIR_RATES.insert(source, bucket, 0);
}

#[inline(always)]
pub fn gate() -> Option<*mut GateRecord> {
    WEIR_GATE.get_ptr_mut(0)
}

/// This CPU's counter.
#[inline(always)]
pub fn gate_count(counter: u32) -> Option<*mut u64> {
    WEIR_GATE_CNT.get_ptr_mut(counter)
}

/// Room for one sample of what was dropped, or none.
#[inline(always)]
pub fn reserve_drop() -> Option<aya_ebpf::maps::ring_buf::RingBufEntry<DropEvent>> {
    WEIR_DROPS.reserve(0)
}
