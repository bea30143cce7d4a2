//! The zone of a dedicated listener: a SYN to it is for nobody else, so what the zone may not have need not be answered.
//!
//! Read-only and without a lock: a SYN that passes here is no place taken. `sock_ops` and `cgroup/setsockopt` hold the caps.

use weir_common::{
    listener::{Listener, WEBSOCKETS},
    verdict::Outcome,
    zone::{FLAG_BLOCKED, FLAG_LEASED, UNATTRIBUTED, ZonePolicy, ZoneUsage},
};

use crate::{atomic, books, maps};

/// A zone that takes no new connection.
pub struct Closed {
    pub outcome: Outcome,
    pub zone_key: u64,
    usage: *mut ZoneUsage,
}

impl Closed {
    /// Counts the drop with the zone.
    #[inline(always)]
    pub fn count(&self) {
        books::dropped(self.usage, self.outcome);
    }
}

/// Why the zone that the listener is dedicated to takes no new connection.
#[inline(always)]
pub fn closed(listener: *const Listener, now: u64) -> Option<Closed> {
    // SAFETY: the agent replaces listeners whole.
    let (slot, flags) = unsafe { ((*listener).slot, (*listener).flags) };
    if slot == UNATTRIBUTED {
        return None;
    }
    let (policy, usage) = (maps::policy(slot)?, maps::usage(slot)?);
    let outcome = reason(policy, usage, flags & WEBSOCKETS != 0, now)?;
    // SAFETY: records live as long as their maps.
    let zone_key = unsafe { atomic::load(&raw const (*policy).key) };
    Some(Closed { outcome, zone_key, usage })
}

#[inline(always)]
fn reason(policy: *const ZonePolicy, usage: *const ZoneUsage, websockets: bool, now: u64) -> Option<Outcome> {
    // SAFETY: records live as long as their maps.
    let flags = unsafe { atomic::load(&raw const (*policy).flags) };
    let leased = flags & FLAG_LEASED != 0;
    // SAFETY: as above.
    let until = |until: *const u64| leased && unsafe { atomic::load(until) } > now;
    // SAFETY: as above; the pointers are inside of the record.
    let leases = unsafe { &raw const (*policy).leases };
    // SAFETY: as above.
    if flags & FLAG_BLOCKED != 0 || until(unsafe { &raw const (*leases).block_until_boot_ns }) {
        return Some(Outcome::ZoneBlocked);
    }
    // SAFETY: as above.
    if unsafe { is_at(&raw const (*usage).sockets, &raw const (*policy).socket_cap) } {
        return Some(Outcome::SocketCap);
    }
    if !websockets {
        return None;
    }
    // SAFETY: as above.
    let full = unsafe {
        let live = &raw const (*usage).websockets;
        is_at(live, &raw const (*policy).abuse_cap)
            || (until(&raw const (*leases).verdict_until_boot_ns)
                && is_at(live, &raw const (*leases).verdict_cap))
            || (until(&raw const (*leases).limit_until_boot_ns)
                && is_at(live, &raw const (*leases).limit_cap))
    };
    full.then_some(Outcome::WebsocketCap)
}

/// A gauge below 0, a fault that the audit finds, lets everybody in.
///
/// # Safety
/// Both point into records.
#[inline(always)]
unsafe fn is_at(gauge: *const u64, cap: *const u64) -> bool {
    // SAFETY: the caller's.
    let (live, cap) = unsafe { (atomic::load(gauge), atomic::load(cap)) };
    live >= cap && (live as i64) >= 0
}
