//! The sockets that weir follows from birth: those accepted on these addresses.

/// A listening address, as four words that lie in memory in network byte order. IPv4 is written as an IPv4-mapped IPv6
/// address (RFC 4291, 2.5.5.2).
///
/// Words, not bytes: the kernel programs build keys on their stack, and LLVM fills odd numbers of bytes by a loop that the
/// verifier allows with `CAP_PERFMON` only.
pub type Address = [u32; 4];

/// `::ffff:0.0.0.0`, the wildcard of IPv4.
pub const ANY_V4: Address = mapped(0);
/// `::`, the wildcard of IPv6 and of dual-stack sockets.
pub const ANY_V6: Address = [0; 4];

/// The IPv4-mapped form of an IPv4 address, given as it lies in memory.
#[inline(always)]
pub const fn mapped(v4_be: u32) -> Address {
    [0, 0, 0xffff_u32.to_be(), v4_be]
}

/// True for IPv4-mapped addresses.
#[inline(always)]
pub const fn is_mapped(address: &Address) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == 0xffff_u32.to_be()
}

/// The words of an address in network byte order.
pub const fn words(octets: [u8; 16]) -> Address {
    let o = octets;
    [
        u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
        u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
        u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
        u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
    ]
}

/// The kernel looks for the exact address, then for the wildcard of the address' family, then (IPv4) for `::`, as a
/// dual-stack socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ListenerKey {
    pub address: Address,
    /// Host byte order.
    pub port: u32,
}

/// What the kernel does with a socket that is accepted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Listener {
    /// The slot that a new socket joins: a dedicated zone's, or [`UNATTRIBUTED`](crate::zone::UNATTRIBUTED).
    pub slot: u32,
    /// [`WEBSOCKETS`].
    pub flags: u32,
    /// Live sockets of one source prefix (on this host, whatever their listeners) above which a new one is refused;
    /// [`UNCAPPED`](crate::zone::UNCAPPED): none.
    pub source_cap: u64,
}

/// Every socket that is accepted there counts as a live WebSocket of its zone, too. Dedicated listeners only.
pub const WEBSOCKETS: u32 = 1 << 0;
