//! Source prefixes: a socket joins its prefix's row at birth and leaves it at death. `docs/decisions.md`, "A source's row goes
//! when it reaches 0", has the proof; in short:
//!
//! - The last socket of a row takes its `live` from 1 to [`CLOSED`] in one compare-and-swap. Who closed a row, and nobody else,
//!   deletes it; so a row that counts a socket is never deleted.
//! - The kernel gives a deleted row's memory to another prefix at once, while a program may still hold a pointer to it. A birth
//!   therefore raises the count first (from then on the memory stays the row that it is), and looks afterwards whether it is the
//!   prefix's row at all, by the row's number; if not, it takes its one back.
//! - Whatever else is done to a row is done while the socket counts in it.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::bpf_sock;
use weir_common::{
    socket::{SOURCED, SocketTag},
    source::{CLOSED, MAPPED_LEN, SourceKey, SourceUsage, mask},
};

use crate::{atomic, books, maps};

const AF_INET: u32 = 2;
const EEXIST: i32 = -17;
/// Tries of the loops here. Fewer than elsewhere: without `CAP_PERFMON` the verifier (seen on Linux 6.18) follows every branch of
/// a loop speculatively as well, and gives up at 8192 that wait ("The sequence of 8193 jumps is too complex").
const TRIES: u32 = 4;

/// Writes the remote address of a full socket into its tag, for [`join`].
///
/// Word by word to where they stay: without `CAP_PERFMON` the verifier (seen on Linux 6.18) takes no word of 4 bytes in a place of
/// the stack where a pointer was kept before ("attempt to corrupt spilled pointer on stack"), as LLVM keeps such words there.
#[inline(always)]
pub fn note_remote(tag: *mut SocketTag, sk: *mut bpf_sock) {
    // SAFETY: a socket of the running program's context, and its tag. Both last words are loaded before one is chosen: LLVM would
    // choose their address instead, and the verifier takes no arithmetic on a socket's pointer.
    unsafe {
        let to = (&raw mut (*tag).source.address).cast::<u32>();
        let is_v4 = (*sk).family == AF_INET;
        let v4 = read_volatile(&raw const (*sk).dst_ip4);
        write_volatile(to, read_volatile(&raw const (*sk).dst_ip6[0]));
        write_volatile(to.add(1), read_volatile(&raw const (*sk).dst_ip6[1]));
        write_volatile(to.add(2), read_volatile(&raw const (*sk).dst_ip6[2]));
        write_volatile(to.add(3), read_volatile(&raw const (*sk).dst_ip6[3]));
        if is_v4 {
            write_volatile(to, 0);
            write_volatile(to.add(1), 0);
            write_volatile(to.add(2), 0xffff_u32.to_be());
            write_volatile(to.add(3), v4);
        }
    }
}

/// Cuts the address that the tag has to its source prefix.
#[inline(always)]
fn make_key(tag: *mut SocketTag, v4_len: u32, v6_len: u32) {
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe {
        let words = (&raw mut (*tag).source.address).cast::<u32>();
        let mapped = read_volatile(words) == 0
            && read_volatile(words.add(1)) == 0
            && read_volatile(words.add(2)) == 0xffff_u32.to_be();
        let prefix_len = if mapped { MAPPED_LEN + v4_len } else { v6_len };
        write_volatile(words, read_volatile(words) & mask(prefix_len, 0));
        write_volatile(words.add(1), read_volatile(words.add(1)) & mask(prefix_len, 32));
        write_volatile(words.add(2), read_volatile(words.add(2)) & mask(prefix_len, 64));
        write_volatile(words.add(3), read_volatile(words.add(3)) & mask(prefix_len, 96));
        write_volatile(&raw mut (*tag).source.prefix_len, prefix_len);
    }
}

/// A socket that no row counts joins that of the address that its tag has. Returns [`SOURCED`] for its flags, or 0 if no row counts
/// it: then that is counted.
///
/// The socket is the caller's: its tag's flags say nothing of a source yet, and it is locked.
#[inline(always)]
pub fn join(tag: *mut SocketTag) -> u32 {
    let Some(policy) = maps::host_policy() else { return 0 };
    // SAFETY: the policy lives as long as its map, the tag as long as its socket. The key is made where it stays.
    let key = unsafe {
        let v4_len = atomic::load(&raw const (*policy).source_v4_len);
        let v6_len = atomic::load(&raw const (*policy).source_v6_len);
        make_key(tag, v4_len as u32, v6_len as u32);
        &(*tag.cast_const()).source
    };
    for _ in 0..TRIES {
        let ordinal = match maps::source(key) {
            Some(row) => raise(row, key),
            None => match make(key) {
                Ok(()) => Some(1),
                Err(EEXIST) => None,
                Err(_) => {
                    books::source_table_full();
                    return 0;
                }
            },
        };
        if let Some(ordinal) = ordinal {
            // SAFETY: as above.
            unsafe { (*tag).source_ordinal = ordinal };
            return SOURCED;
        }
    }
    books::source_missed();
    0
}

