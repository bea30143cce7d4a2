//! PROXY protocol in front of a connection, version 1 or 2, from peers that `proxy_protocol_from` names and from nobody else.
//!
//! Such a peer's connection has to begin with a header: without one it is closed, as anything else would let whoever reaches
//! that peer say who he is. Exactly the header is read, so what is behind it is TLS or HTTP as ever. `LOCAL`, `UNKNOWN`, and
//! addresses that are no IP addresses leave the peer's own address in force. TLVs are skipped.
//!
//! The kernel's books and programs know sockets, and with them the peer's address.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;

use std::{io, net::SocketAddr};

use ipnet::IpNet;
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest header of version 1, its line end included.
const MAX_V1: usize = 107;
/// What version 2 begins with: signature, version and command, family and protocol, length.
const FIXED_V2: usize = 16;
/// The longest header of version 2 that is taken, of 65,551 possible bytes. Load balancers send a few hundred.
pub(crate) const MAX_V2: usize = 4096;
/// Bytes that every header has, whatever its version: a shorter read of them is never too long.
const FIRST: usize = 12;

/// The ends of a connection that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// What bytes are the beginning of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// As many bytes more belong to the header, at least.
    More(usize),
    /// A header, of as many bytes as there are; it may leave the ends as they are.
    Header(Option<Ends>),
    Malformed,
}

/// No header where one has to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("it does not begin with a PROXY protocol header")]
    Malformed,
    #[error("it ended within the PROXY protocol header: {0}")]
    Io(#[from] io::Error),
}

