//! Where a stream of WebSocket frames (RFC 6455, 5.2) stands: at a border between two frames, or within one.
//!
//! Of each frame the two to ten bytes of its header are read, for its length, and of those the opcode, for whether the stream has
//! been closed. A payload is skipped, not looked at, and nothing that is found changes what a tunnel carries. It is there so that
//! a proxy that leaves can say so in a close frame of its own, which may stand only at a border. A stream that is no
//! WebSocket after all is followed wrongly, and does no harm but that.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;

/// `Close` (RFC 6455, 5.5.1).
const CLOSE: u8 = 0x8;
const MASK_BYTES: u64 = 4;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Opcode,
    Length,
    /// So many bytes of a longer length.
    More(u8),
    Payload,
}

/// A position in one direction of a stream. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// Bytes of the frame, masking key and payload, behind its length.
    left: u64,
    next: Part,
    masked: bool,
    closing: bool,
    closed: bool,
}

impl Frames {
    pub const fn new() -> Self {
        Self { left: 0, next: Part::Opcode, masked: false, closing: false, closed: false }
    }

    /// The next byte begins a frame.
    pub fn at_border(&self) -> bool {
        self.next == Part::Opcode
    }

    /// A close frame has been there: no other may follow it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.until_border(bytes)..];
        }
    }

    /// Goes on up to the next border, or to the end of `bytes`; says how many bytes that are.
    pub fn until_border(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.next == Part::Payload {
                let here = (bytes.len() - at) as u64;
                let skipped = here.min(self.left);
                self.left -= skipped;
                at += skipped as usize;
            } else {
                self.header(byte);
                at += 1;
            }
            if self.next == Part::Payload && self.left == 0 {
                self.next = Part::Opcode;
                self.closed |= self.closing;
                break;
            }
        }
        at
    }

    fn header(&mut self, byte: u8) {
        match self.next {
            Part::Opcode => {
                self.closing = byte & 0x0f == CLOSE;
                self.next = Part::Length;
            }
            Part::Length => {
                self.masked = byte & 0x80 != 0;
                self.left = 0;
                match byte & 0x7f {
                    126 => self.next = Part::More(2),
                    127 => self.next = Part::More(8),
                    length => {
                        self.left = u64::from(length);
                        self.begin();
                    }
                }
            }
            Part::More(bytes) => {
                self.left = self.left << 8 | u64::from(byte);
                match bytes - 1 {
                    0 => self.begin(),
                    more => self.next = Part::More(more),
                }
            }
            Part::Payload => {}
        }
    }

    /// The header is complete.
    fn begin(&mut self) {
        if self.masked {
            self.left = self.left.saturating_add(MASK_BYTES);
        }
        self.next = Part::Payload;
    }
}

/// A close frame with a status code (RFC 6455, 7.4), as a server sends it: unmasked.
pub(super) fn close_to_client(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

/// As a client sends it: masked.
pub(super) fn close_to_origin(code: u16, mask: [u8; 4]) -> [u8; 8] {
    let [high, low] = code.to_be_bytes();
    let [a, b, c, d] = mask;
    [0x80 | CLOSE, 0x80 | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, len: usize, masked: bool) -> Vec<u8> {
        let mask = u8::from(masked) << 7;
        let mut frame = vec![0x80 | opcode];
        match len {
            0..126 => frame.push(mask | len as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0x88; if masked { len + 4 } else { len }]);
        frame
    }

    #[test]
    fn a_position_is_small() {
        assert_eq!(size_of::<Frames>(), 16);
    }

    #[test]
    fn borders_are_where_frames_end_whatever_their_length() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            for masked in [false, true] {
                let frame = frame(2, len, masked);
                let two = [&frame[..], &frame[..]].concat();
                let mut frames = Frames::new();
                assert!(frames.at_border());
                assert_eq!(frames.until_border(&two), frame.len(), "{len}");
                assert!(frames.at_border() && !frames.is_closed());
                frames.follow(&frame[..frame.len() - 1]);
                assert!(!frames.at_border(), "{len}");
            }
        }
    }

    #[test]
    fn a_close_is_seen_when_it_is_complete() {
        for close in [close_to_client(1001).to_vec(), close_to_origin(1012, [1, 2, 3, 4]).to_vec()] {
            let mut frames = Frames::new();
            frames.follow(&frame(1, 5, false));
            frames.follow(&close[..close.len() - 1]);
            assert!(!frames.is_closed());
            frames.follow(&close[close.len() - 1..]);
            assert!(frames.is_closed() && frames.at_border());
        }
    }

    #[test]
    fn the_longest_length_there_is_does_no_harm() {
        let mut frames = Frames::new();
        frames.follow(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]);
        frames.follow(&[0; 1000]);
        assert!(!frames.at_border());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            all in prop::collection::vec((0u8..16, prop_oneof![0usize..300, 65_000usize..66_000], any::<bool>()), 1..5),
            cuts in prop::collection::vec(1usize..5000, 1..50),
        ) {
            let stream: Vec<u8> = all.iter().flat_map(|(opcode, len, masked)| frame(*opcode, *len, *masked)).collect();
            let mut frames = Frames::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (part, left) = rest.split_at((*cut).min(rest.len()));
                frames.follow(part);
                rest = left;
                if rest.is_empty() {
                    break;
                }
                let mut whole = Frames::new();
                whole.follow(&stream[..stream.len() - rest.len()]);
                prop_assert_eq!(frames.at_border(), whole.at_border());
            }
            prop_assert!(frames.at_border());
            prop_assert_eq!(frames.is_closed(), all.iter().any(|(opcode, ..)| *opcode == CLOSE));
        }
    }
}
