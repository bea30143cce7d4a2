//! TCP (RFC 9293): does this segment ask for a connection?

use super::{Frame, Place};

const PORT_AT: usize = 2;
const FLAGS_AT: usize = 13;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The least of a segment that has its flags.
pub(super) const DECIDED_BY: usize = FLAGS_AT + 1;

/// Nobody listens there.
pub const NO_PORT: u32 = 0;

/// The port (host byte order) that the segment asks to be connected to; [`NO_PORT`] if it does not.
///
/// A number, not an `Option`: of a `None` LLVM keeps an uninitialised rest, and the verifier (seen on Linux 6.18) takes no copy of
/// one: "R2 !read_ok".
///
/// `cut`: it is a fragment that ends before the flags. No network cuts packets that small: it is the old way to get a SYN past a
/// filter (RFC 1858), and the next fragment has the flags. It counts as a SYN. (What a short frame has there is padding.)
#[inline(always)]
pub(super) fn opens<F: Frame>(frame: &F, header: impl Place, cut: bool) -> u32 {
    if !cut {
        match header.load(frame, FLAGS_AT) {
            // With FIN or RST beside it, it asks for nothing: Linux takes no such SYN.
            Some([flags]) if flags & (SYN | ACK | FIN | RST) == SYN => {}
            _ => return NO_PORT,
        }
    }
    header.load(frame, PORT_AT).map_or(NO_PORT, |port| u16::from_be_bytes(port) as u32)
}
