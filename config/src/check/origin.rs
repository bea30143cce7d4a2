//! One origin: `ws://host[:port][/]` or `wss://host[:port][/]`, or the same with `http` and `https`.

use std::net::Ipv6Addr;

use crate::{
    error::Problem,
    host::is_name,
    model::{Origin, OriginScheme},
};

const EXAMPLE: &str = "write ws://HOST:PORT, for example \"ws://127.0.0.1:9001\"";

pub(super) fn parse(url: &str) -> Result<Origin, Problem> {
    let wrong = |why: &str, remedy: &str| Problem::new(format!("{url:?} is no origin: {why}"), remedy);
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(wrong("it has no scheme", EXAMPLE));
    };
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "ws" | "http" => (OriginScheme::Ws, 80),
        "wss" | "https" => (OriginScheme::Wss, 443),
        _ => return Err(wrong("its scheme is none of ws, wss, http and https", EXAMPLE)),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    match tail.as_bytes() {
        [] | [b'/'] => {}
        [b'/', b'?', ..] | [b'?', ..] => {
            return Err(wrong("it has a query", "leave it out: the client's is passed on"));
        }
        [b'#', ..] | [b'/', b'#', ..] => {
            return Err(wrong("it has a fragment", "leave it out: no server ever gets it"));
        }
        _ => return Err(wrong("it has a path", "leave it out: the client's path is passed on as it is")),
    }
    if authority.contains('@') {
        return Err(wrong(
            "it has a user or password",
            "leave it out: the client's own credentials are passed on",
        ));
    }
    let (host, port) = split_port(authority);
    let port = match port.map(str::parse::<u16>) {
        None => default_port,
        Some(Ok(port)) if port != 0 => port,
        Some(_) => return Err(wrong("its port is not a number from 1 to 65535", EXAMPLE)),
    };
    let Some(host) = host_of(host) else {
        let remedy = "write a DNS name, an IPv4 address, or an IPv6 address in brackets";
        return Err(wrong("it has no valid host", remedy));
    };
    Ok(Origin { scheme, host, port })
}

/// At the colon after the host; those of an IPv6 address are in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].find(':') {
        Some(colon) => (&authority[..host_end + colon], Some(&authority[host_end + colon + 1..])),
        None => (authority, None),
    }
}

fn host_of(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some(address.parse::<Ipv6Addr>().ok()?.to_string());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    is_name(name).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_host_and_a_port() {
        for (url, host, port) in [
            ("ws://127.0.0.1:9001", "127.0.0.1", 9001),
            ("http://Origin.Example./", "origin.example", 80),
            ("WS://[2001:DB8::1]:8080/", "2001:db8::1", 8080),
            ("ws://[::1]", "::1", 80),
            ("wss://a", "a", 443),
            ("https://a:8443", "a", 8443),
        ] {
            let origin = parse(url).unwrap();
            assert_eq!((origin.host.as_str(), origin.port), (host, port), "{url}");
            let over_tls = origin.scheme == OriginScheme::Wss;
            assert_eq!(over_tls, url.starts_with("wss") || url.starts_with("https"), "{url}");
        }
    }

    #[test]
    fn what_weir_would_not_honour_is_refused_with_the_reason() {
        for (url, reason) in [
            ("127.0.0.1:9001", "no scheme"),
            ("tcp://a", "none of ws, wss, http and https"),
            ("ws://a/chat", "a path"),
            ("ws://a//", "a path"),
            ("ws://a?x=1", "a query"),
            ("ws://a/?x=1", "a query"),
            ("ws://a/#x", "a fragment"),
            ("ws://u:p@a", "a user or password"),
            ("ws://a:0", "port"),
            ("ws://a:", "port"),
            ("ws://a:65536", "port"),
            ("ws://", "no valid host"),
            ("ws://:80", "no valid host"),
            ("ws://::1", "port"),
            ("ws://[::1", "port"),
            ("ws://[::1]x:80", "no valid host"),
            ("ws://a b", "no valid host"),
        ] {
            let problem = parse(url).unwrap_err();
            assert!(problem.message.contains(reason), "{url}: {}", problem.message);
        }
    }
}
