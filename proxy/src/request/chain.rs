//! What proxies in front of weir say about the client, as far as they are trusted.
//!
//! Each proxy adds whom it got the request from to the end of a list. So the list is read from its end: an entry counts only
//! if whoever wrote it, the one behind it, is trusted. The first one that is not trusted is the client; what stands before
//! it is the client's own claim, and what stands before something malformed is nobody's.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The entries of a list, as far as they are addresses without a gap up to its end: from the client on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(Vec<(IpAddr, String)>);

/// Whether an address is one of the proxies that are believed.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

impl Chain {
    /// Of `X-Forwarded-For`.
    pub fn of_x_forwarded_for(headers: &HeaderMap, name: &HeaderName) -> Self {
        let entry = |text: &str| address(text).map(|ip| (ip, ip.to_string()));
        Self::of(headers, name, |list| list.split(',').map(str::trim).map(entry).collect())
    }

    /// Of the `for` of each element of `Forwarded` (RFC 7239). The elements go on as they are.
    pub fn of_forwarded(headers: &HeaderMap, name: &HeaderName) -> Self {
        let entry = |text: &str| Some((address(&parameter(text, "for")?)?, text.to_owned()));
        Self::of(headers, name, |list| {
            // A quote that a client left open must not swallow what the proxy behind it added.
            let elements = split(list, b',').unwrap_or_else(|| list.split(',').map(str::trim).collect());
            elements.into_iter().map(entry).collect()
        })
    }

    fn of(
        headers: &HeaderMap,
        name: &HeaderName,
        entries: impl Fn(&str) -> Vec<Option<(IpAddr, String)>>,
    ) -> Self {
        let mut chain = Vec::new();
        for value in headers.get_all(name) {
            // What is no text is malformed as a whole.
            for entry in value.to_str().map_or_else(|_| vec![None], &entries) {
                match entry {
                    Some(entry) => chain.push(entry),
                    None => chain.clear(),
                }
            }
        }
        Self(chain)
    }

    /// Who the client is, to a peer that is `peer` and trusted: the last that is not trusted itself, or the first of all.
    pub fn client(&self, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
        let untrusted = self.0.iter().rev().find(|(address, _)| !is_trusted(*address, trusted));
        untrusted.or(self.0.first()).map_or(peer, |(address, _)| *address)
    }

    /// The list with one more entry.
    pub fn with(&self, last: &str) -> String {
        let mut list = String::with_capacity(64);
        for (_, text) in &self.0 {
            list.push_str(text);
            list.push_str(", ");
        }
        list.push_str(last);
        list
    }
}

/// Splits a text, not within quotes. `None` if a quote is not closed.
fn split(text: &str, at: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == at && !quoted => {
                parts.push(text[begin..index].trim_matches([' ', '\t']));
                begin = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim_matches([' ', '\t']));
    (!quoted).then_some(parts)
}

/// A parameter of an element of `Forwarded`, without its quotes. `None` if it is there twice.
fn parameter(element: &str, name: &str) -> Option<String> {
    let mut found = None;
    for pair in split(element, b';')? {
        let (key, value) = pair.split_once('=')?;
        if !key.eq_ignore_ascii_case(name) {
            continue;
        }
        if found.is_some() {
            return None;
        }
        found = Some(match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
            None => value.to_owned(),
        });
    }
    found
}

fn unquoted(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.push(chars.next()?),
            '"' => return None,
            _ => plain.push(char),
        }
    }
    Some(plain)
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical());
    }
    text.parse::<SocketAddr>().ok().map(|address| address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::FORWARDED};
    use proptest::prelude::*;

    use super::*;

    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    const PEER: &str = "10.0.0.9";

    fn client(name: &HeaderName, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network"));
        let chain = if *name == FOR {
            Chain::of_x_forwarded_for(&headers, name)
        } else {
            Chain::of_forwarded(&headers, name)
        };
        chain.client(PEER.parse().expect("an address"), &trusted).to_string()
    }

    #[test]
    fn the_client_is_the_last_who_is_not_trusted() {
        for (values, expected) in [
            (&[][..], PEER),
            (&["192.0.2.1"], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
            (&["6.6.6.6", "192.0.2.1", "10.1.1.1,fd00::1"], "192.0.2.1"),
            (&["10.1.1.1, 10.1.1.2"], "10.1.1.1"),
            (&["192.0.2.1:5000"], "192.0.2.1"),
            (&["[2001:db8::1]:5000"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, ::ffff:10.1.1.1"], "192.0.2.1"),
        ] {
            assert_eq!(client(&FOR, values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_malformed_hides_what_is_before_it_and_nothing_else() {
        for (values, expected) in [
            (&["garbage"][..], PEER),
            (&["garbage, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, garbage"], PEER),
            (&["192.0.2.1, garbage, 10.1.1.1"], "10.1.1.1"),
            (&["192.0.2.1,"], PEER),
            (&["192.0.2.1, \"10.1.1.1"], PEER),
            (&["\", 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1", "\u{fc}", "10.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(client(&FOR, values), expected, "{values:?}");
        }
    }

    #[test]
    fn forwarded_is_read_by_its_grammar() {
        for (values, expected) in [
            (&["for=192.0.2.1"][..], "192.0.2.1"),
            (&["For=\"[2001:db8::1]:5000\";proto=https;by=10.0.0.1"], "2001:db8::1"),
            (&["for=6.6.6.6, for=192.0.2.1;host=\"a,b\", for=10.1.1.1"], "192.0.2.1"),
            (&["for=unknown, for=10.1.1.1"], "10.1.1.1"),
            (&["for=_hidden"], PEER),
            (&["proto=https"], PEER),
            (&["for=6.6.6.6;for=192.0.2.1"], PEER),
            (&["for=\"192.0.2.1"], PEER),
            (&["for=\"192.0.2\\.1\""], "192.0.2.1"),
        ] {
            assert_eq!(client(&FORWARDED, values), expected, "{values:?}");
        }
    }

    proptest! {
        /// Nothing that a client puts in front changes who the trusted proxy says he is.
        #[test]
        fn a_client_cannot_speak_for_the_proxy(claim in "[ -~]{0,80}") {
            prop_assert_eq!(client(&FOR, &[&format!("{claim}, 192.0.2.1")]), "192.0.2.1");
            prop_assert_eq!(client(&FOR, &[&claim, "192.0.2.1"]), "192.0.2.1");
            prop_assert_eq!(client(&FORWARDED, &[&claim, "for=192.0.2.1"]), "192.0.2.1");
            let appended = format!("{claim}, for=\"[2001:db8::1]\";by=_b");
            prop_assert_eq!(client(&FORWARDED, &[&appended]), "2001:db8::1");
        }
    }
}
