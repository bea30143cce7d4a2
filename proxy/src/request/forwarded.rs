//! What an origin is told about the client: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! No peer is trusted: what a client sent in these headers, or in others of the kind (`EXACT`), is removed, whichever style is on.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use weir_config::ForwardedHeaders;

/// How the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `Proxy` becomes the variable `HTTP_PROXY` in CGI, which programs take for theirs.
const EXACT: [&str; 6] = ["forwarded", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "proxy"];

/// Many origins read `_` in a name as `-` (CGI and WSGI cannot tell them apart), so it is read so here.
fn begins(name: &str, with: &str) -> bool {
    let with = with.as_bytes();
    let dashed = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    name.len() >= with.len() && dashed.take(with.len()).eq(with.iter().copied())
}

/// True for a header by which a client could pretend to be somebody else.
pub(crate) fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str();
    EXACT.iter().any(|exact| name.len() == exact.len() && begins(name, exact)) || begins(name, "x-forwarded-")
}

/// Replaces whatever of it the client sent. `host` is the Host header as the client sent it.
pub(crate) fn overwrite(
    headers: &mut HeaderMap,
    style: ForwardedHeaders,
    client: SocketAddr,
    scheme: Scheme,
    host: &HeaderValue,
) {
    let sent: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in sent {
        headers.remove(name);
    }
    let ip = client.ip().to_canonical();
    if matches!(style, ForwardedHeaders::XForwarded | ForwardedHeaders::Both) {
        if let Ok(value) = HeaderValue::try_from(ip.to_string()) {
            headers.insert(FOR, value);
        }
        headers.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
        headers.insert(HOST, host.clone());
    }
    if matches!(style, ForwardedHeaders::Forwarded | ForwardedHeaders::Both)
        && let Ok(value) = HeaderValue::try_from(forwarded(ip, scheme, host))
    {
        headers.insert(FORWARDED, value);
    }
}

fn forwarded(ip: IpAddr, scheme: Scheme, host: &HeaderValue) -> String {
    let mut value = String::with_capacity(96);
    // Writing to a string cannot fail.
    let _ = match ip {
        IpAddr::V4(ip) => write!(value, "for={ip}"),
        IpAddr::V6(ip) => write!(value, "for=\"[{ip}]\""),
    };
    if let Ok(host) = host.to_str() {
        let _ = if host.bytes().all(is_token) {
            write!(value, ";host={host}")
        } else {
            // A host that was checked has neither quotes nor backslashes.
            write!(value, ";host=\"{host}\"")
        };
    }
    let _ = write!(value, ";proto={}", scheme.as_str());
    value
}

/// RFC 9110, 5.6.2, as far as a host can have them.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(style: ForwardedHeaders, client: &str, host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        headers.append("x-forwarded-for", HeaderValue::from_static("7.7.7.7"));
        headers.insert("x-forwarded-port", HeaderValue::from_static("1"));
        headers.insert("x-real-ip", HeaderValue::from_static("6.6.6.6"));
        headers.insert("forwarded", HeaderValue::from_static("for=6.6.6.6"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let client = client.parse().expect("an address");
        overwrite(&mut headers, style, client, Scheme::Https, &HeaderValue::from_static(host));
        headers
    }

    #[test]
    fn x_forwarded_is_overwritten() {
        let headers = told(ForwardedHeaders::XForwarded, "192.0.2.1:5000", "example.com:8443");
        let all: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(all, ["192.0.2.1"]);
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "example.com:8443");
        assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"));
        assert!(!headers.contains_key("x-forwarded-port"));
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let headers = told(ForwardedHeaders::Forwarded, "[2001:db8::1]:5000", "example.com:8443");
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";host=\"example.com:8443\";proto=https");
        assert!(!headers.contains_key("x-forwarded-for"));
        let headers = told(ForwardedHeaders::Both, "[::ffff:192.0.2.1]:5000", "example.com");
        assert_eq!(headers["forwarded"], "for=192.0.2.1;host=example.com;proto=https");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
    }

    #[test]
    fn what_a_client_claims_is_removed_even_if_nothing_replaces_it() {
        let headers = told(ForwardedHeaders::None, "192.0.2.1:5000", "example.com");
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["accept"], "*/*");
    }
}
