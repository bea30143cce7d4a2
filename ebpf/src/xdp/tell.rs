//! What the gate did: a counter of each outcome, and now and then a sample.

use weir_common::{
    gate::{DropEvent, EVENT_INTERVAL_NS},
    verdict::{OUTCOMES, Outcome},
};

use super::Case;
use crate::{atomic, books, maps};

/// Counts a packet. A counter is of one CPU, and no program meets itself on it.
#[inline(always)]
pub fn count(counter: u32) {
    if let Some(count) = maps::gate_count(counter) {
        // SAFETY: the counter lives as long as its map, and only this CPU writes to it.
        unsafe { *count += 1 };
    }
}

/// Sends a sample, if the last one of this outcome was long enough ago.
#[inline(always)]
pub fn sample(case: &Case<'_>, outcome: Outcome, zone_key: u64, dry: bool) {
    let index = books::opaque(outcome as usize) % OUTCOMES as usize;
    // SAFETY: the record lives as long as its map; the index is within it.
    let last = unsafe { &raw mut (*case.record).event_ns[index] };
    // SAFETY: as above.
    let before = unsafe { atomic::load(last) };
    if case.now < before + EVENT_INTERVAL_NS {
        return;
    }
    // SAFETY: as above. Who loses the exchange leaves the event to the winner.
    if !unsafe { atomic::compare_exchange(last, before, case.now) } {
        return;
    }
    match maps::reserve_drop() {
        Some(mut entry) => {
            entry.write(DropEvent {
                at_boot_ns: case.now,
                zone_key,
                source: case.syn.source,
                destination: case.syn.destination,
                port: case.syn.port,
                outcome: outcome as u32,
                dry: dry as u32,
                reserved: 0,
            });
            entry.submit(0);
        }
        None => {
            if let Some(host) = maps::host() {
                // SAFETY: the host's record lives as long as its map.
                unsafe { atomic::increment(&raw mut (*host).events_lost) };
            }
        }
    }
}
