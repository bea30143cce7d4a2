//! What belongs to the host rather than to a zone.

use crate::reason::REFUSALS;

/// The host's one record: what its maps are, and what the kernel counts for the host.
///
/// The first three fields are written by the agent that makes the maps, and stay first in every ABI version: they are what a
/// later agent must agree with to adopt the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct HostUsage {
    /// [`ABI_VERSION`](crate::ABI_VERSION); 0 while the maps are being made.
    pub abi_version: u64,
    /// `SO_NETNS_COOKIE` of the network namespace whose sockets are counted.
    pub netns_cookie: u64,
    /// Inode of the cgroup that the programs are attached to.
    pub cgroup_id: u64,
    /// Refusals that no zone can be named for, by [`Refusal::counter`](crate::reason::Refusal::counter).
    pub refused: [u64; REFUSALS],
    /// Events that found no room in the ring buffer.
    pub events_lost: u64,
    /// Accepted sockets of our listeners for which the kernel had no memory for a tag: they pass, uncounted.
    pub untracked_total: u64,
    /// Compare-and-swap loops that were given up under contention; the step was then done in a way that may refuse
    /// one too many, and never admits one too many.
    pub contended_total: u64,
    /// Always 0, which the verifier does not know: see `opaque` in the kernel programs' books.
    pub zero: u64,
    pub reserved: u64,
}