/// Whether connections of `peer` begin with a header.
pub(crate) fn is_from(peer: SocketAddr, networks: &[IpNet]) -> bool {
    let peer = peer.ip().to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Reads the header and nothing behind it.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Ends>, HeaderError> {
    let mut header = Vec::with_capacity(MAX_V1);
    loop {
        match parse(&header) {
            Parsed::More(more) => {
                let begin = header.len();
                header.resize(begin + more, 0);
                stream.read_exact(&mut header[begin..]).await?;
            }
            Parsed::Header(ends) => return Ok(ends),
            Parsed::Malformed => return Err(HeaderError::Malformed),
        }
    }
}

/// Reads bytes as a header. They are never more than it if each [`Parsed::More`] was followed exactly.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let begins = |with: &[u8]| bytes[..bytes.len().min(with.len())] == with[..bytes.len().min(with.len())];
    let text = begins(v1::PROTOCOL_PREFIX.as_bytes());
    if !text && !begins(v2::PROTOCOL_PREFIX) {
        return Parsed::Malformed;
    }
    match bytes.len() {
        short if short < FIRST => Parsed::More(FIRST - short),
        _ if text => parse_v1(bytes),
        _ => parse_v2(bytes),
    }
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    if bytes.last() != Some(&b'\n') {
        return if bytes.len() < MAX_V1 { Parsed::More(1) } else { Parsed::Malformed };
    }
    // The parser looks at what is before the first CR, which has to be all but the line end.
    let Ok(header) = v1::Header::try_from(bytes) else { return Parsed::Malformed };
    if header.header.len() != bytes.len() {
        return Parsed::Malformed;
    }
    Parsed::Header(match header.addresses {
        v1::Addresses::Tcp4(found) => Some(Ends {
            client: (found.source_address, found.source_port).into(),
            local: (found.destination_address, found.destination_port).into(),
        }),
        v1::Addresses::Tcp6(found) => Some(Ends {
            client: (found.source_address, found.source_port).into(),
            local: (found.destination_address, found.destination_port).into(),
        }),
        v1::Addresses::Unknown => None,
    })
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(&[high, low]) = bytes.get(FIXED_V2 - 2..FIXED_V2) else {
        return Parsed::More(FIXED_V2 - bytes.len());
    };
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Parsed::Malformed;
    }
    if bytes.len() < length {
        return Parsed::More(length - bytes.len());
    }
    let Ok(header) = v2::Header::try_from(bytes) else { return Parsed::Malformed };
    if header.len() != bytes.len() {
        return Parsed::Malformed;
    }
    let ends = match header.addresses {
        v2::Addresses::IPv4(found) => Some(Ends {
            client: (found.source_address, found.source_port).into(),
            local: (found.destination_address, found.destination_port).into(),
        }),
        v2::Addresses::IPv6(found) => Some(Ends {
            client: (found.source_address, found.source_port).into(),
            local: (found.destination_address, found.destination_port).into(),
        }),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    match (header.command, header.protocol) {
        (v2::Command::Local, _) => Parsed::Header(None),
        // This came by TCP.
        (v2::Command::Proxy, v2::Protocol::Datagram) => Parsed::Malformed,
        (v2::Command::Proxy, _) => Parsed::Header(ends),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{hostile::fed, *};

    fn ends(client: &str, local: &str) -> Parsed {
        let [client, local] = [client, local].map(|text| text.parse().expect("an address"));
        Parsed::Header(Some(Ends { client, local }))
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a length").to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, payload].concat()
    }

    #[test]
    fn version_1_is_a_line() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n", ends("192.0.2.1:5000", "192.0.2.2:443")),
            ("PROXY TCP6 2001:db8::1 ::1 5000 443\r\n", ends("[2001:db8::1]:5000", "[::1]:443")),
            ("PROXY UNKNOWN\r\n", Parsed::Header(None)),
            ("PROXY UNKNOWN 1.1.1.1 whatever\r\n", Parsed::Header(None)),
        ] {
            assert_eq!(
                fed(format!("{line}GET / HTTP/1.1\r\n\r\n").as_bytes()),
                (expected, line.len()),
                "{line}"
            );
        }
    }

    #[test]
    fn version_2_is_binary_and_its_tlvs_are_skipped() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 187];
        let with_tlvs = [&v4[..], &[4, 0, 3, 0, 0, 0], &[0x20, 0xff]].concat();
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
        let unix = [0; 216];
        for (header, expected) in [
            (v2(0x21, 0x11, &v4), ends("192.0.2.1:5000", "192.0.2.2:443")),
            (v2(0x21, 0x11, &with_tlvs), ends("192.0.2.1:5000", "192.0.2.2:443")),
            (v2(0x21, 0x21, &v6), ends("[::1]:3", "[::2]:4")),
            (v2(0x20, 0x11, &v4), Parsed::Header(None)),
            (v2(0x20, 0x00, &[]), Parsed::Header(None)),
            (v2(0x21, 0x00, &[1, 2, 3]), Parsed::Header(None)),
            (v2(0x21, 0x31, &unix), Parsed::Header(None)),
        ] {
            let stream = [&header[..], b"\x16\x03\x01"].concat();
            assert_eq!(fed(&stream), (expected, header.len()), "{header:?}");
        }
    }

    #[test]
    fn what_is_no_header_is_malformed() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 1, 187];
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
        for stream in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 05 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.300 192.0.2.2 5000 443\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 192.0.2.2 5000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443 x\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 192.0.2.2 5000 443\r\n".to_vec(),
            b"proxy UNKNOWN\r\n".to_vec(),
            long.into_bytes(),
            v2(0x11, 0x11, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x21, 0x12, &v4),
            v2(0x21, 0x41, &v4),
            v2(0x21, 0x11, &v4[..11]),
            v2(0x21, 0x21, &v4),
            v2(0x21, 0x11, &[0; MAX_V2]),
        ] {
            assert_eq!(fed(&stream).0, Parsed::Malformed, "{}", String::from_utf8_lossy(&stream));
        }
    }

    proptest! {
        /// Whatever comes, the parser ends, takes no more than its bound, and says the same however the bytes come in.
        #[test]
        fn hostile_bytes_neither_hang_nor_run_over(
            prefix in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.1.1.1 ", v2::PROTOCOL_PREFIX]),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let stream = [prefix, &noise].concat();
            hostile::proxy_protocol(&stream);
        }

        /// What our own side writes towards origins is what this side reads.
        #[test]
        fn what_is_sent_is_understood(client: std::net::SocketAddrV6, local: std::net::SocketAddrV4) {
            let client = SocketAddr::new((*client.ip()).into(), client.port());
            let header = crate::upstream::Introduction::new(client, local.into()).header();
            let Parsed::Header(Some(found)) = parse(&header) else { panic!("{header:?}") };
            prop_assert_eq!(found.client.ip().to_canonical(), client.ip().to_canonical());
            prop_assert_eq!(found.local.ip().to_canonical(), SocketAddr::from(local).ip().to_canonical());
            prop_assert_eq!((found.client.port(), found.local.port()), (client.port(), local.port()));
        }
    }
}
