//! What belongs to the host rather than to a zone.

use crate::reason::REFUSALS;

/// The host's one record: what its maps are, and what the kernel counts for the host.
///
/// The first three fields are written by the agent that makes the maps, and stay first in every ABI version: they are what a
/// later agent must agree with to adopt the maps, or to rebuild the counts of another version.
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
    /// Births that were counted in no source's row: the table was full.
    pub sources_full_total: u64,
    /// Births that were counted in no source's row: in every try it was just being deleted.
    pub sources_missed_total: u64,
    /// Rows of sources that were ever made, and that were deleted again.
    pub source_rows_total: u64,
    pub source_rows_gone_total: u64,
    /// Live sockets that joined a dedicated listener's zone above its cap, and are to be ended by the agent.
    pub doomed: u64,
    /// Always 0, which the verifier does not know: see `opaque` in the kernel programs' books.
    pub zero: u64,
    /// Sockets that were ever counted in `doomed`: bounds for the audit.
    pub doomed_total: u64,
    pub reserved: [u64; 3],
}

/// What the kernel enforces for the host. The agent writes it field by field, each with one 8-byte store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct HostPolicy {
    /// Length of an IPv4 source prefix, 0 to 32.
    pub source_v4_len: u64,
    /// Length of an IPv6 source prefix, 0 to 128.
    pub source_v6_len: u64,
    /// A `SO_MARK` of which these bits are `mark_base` speaks of a zone; 0: none does.
    pub mark_mask: u64,
    pub mark_base: u64,
    /// The user that may correct a source's row: the agent's.
    pub agent_uid: u64,
    /// Not 0 while the programs of another ABI version are attached beside these ones, see the agent's `rebuild`.
    pub adopting: u64,
    pub reserved: [u64; 10],
}
