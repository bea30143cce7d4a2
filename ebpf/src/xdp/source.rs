//! Where a SYN comes from, and how many sockets live from there: `sock_ops` counts them, the gate only looks.

use core::{mem::MaybeUninit, ptr::write_volatile};

use weir_common::{
    listener::{Address, Listener},
    source::{SourceKey, SourceUsage},
};

use crate::{atomic, maps};

/// The prefix of a source, as long as the host's policy says.
///
/// Written word by word, for the reason that `maps::listener` has.
#[inline(always)]
pub fn key(source: &Address) -> Option<SourceKey> {
    let policy = maps::host_policy()?;
    // SAFETY: the policy lives as long as its map.
    let (v4_len, v6_len) = unsafe {
        (
            atomic::load(&raw const (*policy).source_v4_len) as u32,
            atomic::load(&raw const (*policy).source_v6_len) as u32,
        )
    };
    let masked = SourceKey::of(source, v4_len, v6_len);
    let mut key = MaybeUninit::<SourceKey>::uninit();
    let fields = key.as_mut_ptr();
    // SAFETY: every field is written before the key is read; the writes are inside of it.
    unsafe {
        write_volatile(&raw mut (*fields).address[0], masked.address[0]);
        write_volatile(&raw mut (*fields).address[1], masked.address[1]);
        write_volatile(&raw mut (*fields).address[2], masked.address[2]);
        write_volatile(&raw mut (*fields).address[3], masked.address[3]);
        write_volatile(&raw mut (*fields).prefix_len, masked.prefix_len);
        Some(key.assume_init())
    }
}

/// True if as many sockets live from the prefix as the listener lets one have.
///
/// A SYN that passes here takes no place: `sock_ops` counts what is established, and refuses what is above the cap.
#[inline(always)]
pub fn is_at_cap(source: &SourceKey, listener: *const Listener) -> bool {
    // SAFETY: the agent replaces listeners whole.
    let cap = unsafe { (*listener).source_cap };
    if cap == u64::MAX {
        return false;
    }
    // SAFETY: the row's memory lives until this program ends.
    maps::source(source)
        .is_some_and(|row| SourceUsage::live(unsafe { atomic::load(&raw const (*row).live) }) >= cap)
}