/// Makes the prefix's row, with the socket in it.
#[inline(always)]
fn make(key: &SourceKey) -> Result<(), i32> {
    let Some(host) = maps::host() else { return Err(0) };
    // SAFETY: the host's record lives as long as its map.
    let row = unsafe { atomic::add(&raw mut (*host).source_rows_total, 1) };
    let made = maps::insert_source(key, &SourceUsage { joined_total: 1, left_total: 0, row, live: 1 });
    if made.is_err() {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*host).source_rows_gone_total) };
    }
    made
}

/// Adds the socket to a row, if it is the prefix's and not closed. Returns how many the row counts then.
#[inline(always)]
fn raise(row: *mut SourceUsage, key: &SourceKey) -> Option<u32> {
    // SAFETY: memory of the map stays memory of the map; what it is a row of is looked at below.
    unsafe {
        let live = atomic::load(&raw const (*row).live);
        if live == CLOSED || !atomic::compare_exchange(&raw mut (*row).live, live, live.wrapping_add(1)) {
            return None;
        }
        // From here on nobody closes the row, whosever it is.
        let number = atomic::load(&raw const (*row).row);
        if maps::source(key).is_none_or(|now| atomic::load(&raw const (*now).row) != number) {
            // A row that this leaves at 0 stays until a next socket of its prefix ends, or the audit finds it.
            atomic::decrement(&raw mut (*row).live);
            return None;
        }
        atomic::increment(&raw mut (*row).joined_total);
        // A count below 0 is a fault that the audit finds: until then no cap applies.
        Some(if (live as i64) < 0 { 0 } else { live as u32 + 1 })
    }
}

/// A socket that a row counts leaves it. The caller has taken [`SOURCED`] out of its flags, so this happens once.
#[inline(always)]
pub fn leave(tag: *mut SocketTag) {
    // SAFETY: the tag lives as long as its socket, and nobody writes its key any more.
    let key = unsafe { &(*tag).source };
    let Some(row) = maps::source(key) else { return };
    lower(row, key, 1);
}

/// Takes `by` from a row in which the caller counts, and with it the caller.
#[inline(always)]
fn lower(row: *mut SourceUsage, key: &SourceKey, by: u64) {
    // SAFETY: the row counts the caller, so it is the prefix's, and stays, until one of the steps below.
    unsafe {
        atomic::increment(&raw mut (*row).left_total);
        for _ in 0..TRIES {
            let live = atomic::load(&raw const (*row).live);
            let next = if live == by { CLOSED } else { live.wrapping_sub(by) };
            if atomic::compare_exchange(&raw mut (*row).live, live, next) {
                if next == CLOSED {
                    delete(row, key);
                }
                return;
            }
        }
        // Others won every round, so they are in the row as well; should they all be on their way out, it stays at 0 like one of
        // `raise`'s.
        books::contended();
        atomic::add(&raw mut (*row).live, by.wrapping_neg());
    }
}

/// Sets a row right, as the audit proved that it is wrong. The caller joins it for the time, so that it is the prefix's while it
/// is changed.
#[inline(always)]
pub fn correct(key: &SourceKey, add: u64) {
    for _ in 0..TRIES {
        let joined = match maps::source(key) {
            None if add == 0 => return,
            None => make(key).is_ok(),
            Some(row) => raise(row, key).is_some(),
        };
        if joined {
            if let Some(row) = maps::source(key) {
                lower(row, key, 1_u64.wrapping_sub(add));
            }
            return;
        }
    }
}

/// Deletes a row that the caller has closed.
#[inline(always)]
fn delete(row: *mut SourceUsage, key: &SourceKey) {
    if maps::remove_source(key).is_ok() {
        if let Some(host) = maps::host() {
            // SAFETY: the host's record lives as long as its map.
            unsafe { atomic::increment(&raw mut (*host).source_rows_gone_total) };
        }
    } else {
        // The kernel could not take its bucket's lock; then the row is still there, and ours.
        // SAFETY: memory of the map.
        unsafe { atomic::compare_exchange(&raw mut (*row).live, CLOSED, 0) };
    }
}
