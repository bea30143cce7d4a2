//! `Via` towards origins (RFC 9110, 7.6.3), and by it the end of a request that goes round in circles.
//!
//! A zone whose origin is this proxy, directly or by way of others, would have every request ask for itself until the host is
//! out of descriptors. The name in `Via` is random for each process, so two hosts are never taken for one, whatever they are
//! called. Passing the same process more than once can be meant (a.example's origin is a gateway that asks b.example, on the
//! same host), so it is the [`MAX_PASSES`]th pass that is the last. Whoever removes `Via` on the way hides a circle; the
//! time limits and the limit of descriptors are left then.

use std::hash::{BuildHasher, Hasher, RandomState};

use http::{HeaderMap, HeaderValue, Version, header::VIA};

/// How often a request may pass this process.
const MAX_PASSES: usize = 3;

/// This process in the `Via` of requests.
pub(crate) struct Via {
    name: String,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

impl Via {
    pub fn new() -> Self {
        // Its keys come from the system's randomness.
        let token = RandomState::new().build_hasher().finish();
        let name = format!("weir-{token:016x}");
        // A name of letters, digits and a hyphen always makes a value.
        let value = |version| {
            HeaderValue::try_from(format!("{version} {name}")).unwrap_or(HeaderValue::from_static("1.1 weir"))
        };
        Self { http_10: value("1.0"), http_11: value("1.1"), http_2: value("2"), name }
    }

    /// The request has been here as often as it may.
    pub fn is_loop(&self, headers: &HeaderMap) -> bool {
        let passes = headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| {
            value.split(',').filter(|member| member.split_ascii_whitespace().nth(1) == Some(&self.name))
        });
        passes.take(MAX_PASSES).count() == MAX_PASSES
    }

    /// Adds this process behind those that are there. `version` is the client's.
    pub fn append(&self, headers: &mut HeaderMap, version: Version) {
        let value = match version {
            Version::HTTP_10 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            _ => &self.http_11,
        };
        headers.append(VIA, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_name_makes_a_circle_however_it_is_listed() {
        let (own, other) = (Via::new(), Via::new());
        assert_ne!(own.name, other.name);
        let mut headers = HeaderMap::new();
        for _ in 0..10 {
            other.append(&mut headers, Version::HTTP_11);
        }
        assert!(!own.is_loop(&headers));
        let list = format!("1.1 {0} (a comment), HTTP/1.1 {0}", own.name);
        headers.append(VIA, HeaderValue::try_from(list).expect("a value"));
        assert!(!own.is_loop(&headers));
        own.append(&mut headers, Version::HTTP_10);
        assert!(own.is_loop(&headers));
    }
}
