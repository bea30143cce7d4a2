//! Hosts: as they come in a Host header, `:authority` or SNI, and as a zone lists them.
//!
//! One form for both: lower case, no port, no trailing dot, an IPv6 address in brackets and in its shortest spelling.
//! Labels are letters, digits, `-` and `_`: what the DNS carries in practice, and nothing that a log or a label would have
//! to escape.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use crate::{error::Problem, model::HostPattern};

/// RFC 1035, 2.3.4, as text without the trailing dot.
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// The one form of a host: without port (`:443`) and trailing dot, in lower case. `None` if it is no host.
///
/// Does not allocate for a name in lower case. Idempotent.
pub fn normalise_host(host: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return (port.is_empty() || is_port(port.strip_prefix(':')?))
            .then(|| Cow::Owned(format!("[{address}]")));
    }
    let name = match host.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name)?,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if !is_name(name) {
        return None;
    }
    let upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// RFC 9110 lets a port be empty.
fn is_port(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

pub(crate) fn is_name(name: &str) -> bool {
    let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(in_label);
    name.len() <= MAX_HOST && name.split('.').all(is_label)
}

impl HostPattern {
    /// Reads what a zone's `hosts` lists.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str, remedy: &str| Problem::new(format!("{text:?} is no host: {why}"), remedy);
        if !text.is_ascii() {
            let remedy = "write the name in its ASCII form (xn--...), as it is registered in the DNS";
            return Err(wrong("it is not ASCII", remedy));
        }
        if text.contains("://") || text.contains('/') {
            return Err(wrong("it is a URL", "write the name alone, for example \"example.com\""));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
            return Ok(Self::Exact(format!("[{address}]")));
        }
        if text.contains(':') {
            return Err(wrong("it has a port", "leave the port out: a zone has its hosts on every listener"));
        }
        let (name, wildcard) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        if name.contains('*') {
            let remedy = "for example \"*.example.com\", which is every name below example.com";
            return Err(wrong("`*` may only be the whole first label", remedy));
        }
        let Some(name) = normalise_host(name) else {
            let remedy =
                "a name has labels of 1 to 63 of a-z 0-9 - _ with dots between them, 253 characters in all";
            return Err(wrong("it is not a DNS name", remedy));
        };
        let name = name.into_owned();
        // The last label of an IPv4 address is a number, that of a name never is (RFC 1123, 2.1).
        let numeric =
            name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
        if wildcard && numeric {
            return Err(wrong("an IP address has no wildcard", "list the addresses one by one"));
        }
        Ok(if wildcard { Self::Wildcard(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for (input, form) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com.", "example.com"),
            ("example.com:8443", "example.com"),
            ("example.com.:8443", "example.com"),
            ("example.com:", "example.com"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0::0:1]:443", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("_acme.a_b-c.example", "_acme.a_b-c.example"),
        ] {
            assert_eq!(normalise_host(input).as_deref(), Some(form), "{input}");
        }
    }

    #[test]
    fn a_name_in_lower_case_is_borrowed() {
        assert!(matches!(normalise_host("example.com:80"), Some(Cow::Borrowed("example.com"))));
    }

    #[test]
    fn garbage_is_no_host() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = "a.".repeat(128);
        for input in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:+1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[]",
            "[127.0.0.1]",
            "[fe80::1%1]",
            "*.a",
            "a\0",
            "ä.example",
            "a,b",
            &long,
            &longer,
        ] {
            assert_eq!(normalise_host(input), None, "{input:?}");
        }
    }

    #[test]
    fn a_pattern_prints_as_it_is_written() {
        for text in ["example.com", "*.example.com", "[::1]", "10.0.0.1"] {
            assert_eq!(HostPattern::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HostPattern::parse("*.EXAMPLE.com."), Ok(HostPattern::Wildcard("example.com".into())));
        assert_eq!(HostPattern::parse("::1"), Ok(HostPattern::Exact("[::1]".into())));
    }
}
