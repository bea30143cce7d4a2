//! The tag that the kernel keeps with each counted socket (`sk_storage`).
//!
//! Written under the socket's lock by `sock_ops` and `cgroup/setsockopt`. Whoever ends the socket's account exchanges
//! `flags` for [`DEAD`] in one atomic step and settles what it got: so a socket is subtracted once, also where
//! `cgroup/sock_release`, which runs without the lock, meets a state change.

/// Books of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketTag {
    /// The slot in whose `sockets` it is counted.
    pub slot: u32,
    /// The flags of this module.
    pub flags: u32,
}

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
