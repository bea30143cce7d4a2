//! The TOML as it is written: which keys a section has, and values read by the type that is wanted.
//!
//! Nothing here stops at a fault: each getter reports what is wrong and returns `None`, so that one run finds everything.
//! The key lists are the contract; `docs/configuration.md` has to name every one of them (a test says so).

mod value;

use std::borrow::Cow;

use toml::de::DeTable;

use crate::{
    error::Problem,
    nearest::nearest,
    source::{At, Report},
};
pub(crate) use value::Value;

/// The keys of a section.
pub(crate) struct Keys {
    /// As a reader of the file would call it.
    pub section: &'static str,
    pub keys: &'static [&'static str],
}

pub(crate) static ROOT: Keys = Keys {
    section: "the top level",
    keys: &[
        "instance",
        "zones_dir",
        "proxy",
        "firewall",
        "agent",
        "xdp",
        "notices",
        "listeners",
        "plans",
        "policy",
        "zones",
    ],
};
pub(crate) static ZONE_FILE: Keys = Keys { section: "a zone file", keys: &["zones"] };
pub(crate) static PROXY: Keys = Keys {
    section: "[proxy]",
    keys: &[
        "http",
        "https",
        "admin",
        "http2",
        "http2_ping_interval",
        "h2c",
        "user",
        "accounting",
        "forwarded",
        "tls_min_version",
        "default_tls",
        "trusted_proxies",
        "proxy_protocol_from",
        "resolvers",
        "origin_max_fails",
        "origin_fail_timeout",
        "header_timeout",
        "tls_handshake_timeout",
        "keep_alive_timeout",
        "connect_timeout",
        "response_timeout",
        "stall_timeout",
        "min_body_bytes_per_second",
        "half_closed_timeout",
        "tunnel_idle_timeout",
        "tunnel_max_life",
        "drain_timeout",
        "close_spread",
        "close_code",
        "takeover",
        "access_log",
        "retry_after",
        "source_cap",
    ],
};
pub(crate) static ACCESS_LOG: Keys = Keys { section: "access_log", keys: &["format", "to"] };
pub(crate) static AGENT: Keys = Keys {
    section: "[agent]",
    keys: &[
        "admin",
        "socket",
        "operators",
        "ledger",
        "cgroup",
        "tag_users",
        "max_zones",
        "max_sources",
        "source_prefix_v4",
        "source_prefix_v6",
        "marks",
        "audit_interval",
        "program_stats",
        "kernel_log",
    ],
};
pub(crate) static PLAN: Keys = Keys {
    section: "[plans.NAME]",
    keys: &[
        "guideline",
        "abuse_cap",
        "socket_cap",
        "source_cap",
        "socket_memory_bytes",
        "bytes_per_second",
        "upgrades_per_second",
        "notify",
    ],
};
pub(crate) static ZONE: Keys = Keys {
    section: "[[zones]]",
    keys: &[
        "name",
        "hosts",
        "plan",
        "origin",
        "origins",
        "origin_tls",
        "origin_host",
        "send_proxy_protocol",
        "tls",
        "timeouts",
        "firewall",
        "mark",
        "contact",
    ],
};
pub(crate) static ORIGIN_TLS: Keys = Keys { section: "origin_tls", keys: &["ca", "server_name"] };
pub(crate) static LISTENER: Keys =
    Keys { section: "[[listeners]]", keys: &["address", "zone", "counts", "source_cap"] };
pub(crate) static MARKS: Keys = Keys { section: "marks", keys: &["base", "mask"] };
pub(crate) static TLS: Keys = Keys { section: "tls", keys: &["cert", "key", "ocsp"] };
pub(crate) static TIMEOUTS: Keys = Keys {
    section: "timeouts",
    keys: &[
        "header_timeout",
        "tls_handshake_timeout",
        "keep_alive_timeout",
        "connect_timeout",
        "response_timeout",
        "stall_timeout",
        "min_body_bytes_per_second",
        "half_closed_timeout",
        "tunnel_idle_timeout",
        "tunnel_max_life",
    ],
};
pub(crate) static FIREWALL: Keys =
    Keys { section: "[firewall]", keys: &["geoip", "access", "rules", "limits", "managed"] };
