//! `[proxy]`.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use super::{
    MILLISECOND, WEEK, access_log, listeners::Listeners, networks, plans::source_cap, resolvers, timeouts,
    tls,
};
use crate::{
    model::{Accounting, CloseCode, ForwardedHeaders, Proxy, Timeouts, TlsVersion},
    raw::{Section, Value},
};

const ACCOUNTING: [(&str, Accounting); 2] =
    [("required", Accounting::Required), ("optional", Accounting::Optional)];
const FORWARDED: [(&str, ForwardedHeaders); 4] = [
    ("x-forwarded", ForwardedHeaders::XForwarded),
    ("forwarded", ForwardedHeaders::Forwarded),
    ("both", ForwardedHeaders::Both),
    ("none", ForwardedHeaders::None),
];

const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_ADMIN: &str = "127.0.0.1:9465";
const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

pub(super) fn read(section: &Section<'_>, listeners: &mut Listeners, others: bool) -> Proxy {
    let http = listeners.list(section, "http");
    let https = listeners.list(section, "https");
    if listeners.none_listed() && !others {
        let remedy = "add http = [\"0.0.0.0:80\"] to [proxy], or https, or both";
        match section.get("http").or(section.get("https")) {
            Some(empty) => empty.fault("there is no listener", remedy),
            None => section.fault("there is no listener", remedy),
        }
    }
    let admin = listeners.one(section, "admin", DEFAULT_ADMIN);
    Proxy {
        http,
        https,
        admin,
        http2: section.get("http2").and_then(|value| value.flag()).unwrap_or(true),
        http2_ping_interval: section
            .get("http2_ping_interval")
            .and_then(|value| value.duration_or_none(MILLISECOND..=WEEK, HTTP2_PING_INTERVAL))
            .unwrap_or(Some(HTTP2_PING_INTERVAL)),
        h2c: section.get("h2c").and_then(|value| value.flag()).unwrap_or(false),
        user: section
            .get("user")
            .and_then(|value| user(value.text("\"nobody\"")?, &value))
            .unwrap_or("nobody".into()),
        accounting: section
            .get("accounting")
            .and_then(|v| v.choice(&ACCOUNTING))
            .unwrap_or(Accounting::Required),
        forwarded: section
            .get("forwarded")
            .and_then(|v| v.choice(&FORWARDED))
            .unwrap_or(ForwardedHeaders::XForwarded),
        trusted_proxies: networks::list(section, "trusted_proxies"),
        proxy_protocol_from: networks::list(section, "proxy_protocol_from"),
        resolvers: resolvers::list(section, "resolvers"),
        origin_max_fails: section
            .get("origin_max_fails")
            .and_then(|value| value.number(0..=1_000_000, 3))
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(3),
        origin_fail_timeout: duration(
            section,
            "origin_fail_timeout",
            MILLISECOND..=WEEK,
            Duration::from_secs(10),
        ),
        timeouts: Arc::new(timeouts::read(section, &Timeouts::default())),
        tls_min_version: section
            .get("tls_min_version")
            .and_then(|v| v.choice(&TLS_VERSIONS))
            .unwrap_or(TlsVersion::Tls12),
        default_tls: section.get("default_tls").and_then(|value| tls::read(&value)),
        drain_timeout: duration(section, "drain_timeout", Duration::ZERO..=WEEK, Duration::from_secs(30)),
        close_spread: duration(section, "close_spread", Duration::ZERO..=WEEK, Duration::from_secs(10)),
        close_code: section.get("close_code").and_then(|v| close_code(&v)).unwrap_or(CloseCode::GoingAway),
        takeover: section.get("takeover").and_then(|value| value.path("\"/run/weir/proxy.sock\"")),
        access_log: access_log::read(section),
        retry_after: retry_after(section),
        source_cap: source_cap(section),
    }
}

pub(super) fn duration(
    section: &Section<'_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Duration {
    section.get(key).and_then(|value| value.duration(range, default)).unwrap_or(default)
}

fn close_code(value: &Value<'_>) -> Option<CloseCode> {
    match value.number(1001..=1012, 1001)? {
        1001 => Some(CloseCode::GoingAway),
        1012 => Some(CloseCode::ServiceRestart),
        other => {
            let message = format!("`close_code` is {other}, which does not say that a server leaves");
            value.fault(message, "write 1001 (going away) or 1012 (service restart)");
            None
        }
    }
}

/// The header has whole seconds (RFC 9110, 10.2.3).
fn retry_after(section: &Section<'_>) -> Duration {
    let default = Duration::from_secs(30);
    let chosen = duration(section, "retry_after", Duration::from_secs(1)..=WEEK, default);
    if chosen.subsec_nanos() != 0
        && let Some(value) = section.get("retry_after")
    {
        let remedy = format!("write \"{}s\"", chosen.as_secs() + 1);
        value.fault("`retry_after` is not in whole seconds, as the header Retry-After is", remedy);
    }
    chosen
}

/// A user's name; whether there is such a user is for the host to say.
pub(super) fn user(name: &str, value: &Value<'_>) -> Option<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | ',');
    if name.is_empty() || name.contains(bad) {
        value.fault(format!("{name:?} is no user's name"), "write a name as it stands in /etc/passwd");
        return None;
    }
    Some(name.to_owned())
}
