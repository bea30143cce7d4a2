//! A tiny MaxMind database (<https://maxmind.github.io/MaxMind-DB/>): networks of IPv6, or of IPv4 in `::/96`, to countries.

use std::net::{IpAddr, Ipv6Addr};

const RECORD_BITS: u16 = 32;

enum Record {
    None,
    Node(usize),
    Data(usize),
}

/// The database in which each network is of its country.
pub fn database(networks: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut nodes: Vec<[Record; 2]> = vec![[Record::None, Record::None]];
    let mut data = Vec::new();
    for (address, length, country) in networks {
        let (address, length) = match address.parse().expect("an address") {
            IpAddr::V4(v4) => (Ipv6Addr::from(u128::from(u32::from(v4))), length + 96),
            IpAddr::V6(v6) => (v6, *length),
        };
        let offset = data.len();
        map(&mut data, 1);
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, country);

        let bits = u128::from(address);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth + 1 == length {
                nodes[node][side] = Record::Data(offset);
            } else if let Record::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Record::None, Record::None]);
                let next = nodes.len() - 1;
                nodes[node][side] = Record::Node(next);
                node = next;
            }
        }
    }

    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match record {
            Record::None => nodes.len(),
            Record::Node(node) => *node,
            Record::Data(offset) => nodes.len() + 16 + offset,
        };
        file.extend(u32::try_from(value).expect("a small database").to_be_bytes());
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    map(&mut file, 9);
    for (key, value) in [
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
        ("ip_version", 6),
        ("record_size", RECORD_BITS),
    ] {
        text(&mut file, key);
        file.push(5 << 5 | 2);
        file.extend(value.to_be_bytes());
    }
    text(&mut file, "node_count");
    file.push(6 << 5 | 4);
    file.extend(u32::try_from(nodes.len()).expect("a small database").to_be_bytes());
    text(&mut file, "build_epoch");
    file.extend([1, 2, 1]);
    text(&mut file, "database_type");
    text(&mut file, "Test-Country");
    text(&mut file, "languages");
    file.extend([0, 4]);
    text(&mut file, "description");
    map(&mut file, 0);
    file
}

fn map(out: &mut Vec<u8>, entries: u8) {
    out.push(7 << 5 | entries);
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29, "a longer text has another head");
    out.push(2 << 5 | text.len() as u8);
    out.extend(text.as_bytes());
}