pub(crate) static ZONE_FIREWALL: Keys =
    Keys { section: "[zones.firewall]", keys: &["access", "rules", "limits", "managed"] };
pub(crate) static MANAGED: Keys =
    Keys { section: "[firewall.managed]", keys: &["rules", "mode", "uninspected", "threads", "max_wait"] };
pub(crate) static ZONE_MANAGED: Keys =
    Keys { section: "[zones.firewall.managed]", keys: &["rules", "mode", "uninspected"] };
pub(crate) static ACCESS: Keys =
    Keys { section: "`access`", keys: &["id", "action", "networks", "file", "dry_run"] };
pub(crate) static RULE: Keys =
    Keys { section: "`rules`", keys: &["id", "when", "action", "status", "body", "on_error", "dry_run"] };
pub(crate) static LIMIT: Keys = Keys {
    section: "`limits`",
    keys: &["id", "key", "rate", "burst", "max_keys", "v4_prefix", "v6_prefix", "dry_run"],
};

pub(crate) static XDP: Keys =
    Keys { section: "[xdp]", keys: &["interfaces", "allow", "deny", "syn_rate", "dry_run"] };
pub(crate) static XDP_INTERFACE: Keys = Keys { section: "an item of interfaces", keys: &["name", "mode"] };
pub(crate) static SYN_RATE: Keys = Keys { section: "syn_rate", keys: &["per_second", "burst"] };

pub(crate) static NOTICES: Keys = Keys {
    section: "[notices]",
    keys: &[
        "sender_name",
        "templates",
        "timeout",
        "retry_days",
        "links",
        "link_url",
        "link_days",
        "link_keys",
        "mail",
        "webhook",
        "slack",
        "alertmanager",
    ],
};
pub(crate) static MAIL: Keys = Keys {
    section: "[notices.mail]",
    keys: &["server", "security", "user", "password_file", "from", "reply_to", "ca"],
};
pub(crate) static WEBHOOK: Keys = Keys { section: "[notices.webhook]", keys: &["url", "secret_file", "ca"] };
pub(crate) static SLACK: Keys = Keys { section: "[notices.slack]", keys: &["url_file", "ca"] };
pub(crate) static ALERTMANAGER: Keys =
    Keys { section: "[notices.alertmanager]", keys: &["urls", "token_file", "ca"] };

pub(crate) static POLICY: Keys =
    Keys { section: "[policy]", keys: &["version", "detection", "contact", "abuse", "recommend"] };
pub(crate) static DETECTION: Keys = Keys {
    section: "[policy.detection]",
    keys: &[
        "over_ratio",
        "episode_gap_minutes",
        "spike_minutes",
        "counted_gap_hours",
        "window_days",
        "repeated_spikes",
        "repeated_spread_days",
        "sustained_hours",
        "flagged_budget_ratio",
        "flagged_spikes",
        "normal_days",
        "normal_coverage",
        "normal_percentile",
        "normal_ratio",
        "materiality",
        "surge_ratio",
        "surge_minutes",
    ],
};
pub(crate) static CONTACT: Keys = Keys {
    section: "[policy.contact]",
    keys: &["grace_days", "zone_gap_hours", "case_gap_days", "per_case", "lease_minutes"],
};
pub(crate) static ABUSE: Keys = Keys {
    section: "[policy.abuse]",
    keys: &[
        "confirm_seconds",
        "shape_ratio",
        "shape_seconds",
        "restart_silence_minutes",
        "share",
        "baseline_ratio",
        "baseline_minutes",
        "top_prefixes",
        "minimum_live",
        "verdict_minutes",
        "unattended_hours",
    ],
};
pub(crate) static RECOMMEND: Keys =
    Keys { section: "[policy.recommend]", keys: &["headroom", "forecast_days", "horizon_days"] };

