//! Finds the TCP SYN in an Ethernet frame: the code that the XDP program runs, as pure functions over a bounds-checked
//! [`Frame`].
//!
//! Understood are Ethernet II, up to [`MAX_TAGS`] VLAN tags (802.1Q, 802.1ad), IPv4 with options, IPv6 with up to
//! [`MAX_EXTENSIONS`] extension headers (RFC 8200), first fragments, TCP (RFC 9293). Everything else is [`Packet::Other`], and so is
//! every frame that ends too early: to drop what is broken is the network stack's affair.
//!
//! Most packets are decided by three fields: type, protocol, flags. These are read at constant places where the frame allows it
//! (no tags, no options), because the kernel lets a program without `CAP_PERFMON` add only constants to a packet's address;
//! [`Frame::at`] is the slower way to everything else. Tags are rare there: network cards strip them before XDP runs.
//!
//! The tests hold that no bytes whatever make it read beyond the frame, and that what `etherparse` builds is understood as it was
//! meant.

mod ip;
mod tcp;

use crate::listener::Address;
pub use ip::MAX_EXTENSIONS;
pub use tcp::NO_PORT;

/// VLAN tags that are looked behind.
pub const MAX_TAGS: usize = 2;

/// A frame that can only be read within its bounds.
pub trait Frame {
    /// `N` bytes at a place that is a constant of the program; `None` if the frame ends before.
    fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// `N` bytes at a place that depends on the frame; `None` as above.
    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
}

/// What a frame is to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// It asks for a connection.
    Syn(Syn),
    /// Its IPv6 headers go on beyond [`MAX_EXTENSIONS`]: it could be anything. Its port is [`NO_PORT`].
    Unread(Syn),
    /// It does not, or is not understood.
    Other,
}

/// A request for a connection: SYN set; ACK, FIN and RST clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    pub source: Address,
    pub destination: Address,
    /// Of the destination, host byte order.
    pub port: u32,
}

const ETHERTYPE_AT: usize = 12;
const ETHERNET_LEN: usize = 14;
const TAG_LEN: usize = 4;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the type that came before the latter.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// What this frame is.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Packet {
    let Some(ethertype) = frame.fixed(ETHERTYPE_AT).map(u16::from_be_bytes) else { return Packet::Other };
    match ethertype {
        IPV4 => ip::v4(frame, Fixed::<ETHERNET_LEN>, Fixed::<{ ETHERNET_LEN + ip::V4_LEN }>),
        IPV6 => ip::v6(frame, Fixed::<ETHERNET_LEN>, Fixed::<{ ETHERNET_LEN + ip::V6_LEN }>),
        _ if VLAN.contains(&ethertype) => tagged(frame),
        _ => Packet::Other,
    }
}

/// A frame with a tag, and perhaps another.
#[inline(always)]
fn tagged<F: Frame>(frame: &F) -> Packet {
    let mut at = ETHERNET_LEN;
    for _ in 0..MAX_TAGS {
        // A tag is two bytes of its own and the type of what follows.
        let Some(ethertype) = frame.at(at + 2).map(u16::from_be_bytes) else { return Packet::Other };
        at += TAG_LEN;
        match ethertype {
            IPV4 => return ip::v4(frame, Computed(at), Computed(at + ip::V4_LEN)),
            IPV6 => return ip::v6(frame, Computed(at), Computed(at + ip::V6_LEN)),
            _ if VLAN.contains(&ethertype) => {}
            _ => break,
        }
    }
    Packet::Other
}

/// Where a header begins.
trait Place: Copy {
    /// `N` bytes of the header from `offset` on.
    fn load<F: Frame, const N: usize>(self, frame: &F, offset: usize) -> Option<[u8; N]>;

    fn offset(self) -> usize;
}

/// Always there.
#[derive(Clone, Copy)]
struct Fixed<const AT: usize>;

impl<const AT: usize> Place for Fixed<AT> {
    #[inline(always)]
    fn load<F: Frame, const N: usize>(self, frame: &F, offset: usize) -> Option<[u8; N]> {
        frame.fixed(AT + offset)
    }

    #[inline(always)]
    fn offset(self) -> usize {
        AT
    }
}

/// Where the headers in front of it end.
#[derive(Clone, Copy)]
struct Computed(usize);

impl Place for Computed {
    #[inline(always)]
    fn load<F: Frame, const N: usize>(self, frame: &F, offset: usize) -> Option<[u8; N]> {
        frame.at(self.0 + offset)
    }

    #[inline(always)]
    fn offset(self) -> usize {
        self.0
    }
}

/// A frame in memory.
impl Frame for &[u8] {
    #[inline(always)]
    fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.fixed(at)
    }
}
