//! Headers between two connections: hop-by-hop ones end here (RFC 9110, 7.6.1), a WebSocket's upgrade is recognised.
//!
//! `Connection` may name further headers as hop-by-hop, but not those on which routing, framing, identity or the handshake
//! rest: a client must not be able to hide them from the origin. Nor may a trailer be any of them: whoever puts trailers among
//! the headers would take it for ours. `Transfer-Encoding` is hyper's on either side.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, ORIGIN,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use crate::{
    observe::request_id::is_request_id,
    request::{
        forwarded::{is_forwarding, is_read_as},
        reason::Reason,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const WEBSOCKET: &str = "websocket";

/// Besides what is of the connection, of routing, identity and the handshake: what RFC 9110, 6.5.1 keeps out of trailers, as it
/// says how to frame, to read or to answer the message, or who asks for it.
const NO_TRAILERS: [&str; 38] = [
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

/// True for what `Connection` cannot make hop-by-hop.
fn is_end_to_end(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, CONTENT_TYPE, AUTHORIZATION, COOKIE, ORIGIN, VIA].contains(name)
        || is_forwarding(name)
        || is_request_id(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// True for what means something only in a head, or is not the sender's to say.
fn is_no_trailer(name: &HeaderName) -> bool {
    is_forwarding(name)
        || is_request_id(name)
        || is_websocket(name)
        || NO_TRAILERS.iter().any(|no| is_read_as(name.as_str(), no))
}

fn is_websocket(name: &HeaderName) -> bool {
    const PREFIX: &str = "sec-websocket-";
    name.as_str().get(..PREFIX.len()).is_some_and(|begin| is_read_as(begin, PREFIX))
}

/// Leaves of a message's trailers, either way, what may be one.
pub(crate) fn prepare_trailers(trailers: &mut HeaderMap) {
    let named: Vec<HeaderName> = trailers.keys().filter(|name| is_no_trailer(name)).cloned().collect();
    for name in named {
        trailers.remove(name);
    }
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

/// True if the content has a transfer coding that is not passed on: anything but one `chunked`, to the letter. The field ends
/// here, and the content would go on in a coding that nobody names any more. An empty member of the list is none to some, and
/// unreadable to others.
pub(crate) fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(TRANSFER_ENCODING).iter();
    match (fields.next(), fields.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
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
    remove_expectation(headers);
    if chunked {
        // Said aloud, because hyper takes a GET of unknown length for one without content.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn remove_expectation(headers: &mut HeaderMap) {
    if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
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
    // There is no content to wait for.
    remove_expectation(headers);
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

/// What is wrong with the version of WebSocket that is asked for, whichever version of HTTP asks (RFC 6455, 4.2.1; RFC 8441, 5).
pub(crate) fn version_fault(headers: &HeaderMap) -> Option<Reason> {
    let mut versions = headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    match (versions.next(), versions.next()) {
        (Some(version), None) if version == "13" => None,
        _ => Some(Reason::WebsocketVersion),
    }
}

/// What is wrong with the key of an upgrade (RFC 6455, 4.2.1).
pub(crate) fn key_fault(headers: &HeaderMap) -> Option<Reason> {
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
            ("x-request-id", "x"),
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
    fn one_chunked_is_the_only_coding() {
        let foreign = |values: &[&'static str]| {
            has_foreign_coding(&map(&values
                .iter()
                .map(|value| ("transfer-encoding", *value))
                .collect::<Vec<_>>()))
        };
        assert!(!foreign(&[]) && !foreign(&["chunked"]) && !foreign(&["Chunked"]));
        for values in [
            &[",chunked"][..],
            &["chunked,"],
            &[", chunked"],
            &["chunked, chunked"],
            &["gzip, chunked"],
            &["gzip"],
            &[""],
            &["chunked;x=1"],
            &["chunked", "chunked"],
            &["", "chunked"],
        ] {
            assert!(foreign(values), "{values:?}");
        }
    }

    #[test]
    fn a_trailer_says_nothing_about_who_asks_and_how_to_read_it() {
        let mut trailers = map(&[
            ("x-sum", "1"),
            ("server-timing", "2"),
            ("etag", "3"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("true_client_ip", "6.6.6.6"),
            ("x-request-id", "mine"),
            ("x_request_id", "mine"),
            ("connection", "x-sum"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("content_length", "5"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("trailer", "x-sum"),
            ("sec-websocket-key", "x"),
            ("sec_websocket_version", "13"),
            ("via", "1.1 weir"),
            ("cookie", "a=1"),
            ("set-cookie", "a=1"),
            ("authorization", "x"),
            ("host", "other"),
        ]);
        prepare_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["etag", "server-timing", "x-sum"]);
    }

    #[test]
    fn the_version_of_a_websocket_is_13_and_said_once() {
        let fault = |versions: &[&'static str]| {
            let fields: Vec<_> = versions.iter().map(|value| ("sec-websocket-version", *value)).collect();
            version_fault(&map(&fields))
        };
        assert_eq!(fault(&["13"]), None);
        for versions in
            [&[][..], &[""], &["8"], &[",13"], &["13,"], &["13, 8"], &["8, 13"], &["13", "13"], &["13", ""]]
        {
            assert_eq!(fault(versions), Some(Reason::WebsocketVersion), "{versions:?}");
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
