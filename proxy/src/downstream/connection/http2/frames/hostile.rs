//! The scan of HTTP/2 frames over any bytes, against one that has all of them at once.

use super::{Frame, HEAD, PREFACE_BYTES, Scan, Tally};
use crate::hostile::knife;

/// Every head is seen where it is, however the bytes are cut.
pub fn http2_frames(data: &[u8]) {
    let (cut, stream) = knife(data);
    let (mut scan, mut seen, mut tally) = (Scan::behind(PREFACE_BYTES), Vec::new(), Tally::default());
    for piece in stream.chunks(cut) {
        scan.each(piece, |frame| {
            tally.received(frame);
            seen.push(frame);
        });
    }
    let (mut at, mut there) = (PREFACE_BYTES as usize, Vec::new());
    while let Some(&[a, b, c, kind, flags, ..]) = stream.get(at..).and_then(|rest| rest.first_chunk::<HEAD>())
    {
        let length = u32::from_be_bytes([0, a, b, c]);
        there.push(Frame { length, kind, flags });
        at += HEAD + length as usize;
    }
    assert_eq!(seen, there);
    assert!(tally.free as usize <= there.len());
}
