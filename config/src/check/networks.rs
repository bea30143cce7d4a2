//! Lists of networks: `"10.0.0.0/8"`, `"2001:db8::/32"`, or an address alone.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::raw::{Section, Value};

const EXAMPLE: &str = "[\"10.0.0.0/8\", \"2001:db8::1\"]";

/// The networks under `key`, without bits behind their prefix; an absent key is an empty list.
pub(super) fn list(section: &Section<'_>, key: &'static str) -> Vec<IpNet> {
    let texts = section.get(key).and_then(|value| value.texts(EXAMPLE)).unwrap_or_default();
    texts.iter().filter_map(|(text, value)| one(text, value)).collect()
}

fn one(text: &str, value: &Value<'_>) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let Ok(net) = address.or_else(|_| text.parse::<IpNet>()) else {
        value.fault(
            format!("{text:?} is no network"),
            "write an address and a prefix length, for example \"10.0.0.0/8\", or an address alone",
        );
        return None;
    };
    if net != net.trunc() {
        value.fault(
            format!("{text:?} has bits behind its prefix of {}", net.prefix_len()),
            format!("write \"{}\", or \"{}\" for the address alone", net.trunc(), net.addr()),
        );
        return None;
    }
    Some(net)
}
