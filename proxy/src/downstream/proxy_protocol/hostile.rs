//! The parser of PROXY protocol headers over any bytes.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::{Ends, MAX_V2, Parsed, parse, read};
use crate::upstream::Introduction;

/// It ends, takes no byte behind the header and none beyond its bound; reading says what parsing says; and what is understood
/// is what our own side would write.
pub fn proxy_protocol(stream: &[u8]) {
    let (parsed, taken) = fed(stream);
    assert!(taken <= stream.len().min(MAX_V2));
    let mut left = stream;
    let read = match pin!(read(&mut left)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => panic!("a stream in memory is never waited for"),
    };
    let Parsed::Header(ends) = parsed else {
        return assert!(read.is_err(), "{stream:02x?}");
    };
    assert_eq!(read.expect("a header"), ends);
    assert_eq!(left.len(), stream.len() - taken, "what is behind the header stays");
    assert_eq!(parse(&stream[..taken]), Parsed::Header(ends));
    if let Some(Ends { client, local }) = ends {
        let header = Introduction::new(client, local).header();
        let Parsed::Header(Some(again)) = parse(&header) else { panic!("{header:02x?} of our own") };
        for (said, understood) in [(client, again.client), (local, again.local)] {
            assert_eq!(
                (said.ip().to_canonical(), said.port()),
                (understood.ip().to_canonical(), understood.port())
            );
        }
    }
}

/// Feeds `stream` to the parser as [`read`] does; what it made of it, and how many bytes it took.
pub(super) fn fed(stream: &[u8]) -> (Parsed, usize) {
    let mut taken = 0;
    loop {
        match parse(&stream[..taken]) {
            Parsed::More(more) => {
                assert!(more > 0 && taken + more <= MAX_V2);
                if stream.len() < taken + more {
                    return (Parsed::More(more), taken);
                }
                taken += more;
            }
            done => return (done, taken),
        }
    }
}
