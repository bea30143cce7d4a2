//! Headers between two connections: hop-by-hop ones end here (RFC 9110, 7.6.1), a WebSocket's upgrade is recognised.
//!
//! `Connection` may name further headers as hop-by-hop, but not those on which routing, framing, identity or the handshake
//! rest: a client must not be able to hide them from the origin. `Transfer-Encoding` is hyper's on either side.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, ORIGIN,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use crate::request::{forwarded::is_forwarding, reason::Reason};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const WEBSOCKET: &str = "websocket";

/// True for what `Connection` cannot make hop-by-hop.
fn is_end_to_end(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, CONTENT_TYPE, AUTHORIZATION, COOKIE, ORIGIN, VIA].contains(name)
        || is_forwarding(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// The comma-separated members of all fields of a name.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
}

fn has_member(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(wanted))
}

/// Removes what is for this hop only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = members(headers, &CONNECTION)
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .filter(|name| !is_end_to_end(name) && name != TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// True if the content has a transfer coding that is not passed on: anything but one `chunked`. The field ends here, and the
/// content would go on in a coding that nobody names any more.
pub(crate) fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut codings = members(headers, &TRANSFER_ENCODING);
    headers.contains_key(TRANSFER_ENCODING)
        && !(codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
            && codings.next().is_none())
}

/// Makes a plain request's headers those of the next hop. `chunked` if its content comes without a length.
pub(crate) fn prepare_request(headers: &mut HeaderMap, chunked: bool) {
    let trailers = has_member(headers, &TE, "trailers");
    strip_hop_by_hop(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    // hyper answers the expectation itself as soon as the origin's connection asks for the content.
    if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
    }
    if chunked {
        // Said aloud, because hyper takes a GET of unknown length for one without content.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes an origin's answer the client's.
pub(crate) fn prepare_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // It overrides the length (RFC 9112, 6.3), which hyper would otherwise take for that of the decoded content.
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
}

/// Makes an upgrade request's headers those of the next hop.
pub(crate) fn prepare_upgrade(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(TE);
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
}

/// Makes an origin's 101 the client's.
pub(crate) fn prepare_switch(headers: &mut HeaderMap) {
    prepare_upgrade(headers);
    headers.remove(CONTENT_LENGTH);
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    has_member(headers, &CONNECTION, "upgrade") && has_member(headers, &UPGRADE, WEBSOCKET)
}

/// The request asks to become a WebSocket (RFC 6455, 4.1).
pub(crate) fn is_websocket_request<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && wants_websocket(request.headers())
}

/// What is wrong with the handshake of a WebSocket request (RFC 6455, 4.2.1). It is refused here, and not by the origin alone:
/// an origin that takes it for a plain request must never be at the other end of a tunnel.
pub(crate) fn handshake_fault(headers: &HeaderMap) -> Option<Reason> {
    let mut versions = members(headers, &SEC_WEBSOCKET_VERSION);
    if versions.next() != Some("13") || versions.next().is_some() {
        return Some(Reason::WebsocketVersion);
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let is_key = |key: &HeaderValue| {
        let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        key.as_bytes().strip_suffix(b"==").is_some_and(|key| key.len() == 22 && key.iter().all(digit))
    };
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key) => None,
        _ => Some(Reason::BadWebsocketKey),
    }
}

/// The response makes it one (RFC 6455, 4.2.2). `Sec-WebSocket-Accept` is the client's to check: it proves to the client that
/// the origin has read this request, and here that is certain, as the connection is of this request alone and of none after it.
pub(crate) fn is_websocket_switch<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        && wants_websocket(headers)
        && members(headers, &UPGRADE).count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-hop-too"),
            ("x-hop", "1"),
            ("x-hop-too", "1"),
            ("x-end", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["host", "trailer", "x-end"]);
    }

    #[test]
    fn connection_cannot_take_away_what_others_rely_on() {
        let kept = map(&[
            ("host", "a"),
            ("content-length", "5"),
            ("authorization", "x"),
            ("cookie", "x"),
            ("via", "1.1 a"),
            ("forwarded", "for=a"),
            ("x-forwarded-for", "a"),
            ("sec-websocket-key", "x"),
        ]);
        for name in kept.keys() {
            let mut headers = kept.clone();
            headers.insert(CONNECTION, HeaderValue::from_str(name.as_str()).expect("a name"));
            strip_hop_by_hop(&mut headers);
            assert_eq!(headers, kept, "{name}");
        }
    }

    #[test]
    fn of_te_only_trailers_go_on() {
        let mut headers = map(&[("te", "gzip, trailers"), ("connection", "te")]);
        prepare_request(&mut headers, false);
        assert_eq!(headers, map(&[("te", "trailers"), ("connection", "te")]));
        let mut headers = map(&[("te", "gzip"), ("connection", "te")]);
        prepare_request(&mut headers, false);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[test]
    fn only_websocket_is_an_upgrade() {
        let ask = |method: Method, version: Version, headers: &[(&'static str, &'static str)]| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            *request.version_mut() = version;
            *request.headers_mut() = map(headers);
            is_websocket_request(&request)
        };
        let good = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(ask(Method::GET, Version::HTTP_11, &good));
        assert!(ask(Method::GET, Version::HTTP_11, &[good[0], ("upgrade", "h2c, websocket")]));
        assert!(!ask(Method::POST, Version::HTTP_11, &good));
        assert!(!ask(Method::GET, Version::HTTP_10, &good));
        assert!(!ask(Method::GET, Version::HTTP_11, &good[..1]));
        assert!(!ask(Method::GET, Version::HTTP_11, &good[1..]));
        assert!(!ask(Method::GET, Version::HTTP_11, &[good[0], ("upgrade", "h2c")]));
        assert!(!ask(Method::GET, Version::HTTP_11, &[good[0], ("upgrade", "websockets")]));
        assert!(!ask(Method::GET, Version::HTTP_11, &[("connection", "close"), good[1]]));
    }

    #[test]
    fn only_a_whole_101_is_a_switch() {
        let answer = |status: u16, headers: &[(&'static str, &'static str)]| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            *response.headers_mut() = map(headers);
            is_websocket_switch(&response)
        };
        let good = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert!(answer(101, &good));
        assert!(!answer(200, &good));
        assert!(!answer(101, &good[..1]));
        assert!(!answer(101, &good[1..]));
        assert!(!answer(101, &[good[0], ("upgrade", "h2c")]));
        assert!(!answer(101, &[good[0], ("upgrade", "websocket, h2c")]));
    }
}
