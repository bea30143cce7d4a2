//! WebSocket frames (RFC 6455, 5.2) as both ends of the load write and read them: whole messages, a client's masked.
//!
//! Each masked frame has a key of its own that nobody can foretell, as a client must have it; it is what makes a proxy that would
//! have to look at payloads pay for it.

use bytes::{Buf as _, BufMut as _, BytesMut};

pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The longest header: two bytes, a length of eight, a key of four.
pub const HEADER: usize = 14;

/// A whole frame.
#[derive(Debug)]
pub struct Frame {
    pub opcode: u8,
    pub payload: BytesMut,
}

/// Appends a frame; `mask` is for a client's.
pub fn write(out: &mut BytesMut, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(HEADER + payload.len());
    out.put_u8(FIN | opcode);
    let bit = if mask.is_some() { MASKED } else { 0 };
    match payload.len() {
        len @ 0..126 => out.put_u8(bit | len as u8),
        len @ 126..65_536 => {
            out.put_u8(bit | 126);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(bit | 127);
            out.put_u64(len as u64);
        }
    }
    let key = mask.inspect(|key| out.put_slice(key));
    let at = out.len();
    out.put_slice(payload);
    if let Some(key) = key {
        apply(&mut out[at..], key);
    }
}

/// A key that cannot be foretold.
pub fn mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}

/// Masks, or takes a mask away.
fn apply(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// How long the frame at the beginning is, with its header; `None` if too little of it is here to tell.
pub fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let (payload, mut header) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    if second & MASKED != 0 {
        header += 4;
    }
    Some((header, payload))
}

/// Takes a frame off the beginning, unmasked; `None` if it is not all there.
pub fn take(bytes: &mut BytesMut) -> Option<Frame> {
    let (header, payload) = length(bytes)?;
    if bytes.len() < header + payload {
        return None;
    }
    let (opcode, masked) = (bytes[0] & 0x0f, bytes[1] & MASKED != 0);
    let key: Option<[u8; 4]> = masked.then(|| bytes[header - 4..header].try_into().ok()).flatten();
    bytes.advance(header);
    let mut payload = bytes.split_to(payload);
    if let Some(key) = key {
        apply(&mut payload, key);
    }
    Some(Frame { opcode, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_whatever_its_length() {
        for len in [0, 1, 8, 125, 126, 127, 65_535, 65_536, 70_001] {
            for mask in [None, Some([1, 2, 3, 4]), Some(mask())] {
                let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let mut bytes = BytesMut::new();
                write(&mut bytes, BINARY, &payload, mask);
                write(&mut bytes, CLOSE, &[3, 232], mask);
                let frame = take(&mut bytes).expect("a frame");
                assert_eq!((frame.opcode, &frame.payload[..]), (BINARY, &payload[..]), "{len}");
                assert_eq!(take(&mut bytes).expect("a frame").opcode, CLOSE);
                assert!(bytes.is_empty());
            }
        }
    }

    #[test]
    fn a_masked_payload_is_the_exclusive_or_with_its_key() {
        // RFC 6455, 5.7: "Hello", masked.
        let mut bytes = BytesMut::new();
        write(&mut bytes, 1, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(&bytes[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_frame_that_is_not_all_there_is_none_yet() {
        let mut whole = BytesMut::new();
        write(&mut whole, BINARY, &[7; 300], Some(mask()));
        for len in 0..whole.len() {
            assert!(take(&mut BytesMut::from(&whole[..len])).is_none(), "{len}");
        }
    }
}
