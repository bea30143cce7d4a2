//! The sockets that weir follows from birth: those accepted on these addresses.

/// A listening address. IPv4 is written as an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
///
/// The kernel looks for the exact address, then for the wildcard of the address' family, then (IPv4) for `::`, as a
/// dual-stack socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ListenerKey {
    /// Network byte order.
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u16,
    pub reserved: [u8; 6],
}

/// `::ffff:0.0.0.0`, the wildcard of IPv4.
pub const ANY_V4: [u8; 16] = mapped([0; 4]);
/// `::`, the wildcard of IPv6 and of dual-stack sockets.
pub const ANY_V6: [u8; 16] = [0; 16];

/// The IPv4-mapped form of an IPv4 address in network byte order.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

impl ListenerKey {
    #[inline(always)]
    pub const fn new(address: [u8; 16], port: u16) -> Self {
        Self { address, port, reserved: [0; 6] }
    }
}

/// What the kernel does with a socket that is accepted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Listener {
    /// The slot that a new socket joins: a dedicated zone's, or [`UNATTRIBUTED`](crate::zone::UNATTRIBUTED).
    pub slot: u32,
    pub flags: u32,
}
