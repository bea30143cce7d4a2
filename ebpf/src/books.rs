//! The books: the only code that changes a count.
//!
//! Rules, held by `tests/`: a socket is counted once and subtracted once (whoever swaps its flags for `DEAD` settles
//! them); a gauge that has a cap is raised by compare-and-swap from a value below the cap, so it does not overshoot, not
//! even for an instant; the high-water mark is raised only by successful admissions. A gauge below 0 (a fault of ours, which
//! the audit finds) lets everybody in: a wrong number must not turn customers away.

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use weir_common::{
    reason::{CLOSES, Close, REFUSALS, Refusal},
    socket::{
        ADMITTED, COUNTED, DEAD, DOOMED, LOCAL_CLOSED, ORIGIN_SIDE, PEER_CLOSED, SEALED, SOURCED, SocketTag,
        UNCONNECTED,
    },
    verdict::{Outcome, ZONE_DROPS},
    zone::{Lifetime, UNATTRIBUTED, ZoneUsage},
};

use crate::{atomic, maps, sources};

/// Raises a gauge by one unless it is at `cap`. Returns the new value.
#[inline(always)]
pub fn raise_below(gauge: *mut u64, cap: u64) -> Option<u64> {
    for _ in 0..atomic::TRIES {
        // SAFETY: `gauge` points into a usage record, which lives as long as its map.
        let current = unsafe { atomic::load(gauge) };
        if current >= cap && !is_negative(current) {
            return None;
        }
        // SAFETY: as above.
        if unsafe { atomic::compare_exchange(gauge, current, current.wrapping_add(1)) } {
            return Some(current.wrapping_add(1));
        }
    }
    contended();
    // Others won every round. Add first and look afterwards: the gauge may overshoot for an instant, and one too many may be
    // refused; one too many is never admitted.
    // SAFETY: as above.
    let before = unsafe { atomic::add(gauge, 1) };
    if before < cap || is_negative(before) {
        return Some(before.wrapping_add(1));
    }
    // SAFETY: as above.
    unsafe { atomic::decrement(gauge) };
    None
}

#[inline(always)]
const fn is_negative(gauge: u64) -> bool {
    (gauge as i64) < 0
}

/// Raises a high-water mark to `value` if it is below. Given up under such contention that `TRIES` fail, and counted then.
#[inline(always)]
pub fn raise_peak(peak: *mut u64, value: u64) {
    if is_negative(value) {
        return;
    }
    for _ in 0..atomic::TRIES {
        // SAFETY: `peak` points into a usage record.
        let current = unsafe { atomic::load(peak) };
        // SAFETY: as above.
        if current >= value || unsafe { atomic::compare_exchange(peak, current, value) } {
            return;
        }
    }
    contended();
}

/// A counted socket joins a slot, whatever its caps.
#[inline(always)]
pub fn join(usage: *mut ZoneUsage) {
    // SAFETY: usage records live as long as their map.
    unsafe {
        atomic::increment(&raw mut (*usage).sockets);
        atomic::increment(&raw mut (*usage).joined_total);
    }
}

/// A counted socket leaves a slot for another.
#[inline(always)]
pub fn leave(usage: *mut ZoneUsage) {
    // SAFETY: as above.
    unsafe {
        atomic::decrement(&raw mut (*usage).sockets);
        atomic::increment(&raw mut (*usage).left_total);
    }
}

/// A WebSocket ends.
#[inline(always)]
pub fn end_websocket(usage: *mut ZoneUsage) {
    // SAFETY: as above.
    unsafe {
        atomic::decrement(&raw mut (*usage).websockets);
        atomic::increment(&raw mut (*usage).ended_total);
    }
}

/// An admission is taken back, as its upgrade was not answered by 101.
#[inline(always)]
pub fn take_back(usage: *mut ZoneUsage) {
    end_websocket(usage);
    // SAFETY: as above.
    unsafe { atomic::increment(&raw mut (*usage).released_total) };
}

/// A WebSocket ends with its socket: how long it lived is added up.
#[inline(always)]
fn live_out(usage: *mut ZoneUsage, tag: *mut SocketTag) {
    end_websocket(usage);
    // SAFETY: the tag lives as long as its socket, records as long as their maps; the helper takes nothing.
    unsafe {
        let lived = bpf_ktime_get_boot_ns().saturating_sub((*tag).born_boot_ns);
        let units = Lifetime::of_ns(lived).units();
        atomic::increment(&raw mut (*usage).lived_total);
        atomic::add(&raw mut (*usage).lived_sum, units);
        atomic::add(&raw mut (*usage).lived_squares, units * units);
    }
}

/// An admitted socket is established, or ended, or was moved to another slot.
#[inline(always)]
pub fn connected(usage: *mut ZoneUsage) {
    // SAFETY: as above.
    unsafe { atomic::decrement(&raw mut (*usage).unconnected) };
}

