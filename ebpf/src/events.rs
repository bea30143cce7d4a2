//! Events to the agent: at most one of a kind, zone and interval.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use weir_common::{
    event::{Event, INTERVAL_NS, KIND_ABOVE_GUIDELINE, KIND_REFUSED},
    reason::Refusal,
    zone::{ZonePolicy, ZoneUsage},
};

use crate::{atomic, maps};

/// A WebSocket or socket of the zone was refused at `bound`.
#[inline(always)]
pub fn refused(policy: *const ZonePolicy, usage: *mut ZoneUsage, reason: Refusal, bound: u64) {
    // SAFETY: both records live as long as their maps.
    let (last, zone_key, websockets) = unsafe {
        (&raw mut (*usage).refusal_event_ns, (*policy).key, atomic::load(&raw const (*usage).websockets))
    };
    send(last, zone_key, websockets, bound, KIND_REFUSED, reason as u32);
}

/// The zone went above its guideline.
#[inline(always)]
pub fn above_guideline(policy: *const ZonePolicy, usage: *mut ZoneUsage, websockets: u64) {
    // SAFETY: as above.
    let (last, zone_key, guideline) =
        unsafe { (&raw mut (*usage).guideline_event_ns, (*policy).key, (*policy).guideline) };
    send(last, zone_key, websockets, guideline, KIND_ABOVE_GUIDELINE, 0);
}

#[inline(always)]
fn send(last: *mut u64, zone_key: u64, websockets: u64, bound: u64, kind: u32, reason: u32) {
    // SAFETY: `last` points into a usage record; the helper takes nothing.
    let (now, before) = unsafe { (bpf_ktime_get_ns(), atomic::load(last)) };
    if now < before + INTERVAL_NS {
        return;
    }
    // SAFETY: as above. Who loses the exchange leaves the event to the winner.
    if !unsafe { atomic::compare_exchange(last, before, now) } {
        return;
    }
    match maps::reserve_event() {
        Some(mut entry) => {
            entry.write(Event { at_ns: now, zone_key, websockets, bound, kind, reason });
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
