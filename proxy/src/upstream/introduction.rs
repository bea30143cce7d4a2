//! PROXY protocol version 2 towards origins: the client and the address that it came to, before anything else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ppp::v2::{Builder, Command, Protocol, Version};

/// Who is connected to whom, as the origin is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduction {
    client: SocketAddr,
    /// Our end of the client's connection.
    local: SocketAddr,
}

impl Introduction {
    pub fn new(client: SocketAddr, local: SocketAddr) -> Self {
        Self { client, local }
    }

    /// A connection of nobody's.
    #[cfg(test)]
    pub fn local() -> Self {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self::new(nobody, nobody)
    }

    /// The bytes of the header.
    pub fn header(&self) -> Vec<u8> {
        let (client, local) = same_family(self.client, self.local);
        let addresses =
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (client, local));
        // Two addresses of one family always make a header.
        addresses.build().unwrap_or_default()
    }
}

/// A header has one family for both: IPv4 if both are, else IPv6, where an IPv4 address is a mapped one.
fn same_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = [client, local].map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    if plain.iter().all(SocketAddr::is_ipv4) {
        return plain.into();
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(Ipv4Addr::to_ipv6_mapped(&ip).into(), address.port()),
        IpAddr::V6(_) => address,
    };
    plain.map(mapped).into()
}

#[cfg(test)]
mod tests {
    use ppp::v2::{Addresses, Header};

    use super::*;

    fn written(client: &str, local: &str) -> (SocketAddr, SocketAddr) {
        let [client, local] = [client, local].map(|text| text.parse().expect("an address"));
        let bytes = Introduction::new(client, local).header();
        let header = Header::try_from(bytes.as_slice()).expect("a header");
        assert_eq!(
            (header.command, header.protocol, header.len()),
            (Command::Proxy, Protocol::Stream, bytes.len())
        );
        match header.addresses {
            Addresses::IPv4(a) => {
                ((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into())
            }
            Addresses::IPv6(a) => {
                ((a.source_address, a.source_port).into(), (a.destination_address, a.destination_port).into())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_addresses_are_of_one_family() {
        for (client, local, as_client, as_local) in [
            ("192.0.2.1:5", "192.0.2.2:80", "192.0.2.1:5", "192.0.2.2:80"),
            ("[::ffff:192.0.2.1]:5", "[::ffff:192.0.2.2]:80", "192.0.2.1:5", "192.0.2.2:80"),
            ("[2001:db8::1]:5", "[2001:db8::2]:80", "[2001:db8::1]:5", "[2001:db8::2]:80"),
            ("192.0.2.1:5", "[2001:db8::2]:80", "[::ffff:192.0.2.1]:5", "[2001:db8::2]:80"),
        ] {
            let expected = (as_client.parse().expect("an address"), as_local.parse().expect("an address"));
            assert_eq!(written(client, local), expected, "{client} {local}");
        }
    }
}
