//! A zone's origins: `origin` or `origins`, and the keys that say how they are reached.

use std::net::IpAddr;

use super::{origin, tls::pem};
use crate::{
    host::is_name,
    model::{Origin, OriginScheme, OriginTls, Origins},
    normalise_host,
    raw::{ORIGIN_TLS, Section, Value},
};

const ONE: &str = "\"ws://127.0.0.1:9001\"";
const SEVERAL: &str = "[\"ws://10.0.0.1:9001\", \"ws://10.0.0.2:9001\"]";

pub(super) fn read(section: &Section<'_>) -> Origins {
    let list = list(section);
    let over_tls = list.iter().any(|origin| origin.scheme == OriginScheme::Wss);
    let tls = section.get("origin_tls").map(|value| {
        if !list.is_empty() && !over_tls {
            let remedy = "write the origin as wss://HOST:PORT, or remove `origin_tls`";
            value.fault("`origin_tls` has no effect: no origin of the zone is reached over TLS", remedy);
        }
        tls(&value)
    });
    Origins {
        list,
        host: section.get("origin_host").and_then(|value| host(&value)),
        tls: tls.unwrap_or_default(),
        send_proxy_protocol: section.get("send_proxy_protocol").and_then(|v| v.flag()).unwrap_or(false),
    }
}

fn list(section: &Section<'_>) -> Vec<Origin> {
    let Some(several) = section.get("origins") else {
        let one = section.required("origin", ONE).and_then(|value| Some((value.text(ONE)?, value)));
        return one.and_then(|(text, value)| one_of(text, &value)).into_iter().collect();
    };
    if let Some(one) = section.get("origin") {
        one.fault("there is `origin` as well as `origins`", "put all of them in `origins`");
    }
    let Some(texts) = several.texts(SEVERAL) else { return Vec::new() };
    if texts.is_empty() {
        several.fault("`origins` is empty: the zone's requests would go nowhere", format!("write {SEVERAL}"));
    }
    let mut list: Vec<Origin> = Vec::with_capacity(texts.len());
    for (text, value) in texts {
        let Some(origin) = one_of(text, &value) else { continue };
        if list.contains(&origin) {
            value.fault(format!("the origin {text:?} is there twice"), "list each origin once");
        } else {
            list.push(origin);
        }
    }
    list
}

fn one_of(text: &str, value: &Value<'_>) -> Option<Origin> {
    origin::parse(text).map_err(|problem| value.problem(problem)).ok()
}

/// A Host header: a host and perhaps a port.
fn host(value: &Value<'_>) -> Option<String> {
    let text = value.text("\"app.internal\"")?;
    if text.is_empty() || normalise_host(text).is_none() {
        value.fault(
            format!("{text:?} cannot be a Host header"),
            "write a DNS name, an IPv4 address, or an IPv6 address in brackets, with a port if it needs one",
        );
        return None;
    }
    Some(text.to_owned())
}

fn tls(value: &Value<'_>) -> OriginTls {
    let Some(section) = value.section(&ORIGIN_TLS) else { return OriginTls::default() };
    OriginTls {
        ca: section.get("ca").and_then(|value| pem(&value, "CA certificate")),
        server_name: section.get("server_name").and_then(|value| server_name(&value)),
    }
}

fn server_name(value: &Value<'_>) -> Option<String> {
    let text = value.text("\"app.internal\"")?;
    let name = text.strip_suffix('.').unwrap_or(text);
    if text.parse::<IpAddr>().is_err() && !is_name(name) {
        value.fault(
            format!("{text:?} is no name that a certificate could be for"),
            "write a DNS name or an IP address, without a port",
        );
        return None;
    }
    Some(name.to_ascii_lowercase())
}
