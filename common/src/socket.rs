//! The tag that the kernel keeps with each counted socket (`sk_storage`).
//!
//! Written under the socket's lock by `sock_ops` and `cgroup/setsockopt`. Whoever ends the socket's account exchanges
//! `flags` for [`DEAD`] in one atomic step and settles what it got: so a socket is subtracted once, also where
//! `cgroup/sock_release`, which runs without the lock, meets a state change. Two errands of the agent (see [`errand`](crate::errand))
//! run without it as well: one moves the byte counts, by compare-and-swap; the other makes tags, and has the socket to itself by
//! [`CLAIMED`].
//!
//! All but the last field are where every later version will have them, and flags keep their meaning: an agent of another version
//! reads them to rebuild its counts.

use crate::source::SourceKey;

/// Books of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketTag {
    /// The slot in whose `sockets` it is counted.
    pub slot: u32,
    /// The flags of this module.
    pub flags: u32,
    /// The row that counts it, if it is [`SOURCED`].
    pub source: SourceKey,
    /// It is the n-th of its source: live sockets of the prefix when it was born, itself included. A cap per source below this
    /// refuses it. 0: not counted there, no cap applies.
    pub source_ordinal: u32,
    /// Bytes of the socket that were added to a zone's so far; [`SEALED`] once all of them are.
    pub rx_counted: u64,
    pub tx_counted: u64,
    /// When it was first counted (`CLOCK_BOOTTIME`): at its birth, unless it is older than the agent.
    pub born_boot_ns: u64,
}

/// [`SocketTag::rx_counted`] and `tx_counted` of a socket that has ended.
pub const SEALED: u64 = u64::MAX;

/// Counted in its slot's `sockets`.
pub const COUNTED: u32 = 1 << 0;
/// Counted in its slot's `websockets`.
pub const ADMITTED: u32 = 1 << 1;
/// Admitted before it was connected, and not established yet: counted in its slot's `unconnected`.
pub const UNCONNECTED: u32 = 1 << 2;
/// The proxy's own connection to an origin: its bytes are the client's and are not counted again.
pub const ORIGIN_SIDE: u32 = 1 << 3;
/// The peer sent the first FIN.
pub const PEER_CLOSED: u32 = 1 << 4;
/// This host sent the first FIN.
pub const LOCAL_CLOSED: u32 = 1 << 5;
/// The socket's account is settled; nothing counts on it any more.
pub const DEAD: u32 = 1 << 6;
/// Counted in its source's row.
pub const SOURCED: u32 = 1 << 7;
/// Accepted above a cap by a server that cannot be told so: counted in the host's `doomed`, to be ended by the agent.
pub const DOOMED: u32 = 1 << 8;
/// Born as a later one than its listener's cap per source.
pub const OVER_SOURCE_CAP: u32 = 1 << 9;
/// Somebody is about to count it, and nobody else may.
pub const CLAIMED: u32 = 1 << 10;
