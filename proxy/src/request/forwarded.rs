//! What an origin is told about the client: `X-Forwarded-*` and `Forwarded` (RFC 7239).
//!
//! What a client sent in these headers, or in others of the kind (`EXACT`), is removed, whichever style is on. What a trusted
//! proxy sent in those of the style is read before, kept as far as it is well-formed ([`Chain`]), and added to. The other
//! style's are removed all the same: a proxy that does not know them passes on whatever its client has made up.

use std::{fmt::Write as _, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use ipnet::IpNet;
use weir_config::{ForwardedHeaders, normalise_host};

use crate::request::chain::{self, Chain};

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

/// As [`begins`], of the whole name.
pub(crate) fn is_read_as(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// True for a header by which a client could pretend to be somebody else.
pub(crate) fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str();
    EXACT.iter().any(|exact| is_read_as(name, exact)) || begins(name, "x-forwarded-")
}

/// What a request says about the way that it came, if its peer is believed.
pub(crate) struct Said {
    /// Who the client is: the peer, or whom trusted peers name.
    pub client: IpAddr,
    peer: IpAddr,
    x_forwarded_for: Chain,
    forwarded: Chain,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

impl Said {
    /// Reads the headers. `peer` is the other end of the connection.
    pub fn read(headers: &HeaderMap, style: ForwardedHeaders, peer: IpAddr, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        if !chain::is_trusted(peer, trusted) {
            let (x_forwarded_for, forwarded) = Default::default();
            return Self { client: peer, peer, x_forwarded_for, forwarded, proto: None, host: None };
        }
        let x_forwarded_for = Chain::of_x_forwarded_for(headers, &FOR);
        let forwarded = Chain::of_forwarded(headers, &FORWARDED);
        let names = if style == ForwardedHeaders::Forwarded { &forwarded } else { &x_forwarded_for };
        let client = names.client(peer, trusted);
        let is_scheme = |value: &str| value == "http" || value == "https";
        let proto = only(headers, &PROTO, is_scheme);
        let host = only(headers, &HOST, |value| !value.is_empty() && normalise_host(value).is_some());
        Self { client, peer, x_forwarded_for, forwarded, proto, host }
    }

    /// Tells the origin. `scheme` is how the request came here, `host` its Host header as it was sent.
    pub fn tell(&self, headers: &mut HeaderMap, style: ForwardedHeaders, scheme: Scheme, host: &HeaderValue) {
        let sent: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
        for name in sent {
            headers.remove(name);
        }
        if matches!(style, ForwardedHeaders::XForwarded | ForwardedHeaders::Both) {
            if let Ok(value) = HeaderValue::try_from(self.x_forwarded_for.with(&self.peer.to_string())) {
                headers.insert(FOR, value);
            }
            let own = HeaderValue::from_static(scheme.as_str());
            headers.insert(PROTO, self.proto.clone().unwrap_or(own));
            headers.insert(HOST, self.host.as_ref().unwrap_or(host).clone());
        }
        if matches!(style, ForwardedHeaders::Forwarded | ForwardedHeaders::Both)
            && let Ok(value) = HeaderValue::try_from(self.forwarded.with(&forwarded(self.peer, scheme, host)))
        {
            headers.insert(FORWARDED, value);
        }
    }
}

/// The value of a header that is there once and right.
fn only(headers: &HeaderMap, name: &HeaderName, is_right: impl Fn(&str) -> bool) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    value.to_str().is_ok_and(is_right).then(|| value.clone())
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
        let client: std::net::SocketAddr = client.parse().expect("an address");
        Said::read(&headers, style, client.ip(), &[]).tell(
            &mut headers,
            style,
            Scheme::Https,
            &HeaderValue::from_static(host),
        );
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

    /// What becomes of headers that a proxy at 10.0.0.9 sends, and who the client is then.
    fn behind(style: ForwardedHeaders, sent: &[(&'static str, &'static str)]) -> (String, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let said = Said::read(&headers, style, "10.0.0.9".parse().expect("an address"), &trusted);
        said.tell(&mut headers, style, Scheme::Http, &HeaderValue::from_static("app.internal"));
        (said.client.to_string(), headers)
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_added_to() {
        let sent = [
            ("x-forwarded-for", "6.6.6.6, 192.0.2.1"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "example.com:8443"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
        ];
        let (client, headers) = behind(ForwardedHeaders::XForwarded, &sent);
        assert_eq!(client, "192.0.2.1");
        assert_eq!(headers["x-forwarded-for"], "6.6.6.6, 192.0.2.1, 10.1.1.1, 10.0.0.9");
        assert_eq!((&headers["x-forwarded-proto"], &headers["x-forwarded-host"]).0, "https");
        assert_eq!(headers["x-forwarded-host"], "example.com:8443");
        assert_eq!(headers.len(), 3, "{headers:?}");

        let sent = [("forwarded", "for=192.0.2.1;proto=https;host=\"a,b\""), ("x-forwarded-for", "6.6.6.6")];
        let (client, headers) = behind(ForwardedHeaders::Forwarded, &sent);
        assert_eq!(client, "192.0.2.1");
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.1;proto=https;host=\"a,b\", for=10.0.0.9;host=app.internal;proto=http"
        );
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn what_is_malformed_is_not_passed_on() {
        let sent = [
            ("x-forwarded-for", "6.6.6.6, evil, 10.1.1.1"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "a b"),
        ];
        let (client, headers) = behind(ForwardedHeaders::XForwarded, &sent);
        assert_eq!(client, "10.1.1.1");
        assert_eq!(headers["x-forwarded-for"], "10.1.1.1, 10.0.0.9");
        assert_eq!(
            (&headers["x-forwarded-proto"], &headers["x-forwarded-host"]),
            (&HeaderValue::from_static("http"), &HeaderValue::from_static("app.internal"))
        );
    }
}
