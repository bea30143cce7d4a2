//! What the XDP gate goes by, and what it tells: the lists, the rate of SYNs, the record of both sides.

use crate::{listener::Address, verdict::OUTCOMES};

/// Entries that the lists, and the table of rates, have room for. The lists take memory only for what is in them.
pub const MAX_ALLOWED: u32 = 16_384;
pub const MAX_DENIED: u32 = 262_144;
pub const MAX_RATES: u32 = 65_536;

/// A prefix in the allow or the deny list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct PrefixKey {
    /// Bits of the 128-bit form: 128 for an IPv4 /32, 120 for an IPv4 /24.
    pub prefix_len: u32,
    /// Words in network byte order, IPv4 mapped.
    pub address: Address,
}

/// What is in a list for a prefix: the configuration's entry, one with an end, or both. It holds as long as one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixEntry {
    /// End of the [`BY_OPERATOR`] or [`BY_VERDICT`] part: `CLOCK_BOOTTIME`, nanoseconds, which goes on while the host sleeps. The
    /// kernel itself compares, so an entry ends in time whether an agent lives or not. [`NEVER`]: it has no end.
    pub until_boot_ns: u64,
    /// As in the key: where this entry has ended, the kernel looks for a shorter prefix that holds.
    pub prefix_len: u32,
    /// [`BY_CONFIGURATION`], [`BY_OPERATOR`], [`BY_VERDICT`].
    pub by: u32,
}

pub const NEVER: u64 = u64::MAX;
/// The configuration names the prefix; this part has no end.
pub const BY_CONFIGURATION: u32 = 1 << 0;
/// An operator put it there.
pub const BY_OPERATOR: u32 = 1 << 1;
/// A verdict on suspicion of abuse put it there.
pub const BY_VERDICT: u32 = 1 << 2;

impl PrefixEntry {
    /// True if a part of it holds at this time.
    #[inline(always)]
    pub const fn holds(&self, boot_ns: u64) -> bool {
        self.by & BY_CONFIGURATION != 0 || self.has_end_after(boot_ns)
    }

    /// True if the part that has an end holds at this time.
    #[inline(always)]
    pub const fn has_end_after(&self, boot_ns: u64) -> bool {
        self.by & (BY_OPERATOR | BY_VERDICT) != 0 && self.until_boot_ns > boot_ns
    }
}

/// Ended entries, one inside of the other, that the kernel looks past for one that holds. The agent sweeps them every second.
pub const LOOKUPS: u32 = 4;

/// The rate of SYNs of one source prefix: a token bucket as one number.
///
/// It is the time at which the bucket is full again (`CLOCK_BOOTTIME`, nanoseconds). One compare-and-swap takes a token, so there is
/// no lock and nothing to refill. (The generic cell rate algorithm, ITU-T I.371.) It lives in a table that forgets who was not
/// heard of longest: a forgotten source has a full bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    pub full_at_ns: u64,
}

impl Bucket {
    /// The bucket without one more token, or nothing if there is none.
    ///
    /// `token_ns`: time in which a token comes; `burst_ns`: that of all tokens of a full bucket but one.
    ///
    /// A bucket that would be full later than an empty one of this rate was filled by another, slower rate, whose debt does not
    /// bind any more: it has one token. [`OTHER_CPUS_NS`] of the way is left for CPUs that read their clock at different times.
    #[inline(always)]
    pub const fn take(self, now_ns: u64, token_ns: u64, burst_ns: u64) -> Option<Self> {
        let ahead = self.full_at_ns.saturating_sub(now_ns);
        let empty = burst_ns.saturating_add(token_ns);
        let ahead = if ahead > empty.saturating_add(OTHER_CPUS_NS) { burst_ns } else { ahead };
        if ahead > burst_ns {
            return None;
        }
        Some(Self { full_at_ns: now_ns.wrapping_add(ahead).wrapping_add(token_ns) })
    }
}

/// A CPU that took a token may have read its clock this much later than one that looks at the bucket after it.
pub const OTHER_CPUS_NS: u64 = 100_000_000;

/// The gate's record. The agent writes the first part, field by field, each with one 8-byte store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct GateRecord {
    pub policy: GatePolicy,
    /// Time (ns, `CLOCK_BOOTTIME`) of the last event by [`Outcome`](crate::verdict::Outcome); the kernel's.
    pub event_ns: [u64; OUTCOMES as usize],
}

/// What the gate goes by beside its lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct GatePolicy {
    /// [`Rule::bit`](crate::verdict::Rule::bit)s of the rules that only count.
    pub dry: u64,
    /// Time in which a source prefix gets one more SYN; 0: there is no rate.
    pub syn_token_ns: u64,
    /// Time in which it gets all of a burst but one.
    pub syn_burst_ns: u64,
    /// Entries of the allow and of the deny list: no list is looked into for 0. Raised before an entry is there, lowered after it
    /// has gone.
    pub allow_entries: u64,
    pub deny_entries: u64,
    pub reserved: [u64; 3],
}

/// Shortest time between two events of one outcome.
pub const EVENT_INTERVAL_NS: u64 = 1_000_000_000;

/// A sample of what was dropped: at most one of an outcome and [`EVENT_INTERVAL_NS`]. Counters say how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DropEvent {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub at_boot_ns: u64,
    /// The dedicated listener's zone; 0: none.
    pub zone_key: u64,
    pub source: Address,
    pub destination: Address,
    /// Host byte order.
    pub port: u32,
    /// An [`Outcome`](crate::verdict::Outcome).
    pub outcome: u32,
    /// 1 if its rule only counts, and the packet passed.
    pub dry: u32,
    pub reserved: u32,
}
