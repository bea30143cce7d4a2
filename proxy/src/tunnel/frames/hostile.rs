//! The way through WebSocket frames over any bytes, against a reading of all of them at once.

use super::{CLOSE, Frames};
use crate::hostile::knife;

/// Borders are where frames end, and a close is seen when it is complete, however the bytes are cut.
pub fn websocket_frames(data: &[u8]) {
    let (cut, stream) = knife(data);
    let (mut frames, mut found, mut at) = (Frames::new(), Vec::new(), 0);
    for mut piece in stream.chunks(cut) {
        while !piece.is_empty() {
            let gone = frames.until_border(piece);
            assert!(gone > 0 && gone <= piece.len());
            at += gone;
            piece = &piece[gone..];
            if frames.at_border() {
                found.push((at, frames.is_closed()));
            }
        }
    }
    assert_eq!(found, borders(stream));
}

/// Where frames end, and whether there has been a close by then (RFC 6455, 5.2).
fn borders(stream: &[u8]) -> Vec<(usize, bool)> {
    let (mut borders, mut begin, mut closed) = (Vec::new(), 0, false);
    while let Some(&[first, second]) = stream.get(begin..).and_then(|rest| rest.first_chunk::<2>()) {
        let (more, masked) = (&stream[begin + 2..], second & 0x80 != 0);
        let (head, payload) = match second & 0x7f {
            126 => match more.first_chunk::<2>() {
                Some(length) => (4, u128::from(u16::from_be_bytes(*length))),
                None => break,
            },
            127 => match more.first_chunk::<8>() {
                Some(length) => (10, u128::from(u64::from_be_bytes(*length))),
                None => break,
            },
            length => (2, u128::from(length)),
        };
        let end = begin as u128 + head + payload + if masked { 4 } else { 0 };
        if end > stream.len() as u128 {
            break;
        }
        closed |= first & 0x0f == CLOSE;
        begin = end as usize;
        borders.push((begin, closed));
    }
    borders
}
