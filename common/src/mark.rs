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

/// Numbers that a zone may come to have.
pub const TURNS: u32 = 8;

/// The number that a zone that is given none would have in its nth turn, of its key alone. It has the first that no other zone
/// wants as well.
pub const fn number_of(key: ZoneKey, mask: u32, turn: u32) -> u32 {
    let most = websocket_flag(mask) as u64 - 1;
    let mut raw = key.to_raw();
    if turn > 0 {
        // SplitMix64: keys of one number in one turn have nothing to do with each other in the next.
        raw = raw.wrapping_add((turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        raw = (raw ^ (raw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        raw = (raw ^ (raw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        raw ^= raw >> 31;
    }
    ((raw ^ (raw >> 32)) % most + 1) as u32
}
