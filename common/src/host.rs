//! What belongs to the host rather than to a zone.

use crate::reason::REFUSALS;

/// One record of what the kernel counts for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct HostUsage {
    /// Refusals that no zone can be named for, by [`Refusal`](crate::reason::Refusal).
    pub refused: [u64; REFUSALS],
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
    /// Accepted sockets of our listeners for which the kernel had no memory for a tag: they pass, uncounted.
    pub untracked_total: u64,
    /// Compare-and-swap loops that were given up under contention; the step was then done in a way that may refuse
    /// one too many, and never admits one too many.
    pub contended_total: u64,
    pub reserved: [u64; 5],
}

/// Written once when the maps are made: what a later agent must agree with to adopt them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// [`ABI_VERSION`](crate::ABI_VERSION); 0 while the maps are being made.
    pub abi_version: u32,
    /// Slots in the zone maps, slot 0 included.
    pub slots: u32,
    /// `SO_NETNS_COOKIE` of the network namespace whose sockets are counted.
    pub netns_cookie: u64,
}
