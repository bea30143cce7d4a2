//! IPv4 (RFC 791) and IPv6 (RFC 8200): what they carry, where it begins, and whether it is the first fragment.

use super::{Computed, Frame, Packet, Place, Syn, tcp};
use crate::listener::{mapped, words};

pub(super) const V4_LEN: usize = 20;
pub(super) const V6_LEN: usize = 40;

/// Extension headers that are looked behind. Real traffic has none or one.
pub const MAX_EXTENSIONS: usize = 6;

const TCP: u8 = 6;

/// Low 13 bits: the fragment's offset; the bit above: more follow.
const V4_OFFSET: u16 = 0x1fff;
const V4_MORE: u16 = 0x2000;
/// The upper 13 bits, and the lowest.
const V6_OFFSET: u16 = 0xfff8;
const V6_MORE: u16 = 0x0001;

/// Hop-by-hop options, routing, destination options, mobility: their second byte is the length in units of 8, less one.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
/// 8 bytes.
const FRAGMENT: u8 = 44;
/// Authentication header, RFC 4302: length in units of 4, less two.
const AUTHENTICATION: u8 = 51;

/// `plain` is where the payload begins if there are no options.
#[inline(always)]
pub(super) fn v4<F: Frame>(frame: &F, header: impl Place, plain: impl Place) -> Packet {
    v4_syn(frame, header, plain).map_or(Packet::Other, Packet::Syn)
}

#[inline(always)]
fn v4_syn<F: Frame>(frame: &F, header: impl Place, plain: impl Place) -> Option<Syn> {
    let [protocol] = header.load(frame, 9)?;
    let [first] = header.load(frame, 0)?;
    if protocol != TCP || first >> 4 != 4 {
        return None;
    }
    let fragment = u16::from_be_bytes(header.load(frame, 6)?);
    if fragment & V4_OFFSET != 0 {
        return None;
    }
    let header_len = 4 * (first & 0x0f) as usize;
    let total_len = u16::from_be_bytes(header.load(frame, 2)?) as usize;
    let cut = fragment & V4_MORE != 0 && total_len < header_len + tcp::DECIDED_BY;
    let port = match header_len {
        V4_LEN => tcp::opens(frame, plain, cut),
        0..V4_LEN => return None,
        _ => tcp::opens(frame, Computed(header.offset() + header_len), cut),
    };
    if port == tcp::NO_PORT {
        return None;
    }
    let source = mapped(u32::from_ne_bytes(header.load(frame, 12)?));
    let destination = mapped(u32::from_ne_bytes(header.load(frame, 16)?));
    Some(Syn { source, destination, port })
}

/// `plain` is where the payload begins if there are no extension headers.
#[inline(always)]
pub(super) fn v6<F: Frame>(frame: &F, header: impl Place, plain: impl Place) -> Packet {
    match header.load(frame, 6) {
        Some([TCP]) => syn(frame, header, tcp::opens(frame, plain, false)),
        Some([next]) if is_extension(next) => extended(frame, header, next, plain.offset()),
        _ => Packet::Other,
    }
}

/// The way through the extension headers.
#[inline(always)]
fn extended<F: Frame>(frame: &F, header: impl Place, mut next: u8, mut at: usize) -> Packet {
    let Some(payload_len) = header.load(frame, 4).map(u16::from_be_bytes) else { return Packet::Other };
    let end = header.offset() + V6_LEN + payload_len as usize;
    let mut more_follow = false;
    for _ in 0..MAX_EXTENSIONS {
        let Some([following, len, high, low]) = frame.at(at) else { return Packet::Other };
        at += match next {
            FRAGMENT => 8,
            AUTHENTICATION => 4 * (len as usize + 2),
            _ => 8 * (len as usize + 1),
        };
        if next == FRAGMENT {
            let fragment = u16::from_be_bytes([high, low]);
            if fragment & V6_OFFSET != 0 {
                return Packet::Other;
            }
            more_follow |= fragment & V6_MORE != 0;
        }
        if following == TCP {
            let cut = more_follow && end < at + tcp::DECIDED_BY;
            return syn(frame, header, tcp::opens(frame, Computed(at), cut));
        }
        if !is_extension(following) {
            return Packet::Other;
        }
        next = following;
    }
    match addresses(frame, header, tcp::NO_PORT) {
        Some(unread) => Packet::Unread(unread),
        None => Packet::Other,
    }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | FRAGMENT | AUTHENTICATION)
}

/// The SYN to a port of this packet's destination, if there is one.
#[inline(always)]
fn syn<F: Frame>(frame: &F, header: impl Place, port: u32) -> Packet {
    match addresses(frame, header, port) {
        Some(syn) if port != tcp::NO_PORT => Packet::Syn(syn),
        _ => Packet::Other,
    }
}

#[inline(always)]
fn addresses<F: Frame>(frame: &F, header: impl Place, port: u32) -> Option<Syn> {
    let (source, destination) = (header.load(frame, 8)?, header.load(frame, 24)?);
    Some(Syn { source: words(source), destination: words(destination), port })
}
