//! DNS servers: an IP address, and a port if it is not 53.

use std::net::{IpAddr, SocketAddr};

use crate::raw::{Section, Value};

const EXAMPLE: &str = "[\"10.0.0.53\", \"127.0.0.1:5353\"]";
const DNS: u16 = 53;

/// The servers under `key`; an absent key is an empty list.
pub(super) fn list(section: &Section<'_>, key: &'static str) -> Vec<SocketAddr> {
    let texts = section.get(key).and_then(|value| value.texts(EXAMPLE)).unwrap_or_default();
    let server = |(text, value): &(&str, Value<'_>)| {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
        let server = alone.or_else(|_| text.parse::<SocketAddr>()).ok().filter(|server| server.port() != 0);
        if server.is_none() {
            value.fault(
                format!("{text:?} is no address of a DNS server"),
                format!("write an IP address, with a port if it is not 53: {key} = {EXAMPLE}"),
            );
        }
        server
    };
    texts.iter().filter_map(server).collect()
}
