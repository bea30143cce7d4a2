//! Servers that are not weir's own: what they listen on, and how they mark their sockets.

use std::net::SocketAddr;

use super::ZoneName;

/// `[[listeners]]`: an address on which some other server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignListener {
    pub address: SocketAddr,
    /// The zone that has it to itself; without one its sockets are of no zone until they are marked.
    pub zone: Option<ZoneName>,
    /// What a socket that is accepted there is; default a WebSocket.
    pub counts: Counts,
    /// Live sockets of one source prefix on this host above which new ones are ended; default none.
    pub source_cap: Option<u64>,
}

/// `counts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Every socket is a live WebSocket of the zone.
    Websockets,
    /// Sockets are sockets.
    Sockets,
}

/// `marks`: which `SO_MARK`s speak of zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRange {
    /// The bits that have to be `base`: the highest of a word, 8 to 24 of them.
    pub mask: u32,
    pub base: u32,
}

impl MarkRange {
    /// The highest number that a zone can have.
    pub const fn most(self) -> u32 {
        !self.mask >> 1
    }
}
