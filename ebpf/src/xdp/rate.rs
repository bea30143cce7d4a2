//! SYNs of a source prefix in time.
//!
//! The table forgets the source that was not heard of longest, so a flood from made-up addresses costs other sources at most
//! their bucket's state, which is then full: they are let in. Exact counts are in other tables, which no packet can write to.

use weir_common::{
    gate::{Bucket, GateRecord},
    source::SourceKey,
};

use crate::{atomic, maps};

/// Tries of the compare-and-swap: fewer than of a count, as every try is one more path for the verifier.
const TRIES: u32 = 3;

/// Takes a token of the source. False if there is none.
///
/// Where other CPUs win every try, the packet passes: at most one a try and CPU.
#[inline(always)]
pub fn take(source: &SourceKey, record: *mut GateRecord, now: u64) -> bool {
    // SAFETY: the record lives as long as its map.
    let (token_ns, burst_ns) = unsafe {
        (
            atomic::load(&raw const (*record).policy.syn_token_ns),
            atomic::load(&raw const (*record).policy.syn_burst_ns),
        )
    };
    if token_ns == 0 {
        return true;
    }
    let Some(bucket) = maps::bucket(source) else {
        maps::insert_bucket(source, &Bucket { full_at_ns: now.wrapping_add(token_ns) });
        return true;
    };
    // SAFETY: the bucket's memory lives until this program ends; it may be given to another source meanwhile, which then lacks a
    // token at worst.
    let full_at = unsafe { &raw mut (*bucket).full_at_ns };
    for _ in 0..TRIES {
        // SAFETY: as above.
        let full_at_ns = unsafe { atomic::load(full_at) };
        let Some(less) = (Bucket { full_at_ns }).take(now, token_ns, burst_ns) else { return false };
        // SAFETY: as above.
        if unsafe { atomic::compare_exchange(full_at, full_at_ns, less.full_at_ns) } {
            return true;
        }
    }
    true
}
