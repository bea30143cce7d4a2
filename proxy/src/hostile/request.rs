//! What is made of a request's words: its target and host, its headers, what it says about its way, its line in the log.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{CONNECTION, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use time::OffsetDateTime;
use weir_config::{ForwardedHeaders, LogFormat, normalise_host};

use crate::{
    observe::access::line::{Event, Line},
    request::{
        forwarded::{Said, Scheme, is_forwarding},
        headers,
        target::{self, Target},
    },
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// `name: value` lines, as far as they make headers.
fn header_map<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

/// A request target, then Host headers. A host that is found is the only one that the request can mean, and safe to show; what the
/// origin gets is a path.
pub fn request_target(data: &[u8]) {
    let mut lines = lines(data);
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut request = Request::new(());
    for value in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        request.headers_mut().append(HOST, value);
    }
    *request.uri_mut() = uri;
    let uri = request.uri();
    for scheme in [Scheme::Http, Scheme::Https] {
        let Ok(found) = Target::of(&request, scheme) else { continue };
        assert_eq!(request.headers().get_all(HOST).iter().count(), 1);
        assert_eq!(found.header, request.headers()[HOST]);
        assert_eq!(normalise_host(&found.host).as_deref(), Some(found.host.as_str()));
        assert!(found.host.bytes().all(|byte| byte.is_ascii_graphic() && !b"@/\\,\"'<>%?#".contains(&byte)));
        if let Some(authority) = uri.authority() {
            assert_eq!(normalise_host(authority.as_str()).as_deref(), Some(found.host.as_str()));
            assert_eq!(uri.scheme_str(), Some(scheme.as_str()));
        }
        let form = target::origin_form(uri);
        assert!(form.as_str().starts_with('/'), "{form}");
        assert!(form.as_str().bytes().all(|byte| byte > b' ' && byte != 0x7f), "{form}");
        assert_eq!(form.query(), uri.query());
    }
}

/// Headers of a request. What is for this hop ends here, whatever `Connection` names; what others rely on goes on.
pub fn request_headers(data: &[u8]) {
    let sent = header_map(lines(data));
    let relied_on =
        |name: &HeaderName| name == HOST || name == http::header::CONTENT_LENGTH || is_forwarding(name);
    let keeps = |map: &HeaderMap| {
        for name in sent.keys().filter(|name| relied_on(name)) {
            let [before, after] = [&sent, map].map(|map| map.get_all(name).iter().collect::<Vec<_>>());
            assert_eq!(before, after, "{name}");
        }
    };
    for chunked in [false, true] {
        let mut plain = sent.clone();
        headers::prepare_request(&mut plain, chunked);
        keeps(&plain);
        assert!(!plain.contains_key(UPGRADE) && !plain.contains_key("keep-alive"));
        assert_eq!(plain.contains_key(TRANSFER_ENCODING), chunked);
        assert!(plain.get(TE).is_none_or(|value| value == "trailers"));
        assert!(plain.get(CONNECTION).is_none_or(|value| value == "te"));
    }
    let mut upgrade = sent.clone();
    headers::prepare_upgrade(&mut upgrade);
    keeps(&upgrade);
    assert_eq!(
        (&upgrade[UPGRADE], &upgrade[CONNECTION]),
        (&"websocket".parse().expect("a value"), &"Upgrade".parse().expect("a value"))
    );
    assert!(!upgrade.contains_key(TRANSFER_ENCODING) && !upgrade.contains_key(TE));
    if headers::key_fault(&sent).is_none() {
        assert_eq!(sent.get_all("sec-websocket-key").iter().count(), 1);
        assert_eq!(sent["sec-websocket-key"].len(), 24);
    }
    if headers::version_fault(&sent).is_none() {
        let versions: Vec<_> = sent.get_all("sec-websocket-version").iter().collect();
        assert_eq!(versions, ["13"]);
    }
    let mut trailers = sent.clone();
    headers::prepare_trailers(&mut trailers);
    for name in trailers.keys() {
        let dashed = name.as_str().replace('_', "-");
        let ours = ["x-forwarded-", "sec-websocket-"].iter().any(|prefix| dashed.starts_with(prefix));
        assert!(!ours && !["x-request-id", "connection", "content-length", "via"].contains(&dashed.as_str()));
    }
}

/// Fields of `X-Forwarded-For`, and of `Forwarded`, a line each. Nobody who is not trusted is believed; and the next proxy, which
/// trusts us, learns from what we write the same client that we have found.
pub fn forwarded(data: &[u8]) {
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
    const WEIR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
    let mut sent = HeaderMap::new();
    for value in lines(data).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        sent.append(X_FORWARDED_FOR, value.clone());
        sent.append(FORWARDED, value);
    }
    let host = HeaderValue::from_static("a.example:8443");
    for style in [ForwardedHeaders::XForwarded, ForwardedHeaders::Forwarded, ForwardedHeaders::Both] {
        let mut told = sent.clone();
        let said = Said::read(&told, style, PEER, &trusted);
        said.tell(&mut told, style, Scheme::Https, &host);
        let next = Said::read(&told, style, WEIR, &trusted);
        assert_eq!(next.client, said.client, "{style:?} {sent:?} became {told:?}");

        let mut told = sent.clone();
        let stranger = Said::read(&told, style, PEER, &[]);
        assert_eq!(stranger.client, PEER);
        stranger.tell(&mut told, style, Scheme::Https, &host);
        for name in [X_FORWARDED_FOR, FORWARDED] {
            let fields: Vec<_> = told.get_all(&name).iter().collect();
            let own = [
                HeaderValue::from_static("10.0.0.9"),
                HeaderValue::from_static("for=10.0.0.9;host=\"a.example:8443\";proto=https"),
            ];
            assert!(fields.len() <= 1 && fields.iter().all(|field| own.contains(field)), "{fields:?}");
        }
    }
}

/// Target, referer and user agent, a line each. Neither form of the log's line can be ended early, nor a field forged.
pub fn access_line(data: &[u8]) {
    let texts: Vec<_> = lines(data).map(String::from_utf8_lossy).collect();
    let text = |nth: usize| texts.get(nth).map(|text| &**text);
    let line = Line {
        time: OffsetDateTime::UNIX_EPOCH,
        event: Event::End,
        zone: Some("a.test"),
        client: IpAddr::from([192, 0, 2, 7]),
        peer: None,
        request_id: "0123",
        scheme: "https",
        host: text(3),
        method: "GET",
        target: text(0).unwrap_or_default(),
        protocol: "HTTP/1.1",
        status: 101,
        reason: None,
        duration: std::time::Duration::from_secs(1),
        received_bytes: Some(1),
        sent_bytes: 2,
        ended_by: Some("client"),
        referer: text(1),
        user_agent: text(2),
    };
    let combined = line.write(LogFormat::Combined);
    assert!(combined.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{combined}");
    assert_eq!(combined.matches('"').count(), 10, "{combined}");
    // No request target has a blank.
    if !line.target.contains(' ') {
        let request = combined.split('"').nth(1).map(|request| request.split(' ').count());
        assert_eq!(request, Some(3), "{combined}");
    }
    let json = line.write(LogFormat::Json);
    assert!(!json.contains(['\n', '\r']));
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for (member, sent) in [
        ("target", Some(line.target)),
        ("referer", line.referer),
        ("user_agent", line.user_agent),
        ("host", line.host),
    ] {
        assert_eq!(read.get(member).and_then(|value| value.as_str()), sent);
    }
    assert_eq!(read["ended_by"], "client");
}