/// All of them. A key that is found in the wrong section is looked up here.
static ALL: [&Keys; 31] = [
    &ROOT,
    &PROXY,
    &ACCESS_LOG,
    &AGENT,
    &PLAN,
    &ZONE,
    &TLS,
    &ORIGIN_TLS,
    &TIMEOUTS,
    &FIREWALL,
    &ZONE_FIREWALL,
    &ACCESS,
    &RULE,
    &LIMIT,
    &MANAGED,
    &ZONE_MANAGED,
    &XDP,
    &XDP_INTERFACE,
    &SYN_RATE,
    &LISTENER,
    &MARKS,
    &NOTICES,
    &MAIL,
    &WEBHOOK,
    &SLACK,
    &ALERTMANAGER,
    &POLICY,
    &DETECTION,
    &CONTACT,
    &ABUSE,
    &RECOMMEND,
];

/// A table whose keys have been checked. A section that the file lacks is an empty one.
pub(crate) struct Section<'a> {
    keys: &'static Keys,
    at: At<'a>,
    table: Option<&'a DeTable<'a>>,
    report: &'a Report,
}

impl<'a> Section<'a> {
    /// Opens a table and reports the keys that it should not have.
    pub fn open(keys: &'static Keys, at: At<'a>, table: &'a DeTable<'a>, report: &'a Report) -> Self {
        for (key, _) in table.iter().filter(|(key, _)| !keys.keys.contains(&key.get_ref().as_ref())) {
            report.add(at.source().at(key.span().start), unknown_key(key.get_ref(), keys));
        }
        Self { keys, at, table: Some(table), report }
    }

    pub fn absent(keys: &'static Keys, at: At<'a>, report: &'a Report) -> Self {
        Self { keys, at, table: None, report }
    }

    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(self.keys.keys.contains(&key), "{key} is not in the list of {}", self.keys.section);
        let value = self.table?.get(key)?;
        Some(Value::new(Cow::Borrowed(key), self.at, value, self.report))
    }

    /// As [`Section::get`], but its absence is a fault.
    pub fn required(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let message = format!("{} has no `{key}`", self.keys.section);
            self.fault(message, format!("add {key} = {example}"));
        }
        value
    }

    /// Opens the table under `key`.
    pub fn section(&self, key: &'static str, keys: &'static Keys) -> Self {
        let opened = self.get(key).and_then(|value| value.section(keys));
        opened.unwrap_or(Self::absent(keys, self.at, self.report))
    }

    pub fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.report.add(self.at, Problem::new(message, remedy));
    }
}

fn unknown_key(key: &str, keys: &Keys) -> Problem {
    let message = format!("unknown key `{}` in {}", key.escape_debug(), keys.section);
    let has = format!("{} has: {}", keys.section, keys.keys.join(", "));
    if let Some(meant) = nearest(key, keys.keys.iter().copied()) {
        return Problem::new(message, format!("did you mean `{meant}`? {has}"));
    }
    // Written below the wrong header, perhaps with a slip as well.
    let elsewhere = |matches: &dyn Fn(&str) -> bool| {
        ALL.iter().find_map(|other| Some((other.section, other.keys.iter().find(|known| matches(known))?)))
    };
    let found =
        elsewhere(&|known| known == key).or_else(|| elsewhere(&|known| nearest(key, [known]).is_some()));
    match found {
        Some((section, known)) => {
            Problem::new(message, format!("did you mean `{known}` of {section}? {has}"))
        }
        None => Problem::new(message, has),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        let reference = include_str!("../../docs/configuration.md");
        for Keys { section, keys } in ALL {
            for key in *keys {
                assert!(
                    reference.contains(&format!("`{key}`")),
                    "docs/configuration.md says nothing of {key} of {section}"
                );
            }
        }
    }
}
