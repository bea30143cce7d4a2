//! A zone in the kernel: its key, the policy that the agent writes, the usage that the kernel keeps.
//!
//! A zone has a *slot*, an index into the policy and the usage array. Slot [`UNATTRIBUTED`] is nobody's: it holds the
//! sockets of our listeners whose zone is not known yet. The agent gives a slot to another zone only when its counts
//! are 0 and no program can still hold the old one (after an RCU grace period).

use crate::{
    reason::{CLOSES, REFUSALS},
    verdict::ZONE_DROPS,
};

/// The slot of sockets that belong to no zone (yet).
pub const UNATTRIBUTED: u32 = 0;

/// A zone's key: what a proxy tells the kernel. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct ZoneKey(u64);

impl ZoneKey {
    /// The key of a zone's name: FNV-1a, 64 bit, over its bytes.
    ///
    /// Not collision-proof against an adversary; the configuration is refused if two of its zones collide.
    pub const fn of(name: &str) -> Self {
        let bytes = name.as_bytes();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut i = 0;
        while i < bytes.len() {
            hash ^= bytes[i] as u64;
            hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        Self(if hash == 0 { 1 } else { hash })
    }

    /// The number that goes into `setsockopt`.
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// The key of a number that came out of a map.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

/// No cap.
pub const UNCAPPED: u64 = u64::MAX;

/// The zone is blocked: nothing is attributed or admitted to it.
pub const FLAG_BLOCKED: u64 = 1;

/// Some of the zone's [`ZoneLeases`] may hold: the kernel looks at the clock only then.
pub const FLAG_LEASED: u64 = 2;

/// Refusals that end by themselves, whether an agent lives or not: the kernel compares each end with its own clock,
/// `CLOCK_BOOTTIME` in nanoseconds, which goes on while the host sleeps. An end of 0 is long over.
///
/// The agent writes a cap before its end, so that no cap holds that was never given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ZoneLeases {
    /// Until then nothing is attributed or admitted to the zone.
    pub block_until_boot_ns: u64,
    /// Live WebSockets above which new ones are refused because of a verdict, and until when.
    pub verdict_cap: u64,
    pub verdict_until_boot_ns: u64,
    /// Live WebSockets above which new ones are refused by a limit of a dialogue, and until when.
    pub limit_cap: u64,
    pub limit_until_boot_ns: u64,
}

impl ZoneLeases {
    pub const NONE: Self = Self {
        block_until_boot_ns: 0,
        verdict_cap: 0,
        verdict_until_boot_ns: 0,
        limit_cap: 0,
        limit_until_boot_ns: 0,
    };

    /// True if one of them holds at this time.
    pub const fn hold(&self, boot_ns: u64) -> bool {
        self.block_until_boot_ns > boot_ns
            || self.verdict_until_boot_ns > boot_ns
            || self.limit_until_boot_ns > boot_ns
    }
}

/// What the kernel enforces for a slot. The agent writes it field by field, each with one 8-byte store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct ZonePolicy {
    /// The zone that has the slot; 0 if none. First in every ABI version, for the agent of another one.
    pub key: u64,
    /// Live WebSockets above which an event is sent; nothing is refused for it. [`UNCAPPED`]: none.
    pub guideline: u64,
    /// Live WebSockets of the zone on this host: the kernel refuses the one that would exceed it.
    pub abuse_cap: u64,
    /// Kernel sockets of the zone on this host, as above.
    pub socket_cap: u64,
    /// [`FLAG_BLOCKED`], [`FLAG_LEASED`].
    pub flags: u64,
    /// A socket that was born as a later one than this of its source prefix is not attributed or admitted to the zone.
    pub source_cap: u64,
    pub reserved: [u64; 2],
    pub leases: ZoneLeases,
    pub reserved_for_leases: [u64; 3],
}

impl ZonePolicy {
    /// A slot that nobody has.
    pub const EMPTY: Self = Self {
        key: 0,
        guideline: UNCAPPED,
        abuse_cap: UNCAPPED,
        socket_cap: UNCAPPED,
        flags: 0,
        source_cap: UNCAPPED,
        reserved: [0; 2],
        leases: ZoneLeases::NONE,
        reserved_for_leases: [0; 3],
    };
}

/// What the kernel counts for a slot. Gauges change only by atomic operations; totals only grow while the slot has its zone.
///
/// The array is mapped into the agent's memory: reading it costs no system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct ZoneUsage {
    /// Live kernel sockets.
    pub sockets: u64,
    /// Live WebSockets (admitted sockets).
    pub websockets: u64,
    /// High-water mark of `websockets` since the agent last set it back.
    pub websockets_peak: u64,
    /// Sockets that were admitted before they were connected, and still are not: part of `sockets`, and not to be expected
    /// in `sock_diag`'s list (the kernel lists a connecting socket only once it has found a port for it).
    pub unconnected: u64,
    /// Sockets that ever joined the slot.
    pub joined_total: u64,
    /// Sockets that ever left it: closed, or moved to another slot.
    pub left_total: u64,
    /// WebSockets that were ever admitted.
    pub admitted_total: u64,
    /// WebSockets that ended, by close or by release. `admitted_total - ended_total == websockets` when nothing moves.
    pub ended_total: u64,
    /// Bytes that clients sent and this host acknowledged, added at each audit and when a socket closes.
    pub rx_bytes: u64,
    /// Bytes that clients acknowledged, likewise.
    pub tx_bytes: u64,
    /// Kernel time (ns, `CLOCK_MONOTONIC`) of the last refusal event, and of the last guideline event.
    pub refusal_event_ns: u64,
    pub guideline_event_ns: u64,
    /// SYNs to the zone's dedicated listeners that the gate dropped, by [`zone_drop`](crate::verdict::Outcome::zone_drop).
    pub dropped: [u64; ZONE_DROPS],
    /// Refusals by [`Refusal::counter`](crate::reason::Refusal::counter).
    pub refused: [u64; REFUSALS],
    /// Ended sockets by [`Close`](crate::reason::Close).
    pub closed: [u64; CLOSES],
    /// Admissions that were taken back, by `RELEASE` or because no connection to an origin came about: upgrades that were not answered
    /// by 101.
    pub released_total: u64,
    /// WebSockets that ended with their socket; the sum of their lifetimes, and of the squares of these, in [`Lifetime`] units.
    pub lived_total: u64,
    pub lived_sum: u64,
    pub lived_squares: u64,
}

/// A lifetime as it is added up: in units of 2^26 ns (67 ms), and at most 39 h, so that sums of squares of a million sockets fit into
/// 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u64);

impl Lifetime {
    const MOST: u64 = 1 << 21;
    /// A mean of fewer units says little of how alike lifetimes are: they differ by a unit by chance.
    pub const LEAST_TOLD: u64 = 10;

    #[inline(always)]
    pub const fn of_ns(ns: u64) -> Self {
        let units = ns >> 26;
        Self(if units > Self::MOST { Self::MOST } else { units })
    }

    #[inline(always)]
    pub const fn units(self) -> u64 {
        self.0
    }
}
