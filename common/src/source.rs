//! Where clients come from: exact live sockets per source prefix.
//!
//! `sock_ops` counts a socket of our listeners in its source's row at birth and takes it out at death; the socket's
//! [tag](crate::socket::SocketTag) holds the key, so that a change of the configured prefix lengths cannot make a socket leave
//! another row than the one that it joined. XDP and `sk_lookup` read rows, and never write any.
//!
//! A row exists while it counts a socket. The last socket to leave closes the row (1 -> [`CLOSED`], by compare-and-swap) and
//! then deletes it; a birth that meets a closed row looks again. `docs/decisions.md` has the reasons. A birth for which the
//! table has no room passes uncounted and is counted as that
//! ([`HostUsage::sources_full_total`](crate::host::HostUsage::sources_full_total)): no row is ever pushed out.

use crate::{
    host::HostPolicy,
    listener::{Address, is_mapped},
};

/// Length of an IPv4 source prefix without configuration: the address.
pub const V4_LEN: u32 = 32;
/// Length of an IPv6 source prefix without configuration: what one site or household gets at least.
pub const V6_LEN: u32 = 64;
/// Bits before an IPv4 address in its IPv4-mapped form.
pub const MAPPED_LEN: u32 = 96;

/// A source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct SourceKey {
    /// As [`Address`] (words in network byte order, IPv4 mapped), all bits behind the prefix 0.
    pub address: Address,
    /// Bits of the 128-bit form: 128 for an IPv4 /32, 120 for an IPv4 /24, 64 for an IPv6 /64.
    pub prefix_len: u32,
}

impl SourceKey {
    /// The prefix of an address, as long as the host's policy says for its family.
    #[inline(always)]
    pub const fn of(address: &Address, v4_len: u32, v6_len: u32) -> Self {
        let prefix_len = if is_mapped(address) { MAPPED_LEN + v4_len } else { v6_len };
        Self { address: masked(address, prefix_len), prefix_len }
    }

    /// As [`SourceKey::of`], with a policy's lengths. (The kernel programs read the two words of theirs themselves.)
    pub const fn by(policy: &HostPolicy, address: &Address) -> Self {
        Self::of(address, policy.source_v4_len as u32, policy.source_v6_len as u32)
    }
}

/// The address with all bits behind the first `prefix_len` 0. Lengths above 128 are 128.
#[inline(always)]
pub const fn masked(address: &Address, prefix_len: u32) -> Address {
    [
        address[0] & mask(prefix_len, 0),
        address[1] & mask(prefix_len, 32),
        address[2] & mask(prefix_len, 64),
        address[3] & mask(prefix_len, 96),
    ]
}

/// The mask of the word that begins at bit `first`, as it lies in memory.
#[inline(always)]
pub const fn mask(prefix_len: u32, first: u32) -> u32 {
    let bits = prefix_len.saturating_sub(first);
    let bits = if bits > 32 { 32 } else { bits };
    ((0xffff_ffff_0000_0000_u64 >> bits) as u32).to_be()
}

/// [`SourceUsage::live`] of a row that is about to be deleted. No other bit is set beside it.
pub const CLOSED: u64 = 1 << 63;

/// What the kernel counts for a source prefix.
///
/// In the order in which a reader wants the words: totals before the gauge, as the audit needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SourceUsage {
    /// Sockets that ever joined this row, and that ever left it: bounds for the audit.
    pub joined_total: u64,
    pub left_total: u64,
    /// Number of the row among all that were ever made: tells it from an earlier row of the same prefix, and from one of
    /// another prefix in the same memory.
    pub row: u64,
    /// Live sockets, or [`CLOSED`]: read it with [`SourceUsage::live`].
    pub live: u64,
}

impl SourceUsage {
    /// Live sockets of a `live` word: 0 for a closed row, and for one that a fault took below 0.
    #[inline(always)]
    pub const fn live(word: u64) -> u64 {
        if (word as i64) < 0 { 0 } else { word }
    }
}
