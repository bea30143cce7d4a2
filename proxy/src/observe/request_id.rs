//! `X-Request-Id`: one name for a request in the client's, the origin's and weir's own records.
//!
//! A trusted peer may have named it already; from anybody else the name is replaced, so that no client can make two requests
//! look like one. A name of ours is unique over all processes, and says nothing of how many requests there were.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::request::forwarded::is_read_as;

const NAME: HeaderName = HeaderName::from_static("x-request-id");
/// The longest name that is taken over. Bytes.
const LONGEST: usize = 128;

/// True for a header that origins may read as the name of a request.
pub(crate) fn is_request_id(name: &HeaderName) -> bool {
    is_read_as(name.as_str(), NAME.as_str())
}

/// The name of a request: visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Tells a client the name of its request.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(NAME, self.0.clone());
    }
}

/// Gives names.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u64,
    key: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new() -> Self {
        // Its keys come from the system's randomness.
        let random = || RandomState::new().build_hasher().finish();
        Self { process: random(), key: random(), next: AtomicU64::new(0) }
    }

    /// The request's name, which its headers have from now on. `trusted` says that its peer may have given it.
    pub fn name(&self, headers: &mut HeaderMap, trusted: bool) -> RequestId {
        let given = headers.get(NAME).filter(|value| trusted && is_name(value)).cloned();
        let id = RequestId(given.unwrap_or_else(|| self.fresh()));
        // `insert` leaves one.
        let alike = |name: &&HeaderName| **name != NAME && is_request_id(name);
        let alike: Vec<HeaderName> = headers.keys().filter(alike).cloned().collect();
        for name in alike {
            headers.remove(name);
        }
        id.put(headers);
        id
    }

    fn fresh(&self) -> HeaderValue {
        let number = mix(self.next.fetch_add(1, Relaxed) ^ self.key);
        // Hexadecimal digits always make a value.
        HeaderValue::try_from(format!("{:016x}{number:016x}", self.process))
            .unwrap_or(HeaderValue::from_static("none"))
    }
}

/// A permutation of all numbers (SplitMix64's), so different numbers stay different.
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn is_name(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    (1..=LONGEST).contains(&bytes.len()) && bytes.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn named(given: &str, trusted: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.append(NAME, HeaderValue::try_from(given).expect("a value"));
        headers.append(NAME, HeaderValue::from_static("second"));
        headers.insert("x_request_id", HeaderValue::from_static("third"));
        let id = RequestIds::new().name(&mut headers, trusted);
        let sent: Vec<_> = headers.iter().map(|(_, value)| value.to_str().expect("text")).collect();
        assert_eq!(sent, [id.as_str()], "one name goes on");
        id.as_str().to_owned()
    }

    #[test]
    fn only_a_trusted_peer_names_a_request_and_only_with_a_name() {
        assert_eq!(named("Root=1-67891233-abcdef", true), "Root=1-67891233-abcdef");
        for (given, trusted) in [
            ("Root=1-67891233-abcdef", false),
            ("", true),
            ("a b", true),
            ("a\"b", true),
            (&"x".repeat(LONGEST + 1), true),
        ] {
            let name = named(given, trusted);
            assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
    }

    #[test]
    fn names_are_never_given_twice() {
        let ids = [RequestIds::new(), RequestIds::new()];
        let names: HashSet<_> = ids.iter().flat_map(|ids| (0..10_000).map(|_| ids.fresh())).collect();
        assert_eq!(names.len(), 20_000);
    }
}
