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

/// Which forms of addresses are listened on at each port: a byte a port, [`PORTS_A_WORD`] of them in a word. What it does not name
/// need not be looked for, so most packets and sockets that are not ours cost no look into the table.
///
/// The agent adds a form before the first such listener is in the table, and takes it away after the last one is gone: it may name too
/// much, and never too little.
pub const PORT_WORDS: u32 = 65_536 / PORTS_A_WORD;
pub const PORTS_A_WORD: u32 = 8;

/// Listened on at an address of this host.
pub const AT_ADDRESS: u64 = 1 << 0;
/// At [`ANY_V4`].
pub const AT_ANY_V4: u64 = 1 << 1;
/// At [`ANY_V6`].
pub const AT_ANY_V6: u64 = 1 << 2;

/// The word that has a port's byte, and how far up in it the byte is.
#[inline(always)]
pub const fn port_place(port: u32) -> (u32, u32) {
    (port / PORTS_A_WORD % PORT_WORDS, port % PORTS_A_WORD * (u64::BITS / PORTS_A_WORD))
}

/// The form of an address.
pub const fn form(address: &Address) -> u64 {
    let no_host = address[3] == 0;
    if is_mapped(address) && no_host {
        AT_ANY_V4
    } else if address[0] == 0 && address[1] == 0 && address[2] == 0 && no_host {
        AT_ANY_V6
    } else {
        AT_ADDRESS
    }
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
