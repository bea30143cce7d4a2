//! Addresses to listen on: each is one that can be bound, and no two of them take the same connections.

use std::net::SocketAddr;

use crate::{
    error::Problem,
    raw::{Section, Value},
    source::Place,
};

/// What was listed so far.
#[derive(Default)]
pub(super) struct Listeners {
    taken: Vec<(SocketAddr, &'static str, Option<Place>)>,
    /// Something that was to be an address was reported.
    faulty: bool,
}

impl Listeners {
    /// The addresses under `key`; an absent key is an empty list.
    pub fn list(&mut self, section: &Section<'_>, key: &'static str) -> Vec<SocketAddr> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let Some(texts) = value.texts("[\"0.0.0.0:8080\"]") else {
            self.faulty = true;
            return Vec::new();
        };
        texts.iter().filter_map(|(text, value)| self.address(text, value, key)).collect()
    }

    /// The address under `key`.
    pub fn one(&mut self, section: &Section<'_>, key: &'static str, default: &str) -> SocketAddr {
        let written = section.get(key).and_then(|value| Some((value.text(&format!("{default:?}"))?, value)));
        if let Some((text, value)) = written
            && let Some(address) = self.address(text, &value, key)
        {
            return address;
        }
        // The defaults are addresses.
        let address = default.parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9464)));
        if section.get(key).is_none() {
            self.check_default(address, section, key);
        }
        address
    }

    pub fn none_listed(&self) -> bool {
        self.taken.is_empty() && !self.faulty
    }

    pub fn address(&mut self, text: &str, value: &Value<'_>, key: &'static str) -> Option<SocketAddr> {
        match parse(text) {
            Ok(address) => {
                if let Some(problem) = self.clash(address, key) {
                    value.problem(problem);
                } else {
                    self.taken.push((address, key, Some(value.at().place())));
                }
                Some(address)
            }
            Err(problem) => {
                self.faulty = true;
                value.problem(problem);
                None
            }
        }
    }

    fn check_default(&mut self, address: SocketAddr, section: &Section<'_>, key: &'static str) {
        if let Some(problem) = self.clash(address, key) {
            let remedy = format!("set `{key}` to another address; without it, it is {address}");
            section.fault(problem.message, remedy);
        }
        self.taken.push((address, key, None));
    }

    fn clash(&self, address: SocketAddr, key: &str) -> Option<Problem> {
        let (other, other_key, place) = self.taken.iter().find(|(other, ..)| overlap(*other, address))?;
        let place = place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = match *other == address {
            true => format!("{address} (`{key}`) is there twice; the first is `{other_key}`{place}"),
            false => {
                format!("{address} (`{key}`) takes the same connections as {other} (`{other_key}`{place})")
            }
        };
        let dual = match [address, *other].iter().any(|a| a.is_ipv6() && a.ip().is_unspecified()) {
            true => "; [::] is every address of the host, IPv4 too",
            false => "",
        };
        Some(Problem::new(message, format!("remove one of the two, or give it another port{dual}")))
    }
}

fn parse(text: &str) -> Result<SocketAddr, Problem> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let remedy = match text.strip_prefix(':').or(text.strip_prefix("*:")).map(str::parse::<u16>) {
            Some(Ok(port)) => format!(
                "for every address of the host write \"[::]:{port}\", for IPv4 only \"0.0.0.0:{port}\""
            ),
            _ => "write an IP address and a port, for example \"0.0.0.0:8080\" or \"[::1]:8080\"".to_owned(),
        };
        return Err(Problem::new(format!("{text:?} is no address to listen on"), remedy));
    };
    if address.port() == 0 {
        let message = format!("{text:?} has port 0, which would be another port at each start");
        return Err(Problem::new(message, "write the port that clients connect to"));
    }
    Ok(address)
}

/// Whether two listeners cannot both be bound. Listeners on `::` are dual-stack.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers =
        |x: std::net::IpAddr, y: std::net::IpAddr| x.is_unspecified() && (x.is_ipv6() || y.is_ipv4());
    a.port() == b.port() && (ip_a == ip_b || covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_follows_what_the_kernel_binds() {
        for (a, b, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
        ] {
            let (x, y) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlap(x, y), overlap(y, x)), (expected, expected), "{a} {b}");
        }
    }
}
