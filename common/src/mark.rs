//! Zones by `SO_MARK`: what a proxy that knows nothing of weir, but can mark its clients' sockets, says of them.
//!
//! A mark speaks of a zone if its bits under [`HostPolicy::mark_mask`](crate::host::HostPolicy::mark_mask) are
//! `mark_base`; every other mark is somebody else's. Of the bits that the mask leaves, the highest is the flag that the socket is
//! a WebSocket, the rest the zone's number. The mark goes on to the kernel whatever weir makes of it.

use crate::zone::ZoneKey;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Number of the zone; never 0 for a zone that has one.
    pub number: u32,
    pub is_websocket: bool,
}

/// The flag of a WebSocket: the highest of the bits that the mask leaves. 0 for a mask that leaves none.
#[inline(always)]
pub const fn websocket_flag(mask: u32) -> u32 {
    (!mask + 1) >> 1
}

/// Reads a mark, if it speaks of a zone. `mask` is the highest bits of a word, all together.
#[inline(always)]
pub const fn read(mark: u32, mask: u32, base: u32) -> Option<Marked> {
    if mask == 0 || mark & mask != base {
        return None;
    }
    let flag = websocket_flag(mask);
    Some(Marked { number: mark & !mask & !flag, is_websocket: mark & flag != 0 })
}

/// The number of a zone that is given none: of its key, so that it is the same on every host and after every start.
pub const fn number_of(key: ZoneKey, mask: u32) -> u32 {
    let most = websocket_flag(mask) as u64 - 1;
    let raw = key.to_raw();
    ((raw ^ (raw >> 32)) % most + 1) as u32
}
