//! `[xdp]`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    model::{DryRun, SynRate, Xdp, XdpInterface, XdpMode, XdpRule},
    raw::{SYN_RATE, Section, Value, XDP_INTERFACE},
};

const MODES: [(&str, XdpMode); 3] =
    [("native", XdpMode::Native), ("generic", XdpMode::Generic), ("off", XdpMode::Off)];
const RULES: [(&str, XdpRule); 4] = [
    ("deny", XdpRule::Deny),
    ("source_cap", XdpRule::SourceCap),
    ("syn_rate", XdpRule::SynRate),
    ("zone", XdpRule::Zone),
];
/// What the kernel's tables have room for; `weir-common` has the same numbers.
const MOST_ALLOWED: usize = 16_384;
const MOST_DENIED: usize = 262_144;
const MOST_SYNS: u64 = 1_000_000;
/// `IFNAMSIZ` less the end.
const LONGEST_NAME: usize = 15;

pub(super) fn read(section: &Section<'_>) -> Xdp {
    Xdp {
        interfaces: section.get("interfaces").map(|value| interfaces(&value)).unwrap_or_default(),
        allow: prefixes(section, "allow", MOST_ALLOWED),
        deny: prefixes(section, "deny", MOST_DENIED),
        syn_rate: section
            .get("syn_rate")
            .and_then(|value| value.section(&SYN_RATE))
            .and_then(|rate| syn_rate(&rate)),
        dry_run: dry_run(section),
    }
}

fn interfaces(list: &Value<'_>) -> Vec<XdpInterface> {
    list.sections(&XDP_INTERFACE).iter().filter_map(interface).collect()
}

fn interface(section: &Section<'_>) -> Option<XdpInterface> {
    let name = section.required("name", "\"eth0\"").and_then(|value| name(&value));
    let mode = section.required("mode", "\"native\"").and_then(|value| value.choice(&MODES));
    Some(XdpInterface { pattern: name?, mode: mode? })
}

fn name(value: &Value<'_>) -> Option<String> {
    let name = value.text("\"eth0\"")?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
        value.fault(
            format!("`name` is {name:?}, which no interface can be called"),
            "write an interface's name, or a pattern with * for any characters: \"eth0\", \"eth*\"",
        );
        return None;
    }
    Some(name.to_owned())
}

/// The prefixes under a key, each once.
fn prefixes(section: &Section<'_>, key: &'static str, most: usize) -> Vec<IpNet> {
    let Some(value) = section.get(key) else { return Vec::new() };
    let texts = value.texts("[\"203.0.113.0/24\"]").unwrap_or_default();
    let mut prefixes: Vec<IpNet> = texts.iter().filter_map(|(text, value)| prefix(text, value)).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    if prefixes.len() > most {
        value.fault(
            format!("`{key}` has {} prefixes, and the kernel's table has room for {most}", prefixes.len()),
            "write shorter prefixes that hold several of them",
        );
    }
    prefixes
}

fn prefix(text: &str, value: &Value<'_>) -> Option<IpNet> {
    let parsed =
        text.parse::<IpNet>().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).or(Err(error)));
    let Ok(prefix) = parsed else {
        let message = format!("{text:?} is neither an address nor a prefix");
        value.fault(message, "write for example \"203.0.113.7\", \"203.0.113.0/24\" or \"2001:db8::/32\"");
        return None;
    };
    if prefix.trunc() != prefix {
        let message = format!("{text:?} has bits behind the end of its prefix");
        let remedy = format!("write \"{}\", or \"{}\" for the one address", prefix.trunc(), prefix.addr());
        value.fault(message, remedy);
        return None;
    }
    if holds_ipv4(prefix) {
        let message = format!("{text:?} is an IPv6 prefix with IPv4 addresses in it");
        value.fault(
            message,
            "write IPv4 as \"203.0.113.0/24\", and \"2000::/3\" for all IPv6 of the internet",
        );
        return None;
    }
    Some(prefix)
}

/// True for an IPv6 prefix that IPv4-mapped addresses are in.
fn holds_ipv4(prefix: IpNet) -> bool {
    let mapped = std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    matches!(prefix, IpNet::V6(prefix) if prefix.contains(&mapped) || prefix.addr().to_ipv4_mapped().is_some())
}

fn syn_rate(section: &Section<'_>) -> Option<SynRate> {
    let per_second =
        section.required("per_second", "50").and_then(|value| value.number(1..=MOST_SYNS, 50))?;
    let burst = section.get("burst").map(|value| value.number(1..=MOST_SYNS, 200));
    Some(SynRate { per_second, burst: burst.unwrap_or(Some(per_second))? })
}

fn dry_run(section: &Section<'_>) -> DryRun {
    let Some(value) = section.get("dry_run") else { return DryRun::default() };
    let texts = value.texts("[\"syn_rate\"]").unwrap_or_default();
    DryRun(texts.iter().filter_map(|(_, value)| value.choice(&RULES)).collect())
}