/// Ends a socket's account: every count that it still has is given back. A second call finds nothing to settle.
///
/// `rx_bytes`, `tx_bytes`: what the socket carried, if the caller's context knows.
#[inline(always)]
pub fn settle(tag: *mut SocketTag, rx_bytes: u64, tx_bytes: u64) {
    // SAFETY: the tag lives as long as its socket, which the context holds.
    let (flags, slot) = unsafe { (atomic::swap_u32(&raw mut (*tag).flags, DEAD), (*tag).slot) };
    if flags & SOURCED != 0 {
        sources::leave(tag);
    }
    if flags & DOOMED != 0 {
        spare();
    }
    if flags & COUNTED == 0 {
        return;
    }
    let Some(usage) = maps::usage(slot) else { return };
    if flags & UNCONNECTED != 0 {
        connected(usage);
    }
    if flags & ADMITTED != 0 && flags & UNCONNECTED != 0 {
        take_back(usage);
    } else if flags & ADMITTED != 0 {
        live_out(usage, tag);
    }
    leave(usage);
    let close = if flags & UNCONNECTED != 0 {
        Close::NeverConnected
    } else if flags & PEER_CLOSED != 0 {
        Close::Peer
    } else if flags & LOCAL_CLOSED != 0 {
        Close::Local
    } else {
        Close::Abort
    };
    // SAFETY: records live as long as their maps.
    unsafe {
        atomic::increment(&raw mut (*usage).closed[opaque(close as usize) % CLOSES]);
        if flags & ORIGIN_SIDE == 0 {
            atomic::add(&raw mut (*usage).rx_bytes, rest(&raw mut (*tag).rx_counted, rx_bytes));
            atomic::add(&raw mut (*usage).tx_bytes, rest(&raw mut (*tag).tx_counted, tx_bytes));
        }
    }
}

/// What is not counted yet of all that a socket carried; from now on nothing of it is.
#[inline(always)]
fn rest(counted: *mut u64, all: u64) -> u64 {
    // SAFETY: the tag lives as long as its socket.
    let before = unsafe { atomic::swap(counted, SEALED) };
    all.saturating_sub(before)
}

/// Adds to the zone's bytes what a socket that lives has carried since the last time. Runs without the socket's lock: of two that
/// do it at the same time, or at the socket's end, each byte is counted by one.
///
/// A socket that has no zone yet keeps its bytes for the one that it gets.
#[inline(always)]
pub fn carry(tag: *mut SocketTag, rx_bytes: u64, tx_bytes: u64) -> bool {
    // SAFETY: the tag is readable until this program ends.
    let (flags, slot) =
        unsafe { (read_volatile(&raw const (*tag).flags), read_volatile(&raw const (*tag).slot)) };
    if flags & COUNTED == 0 || flags & ORIGIN_SIDE != 0 || slot == UNATTRIBUTED {
        return false;
    }
    let Some(usage) = maps::usage(slot) else { return false };
    // SAFETY: as above; records live as long as their maps.
    unsafe {
        advance(&raw mut (*tag).rx_counted, rx_bytes, &raw mut (*usage).rx_bytes);
        advance(&raw mut (*tag).tx_counted, tx_bytes, &raw mut (*usage).tx_bytes);
    }
    true
}

#[inline(always)]
fn advance(counted: *mut u64, now: u64, total: *mut u64) {
    // SAFETY: the caller's. `SEALED` is more than any number of bytes.
    unsafe {
        let before = atomic::load(counted);
        if before < now && atomic::compare_exchange(counted, before, now) {
            atomic::add(total, now - before);
        }
    }
}

/// Counts a refusal that no zone can be named for.
#[inline(always)]
pub fn refused_on_host(reason: Refusal) {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).refused[opaque(reason.counter()) % REFUSALS]) };
    }
}

/// Counts a refusal of a zone.
#[inline(always)]
pub fn refused(usage: *mut ZoneUsage, reason: Refusal) {
    // SAFETY: as above.
    unsafe { atomic::increment(&raw mut (*usage).refused[opaque(reason.counter()) % REFUSALS]) };
}

/// Counts a SYN to a zone's dedicated listener that the gate dropped.
#[inline(always)]
pub fn dropped(usage: *mut ZoneUsage, reason: Outcome) {
    if let Some(index) = reason.zone_drop() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*usage).dropped[opaque(index) % ZONE_DROPS]) };
    }
}

/// Counts an accepted socket that passes without books.
#[inline(always)]
pub fn untracked() {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).untracked_total) };
    }
}

/// A socket is above a cap and nobody turns it away: the agent ends it. Returns the flag for its tag.
#[inline(always)]
pub fn doom() -> u32 {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe {
            atomic::increment(&raw mut (*host).doomed);
            atomic::increment(&raw mut (*host).doomed_total);
        }
    }
    DOOMED
}

/// A doomed socket has ended.
#[inline(always)]
pub fn spare() {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::decrement(&raw mut (*host).doomed) };
    }
}

/// A doomed socket is below its caps after all. The caller holds the socket's lock.
#[inline(always)]
pub fn pardon(tag: *mut SocketTag) {
    // SAFETY: the tag lives as long as its socket.
    unsafe {
        if (*tag).flags & DOOMED != 0 {
            (*tag).flags &= !DOOMED;
            spare();
        }
    }
}

/// Counts a socket for which the table of sources had no room.
#[inline(always)]
pub fn source_table_full() {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).sources_full_total) };
    }
}

/// Counts a socket that met its source's row only in the instants of its deletion.
#[inline(always)]
pub fn source_missed() {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).sources_missed_total) };
    }
}

/// The same number, as one that the verifier does not know.
///
/// Without `CAP_PERFMON` the verifier (seen on Linux 6.18) takes no pointer arithmetic in which one instruction adds different
/// constants on different paths, as an index that is chosen by a match becomes: "R0 tried to add from different maps, paths or
/// scalars, pointer arithmetic with it prohibited for !root". By exclusive or: of an or with 3, masked to two bits, the verifier
/// knows that it is 3.
#[inline(always)]
pub fn opaque(number: usize) -> usize {
    // SAFETY: as above.
    maps::host().map_or(0, |host| number ^ unsafe { atomic::load(&raw const (*host).zero) } as usize)
}

/// Counts a step that gave up compare-and-swap.
#[inline(always)]
pub fn contended() {
    if let Some(host) = maps::host() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).contended_total) };
    }
}
