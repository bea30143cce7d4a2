//! A request as rules see it. What costs something to work out is worked out when a rule first asks for it, and once.
//!
//! Text is what the client sent, but for `path`: percent-encoding taken away once, `//` and dot segments resolved, so that a
//! rule on `/admin` also sees `/%61dmin` and `/x/../admin`. Bytes that are not UTF-8 are U+FFFD. The fields of one header name
//! are joined with `, ` (RFC 9110, 5.3).

use std::{borrow::Cow, collections::HashMap, net::IpAddr, sync::OnceLock};

use cel::common::{
    types::{CelBool, CelMap, CelMapKey, CelString},
    value::CowVal,
};
use http::{HeaderMap, HeaderName, Method, Version};
use percent_encoding::percent_decode_str;

use super::country::Countries;

/// What the TLS handshake of a connection settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    pub version: &'static str,
    pub sni: String,
}

impl TlsFacts {
    pub fn of(session: &rustls::ServerConnection) -> Self {
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        };
        Self { version, sni: session.server_name().unwrap_or_default().to_ascii_lowercase() }
    }
}

/// The request.
pub(crate) struct Facts<'a> {
    pub method: &'a Method,
    /// The target in origin form, in its two parts.
    pub raw_path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub host: &'a str,
    pub zone: &'a str,
    /// Never an IPv4 address in IPv6 clothes.
    pub address: IpAddr,
    pub tls: Option<&'a TlsFacts>,
    pub version: Version,
    /// It asks to become a WebSocket.
    pub websocket: bool,
    pub countries: Option<&'a Countries>,
    pub worked_out: WorkedOut<'a>,
}

#[derive(Default)]
pub(crate) struct WorkedOut<'a> {
    path: OnceLock<Cow<'a, str>>,
    client_ip: OnceLock<String>,
    country: OnceLock<String>,
    headers: OnceLock<CelMap<'a>>,
}

#[cfg(test)]
impl WorkedOut<'_> {
    pub fn has_headers(&self) -> bool {
        self.headers.get().is_some()
    }
}

impl<'a> Facts<'a> {
    pub fn path(&self) -> &str {
        self.worked_out.path.get_or_init(|| normalised(self.raw_path))
    }

    /// The value of a variable of a condition.
    pub fn get<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = match variable {
            "method" => self.method.as_str(),
            "path" => self.path(),
            "raw_path" => self.raw_path,
            "query" => self.query,
            "host" => self.host,
            "zone" => self.zone,
            "client_ip" => self.worked_out.client_ip.get_or_init(|| self.address.to_string()),
            "country" => self.country(),
            "tls_version" => self.tls.map_or("", |tls| tls.version),
            "sni" => self.tls.map_or("", |tls| &tls.sni),
            "http_version" => match self.version {
                Version::HTTP_10 => "1.0",
                Version::HTTP_11 => "1.1",
                Version::HTTP_2 => "2",
                _ => "",
            },
            "websocket" => return Some(CowVal::owned(CelBool::from(self.websocket))),
            "headers" => {
                return Some(CowVal::Borrowed(self.worked_out.headers.get_or_init(|| self.header_map())));
            }
            _ => return None,
        };
        Some(CowVal::owned(CelString::from(text)))
    }

    fn country(&self) -> &str {
        let look_up = || self.countries.and_then(|countries| countries.of(self.address)).unwrap_or_default();
        self.worked_out.country.get_or_init(look_up)
    }

    fn header_map(&self) -> CelMap<'a> {
        let entry = |name: &'a HeaderName| {
            let value = CelString::from(joined(self.headers, name));
            (CelMapKey::String(CelString::from(name.as_str())), Box::new(value) as _)
        };
        CelMap::from(self.headers.keys().map(entry).collect::<HashMap<_, _>>())
    }
}

/// The fields of a name as one text.
pub(crate) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Cow<'a, str> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next().unwrap_or_default();
    values.fold(first, |all, value| Cow::Owned(format!("{all}, {value}")))
}

/// The path that is meant: percent-encoding taken away once, empty and dot segments resolved.
fn normalised(raw: &str) -> Cow<'_, str> {
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    let rest = raw.strip_prefix('/').unwrap_or(raw);
    if !raw.contains('%')
        && (rest.is_empty() || rest.trim_end_matches('/').split('/').all(plain) && !rest.ends_with("//"))
    {
        return Cow::Borrowed(raw);
    }
    let decoded = percent_decode_str(raw).decode_utf8_lossy();
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false;
    for segment in decoded.split('/') {
        folder = !plain(segment);
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if folder && !kept.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{end}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_seen_as_it_is_meant() {
        for (raw, meant) in [
            ("/", "/"),
            ("/chat", "/chat"),
            ("/chat/", "/chat/"),
            ("/%61dmin", "/admin"),
            ("//admin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/x/%2e%2E/admin/", "/admin/"),
            ("/./a//b/.", "/a/b/"),
            ("/../..", "/"),
            ("/a%2fb", "/a/b"),
            ("/a%", "/a%"),
            ("/%ff", "/\u{fffd}"),
            ("/%2561", "/%61"),
            ("/a//", "/a/"),
            ("///", "/"),
        ] {
            assert_eq!(normalised(raw), meant, "{raw}");
        }
    }

    #[test]
    fn fields_of_a_name_are_one_text() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-a");
        assert_eq!(joined(&headers, &name), "");
        headers.append(&name, http::HeaderValue::from_static("1"));
        headers.append(&name, http::HeaderValue::from_bytes(b"\xff2").expect("a value"));
        assert_eq!(joined(&headers, &name), "1, \u{fffd}2");
    }
}
