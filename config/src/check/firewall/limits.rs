//! `limits`: rates like `"100/1m"`, and what is counted together.

use std::time::Duration;

use super::dry_run;
use crate::{
    model::{LimitKey, RateLimit, RuleId},
    raw::{Section, Value},
};

const RATE: &str = "\"100/1m\"";
const KEY: &str = "[\"client\"]";
const DAY: Duration = Duration::from_secs(24 * 3600);
const MAX_KEYS: u64 = 65_536;
const MOST_KEYS: u64 = 10_000_000;

pub(super) fn read(rule: &Section<'_>, id: Option<RuleId>) -> Option<RateLimit> {
    let rate = rule.required("rate", RATE).and_then(|value| rate(&value));
    let key = match rule.get("key") {
        Some(value) => key(&value),
        None => Some(vec![LimitKey::Client]),
    };
    let most = u64::from(u32::MAX);
    let number = |name, range, default: u64| {
        rule.get(name).and_then(|value| value.number(range, default)).unwrap_or(default)
    };
    let (requests, window) = rate.unwrap_or((1, DAY));
    let burst = number("burst", 1..=most, u64::from(requests));
    let max_keys = number("max_keys", 1..=MOST_KEYS, MAX_KEYS);
    let (v4, v6) = (number("v4_prefix", 1..=32, 32), number("v6_prefix", 1..=128, 64));
    rate?;
    Some(RateLimit {
        id: id?,
        key: key?,
        requests,
        window,
        burst: u32::try_from(burst).ok()?,
        max_keys: u32::try_from(max_keys).ok()?,
        v4_prefix: u8::try_from(v4).ok()?,
        v6_prefix: u8::try_from(v6).ok()?,
        dry_run: dry_run(rule),
    })
}

/// A number of requests and a time, with a slash between them.
fn rate(value: &Value<'_>) -> Option<(u32, Duration)> {
    let text = value.text(RATE)?;
    let parsed = text.split_once('/').and_then(|(requests, window)| {
        let requests = requests.trim().parse::<u32>().ok().filter(|requests| *requests > 0)?;
        let window = humantime::parse_duration(window.trim()).ok()?;
        Some((requests, window))
    });
    let Some((requests, window)) = parsed else {
        value.fault(
            format!("`rate` is {text:?}, which is not a number of requests and a time"),
            format!("for example rate = {RATE}; units are ms, s, m, h"),
        );
        return None;
    };
    if window < Duration::from_millis(1) || window > DAY || window / requests == Duration::ZERO {
        value.fault(
            format!("`rate` is {text:?}: the time has to be from 1ms to 1day, and at least 1 ns a request"),
            format!("for example rate = {RATE}"),
        );
        return None;
    }
    Some((requests, window))
}

fn key(value: &Value<'_>) -> Option<Vec<LimitKey>> {
    let texts = value.texts(KEY)?;
    if texts.is_empty() {
        value.fault("`key` is empty", "write [\"zone\"] for one rate for all requests of a zone");
    }
    let parts: Vec<_> = texts.iter().map(|(text, item)| part(text, item)).collect();
    parts.into_iter().collect()
}

fn part(text: &str, value: &Value<'_>) -> Option<LimitKey> {
    match text {
        "client" => return Some(LimitKey::Client),
        "zone" => return Some(LimitKey::Zone),
        "path" => return Some(LimitKey::Path),
        _ => {}
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text.strip_prefix("header:").map(|name| name.trim().to_ascii_lowercase()) {
        Some(name) if !name.is_empty() && name.bytes().all(token) => Some(LimitKey::Header(name)),
        _ => {
            value.fault(
                format!("{text:?} is nothing to count by"),
                "write \"client\", \"zone\", \"path\", or \"header:NAME\"",
            );
            None
        }
    }
}
