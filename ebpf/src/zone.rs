//! A zone as the programs know it: whether it is open, what it has room for, and what is told when it has none.

use aya_ebpf::{bindings::bpf_sock, helpers::generated::bpf_ktime_get_boot_ns};
use weir_common::{
    reason::Refusal,
    socket::{ADMITTED, OVER_SOURCE_CAP, SocketTag},
    zone::{FLAG_BLOCKED, FLAG_LEASED, ZonePolicy, ZoneUsage},
};

use crate::{atomic, books, events, maps, tags};

/// A zone's two records.
pub struct Zone {
    pub slot: u32,
    pub policy: *const ZonePolicy,
    pub usage: *mut ZoneUsage,
}

impl Zone {
    /// The zone that a listener is dedicated to.
    #[inline(always)]
    pub fn of_slot(slot: u32) -> Option<Self> {
        match (maps::policy(slot), maps::usage(slot)) {
            (Some(policy), Some(usage)) => Some(Self { slot, policy, usage }),
            _ => None,
        }
    }

    #[inline(always)]
    pub fn find(key: u64) -> Result<Self, Refusal> {
        let slot = maps::slot(key).ok_or(Refusal::ZoneUnknown)?;
        match (maps::policy(slot), maps::usage(slot)) {
            (Some(policy), Some(usage)) => Ok(Self { slot, policy, usage }),
            _ => Err(Refusal::ZoneUnknown),
        }
    }

    /// The zone of a key, also if it has left the configuration while the socket is one of its live WebSockets: what was
    /// admitted can always be released.
    #[inline(always)]
    pub fn of_admitted(sk: *mut bpf_sock, key: u64) -> Result<Self, Refusal> {
        let (flags, slot) = tags::known(tags::find(sk));
        if flags & ADMITTED != 0
            && let (Some(policy), Some(usage)) = (maps::policy(slot), maps::usage(slot))
        {
            // SAFETY: records live as long as their maps.
            if unsafe { atomic::load(&raw const (*policy).key) } == key {
                return Ok(Self { slot, policy, usage });
            }
        }
        Self::find(key)
    }

    /// The time by which leases end, if the zone may have some; else a time at which none holds. The clock is not read for
    /// zones without.
    #[inline(always)]
    fn lease_clock(&self, flags: u64) -> u64 {
        // SAFETY: the helper takes nothing.
        if flags & FLAG_LEASED != 0 { unsafe { bpf_ktime_get_boot_ns() } } else { u64::MAX }
    }

    /// Refused if the zone is blocked. Returns the time by which its leases end.
    #[inline(always)]
    pub fn check_open(&self) -> Result<u64, Refusal> {
        // SAFETY: records live as long as their maps.
        let flags = unsafe { atomic::load(&raw const (*self.policy).flags) };
        let now = self.lease_clock(flags);
        // SAFETY: as above.
        let blocked_until = unsafe { atomic::load(&raw const (*self.policy).leases.block_until_boot_ns) };
        if flags & FLAG_BLOCKED != 0 || blocked_until > now {
            return Err(Refusal::ZoneBlocked);
        }
        Ok(now)
    }

    /// A socket goes by its place among its source's at its birth, so that of many exactly as many pass as the cap says,
    /// whatever the order in which they are spoken for.
    #[inline(always)]
    pub fn check_source(&self, tag: Option<*mut SocketTag>) -> Result<(), Refusal> {
        let Some(tag) = tag else { return Ok(()) };
        // SAFETY: the tag lives as long as its socket, which is locked; records as long as their maps.
        let (flags, ordinal, cap) = unsafe {
            ((*tag).flags, (*tag).source_ordinal, atomic::load(&raw const (*self.policy).source_cap))
        };
        if flags & OVER_SOURCE_CAP != 0 || u64::from(ordinal) > cap {
            return Err(Refusal::SourceCap);
        }
        Ok(())
    }

    #[inline(always)]
    pub fn take_socket(&self) -> Result<(), Refusal> {
        // SAFETY: as above.
        unsafe {
            let cap = atomic::load(&raw const (*self.policy).socket_cap);
            books::raise_below(&raw mut (*self.usage).sockets, cap).ok_or(Refusal::SocketCap)?;
            atomic::increment(&raw mut (*self.usage).joined_total);
        }
        Ok(())
    }

    /// Below the lowest cap that is in force, which names the refusal.
    #[inline(always)]
    pub fn take_websocket(&self, now: u64) -> Result<u64, Refusal> {
        let (cap, refusal) = self.websocket_cap(now);
        // SAFETY: as above.
        books::raise_below(unsafe { &raw mut (*self.usage).websockets }, cap).ok_or(refusal)
    }

    #[inline(always)]
    fn websocket_cap(&self, now: u64) -> (u64, Refusal) {
        // SAFETY: as above.
        let (abuse_cap, leases) =
            unsafe { (atomic::load(&raw const (*self.policy).abuse_cap), &raw const (*self.policy).leases) };
        let mut lowest = (abuse_cap, Refusal::AbuseCap);
        if now == u64::MAX {
            return lowest;
        }
        // SAFETY: as above.
        let [limit_cap, limit_until, verdict_cap, verdict_until] = unsafe {
            [
                atomic::load(&raw const (*leases).limit_cap),
                atomic::load(&raw const (*leases).limit_until_boot_ns),
                atomic::load(&raw const (*leases).verdict_cap),
                atomic::load(&raw const (*leases).verdict_until_boot_ns),
            ]
        };
        if limit_until > now && limit_cap < lowest.0 {
            lowest = (limit_cap, Refusal::Limit);
        }
        if verdict_until > now && verdict_cap < lowest.0 {
            lowest = (verdict_cap, Refusal::Verdict);
        }
        lowest
    }

    /// An admission that stands: it may raise the high-water mark, and may be the one that crosses the guideline.
    #[inline(always)]
    pub fn admitted(&self, websockets: u64) {
        // SAFETY: as above.
        let guideline = unsafe {
            books::raise_peak(&raw mut (*self.usage).websockets_peak, websockets);
            atomic::increment(&raw mut (*self.usage).admitted_total);
            atomic::load(&raw const (*self.policy).guideline)
        };
        if websockets > guideline && websockets - 1 == guideline {
            events::above_guideline(self.policy, self.usage, websockets);
        }
    }

    #[inline(always)]
    pub fn refuse(&self, refusal: Refusal) {
        books::refused(self.usage, refusal);
        if refusal.is_admission() {
            // All are loaded before one is chosen: see `books::opaque`.
            // SAFETY: as above.
            let [socket_cap, abuse_cap, limit_cap, verdict_cap, source_cap] = unsafe {
                [
                    atomic::load(&raw const (*self.policy).socket_cap),
                    atomic::load(&raw const (*self.policy).abuse_cap),
                    atomic::load(&raw const (*self.policy).leases.limit_cap),
                    atomic::load(&raw const (*self.policy).leases.verdict_cap),
                    atomic::load(&raw const (*self.policy).source_cap),
                ]
            };
            let bound = match refusal {
                Refusal::SocketCap => socket_cap,
                Refusal::AbuseCap => abuse_cap,
                Refusal::Limit => limit_cap,
                Refusal::Verdict => verdict_cap,
                Refusal::SourceCap => source_cap,
                _ => 0,
            };
            events::refused(self.policy, self.usage, refusal, bound);
        }
    }
}
