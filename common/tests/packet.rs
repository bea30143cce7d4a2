//! The packet parser against packets that another library builds, against packets built by hand, and against noise.

mod against_etherparse;

use std::{cell::RefCell, net::Ipv6Addr};

use etherparse::{PacketBuilder, VlanId};
use proptest::{collection::vec, prelude::*};
use weir_common::{
    listener::{Address, mapped, words},
    packet::{Frame, MAX_EXTENSIONS, NO_PORT, Packet, Syn, parse},
};

const SOURCE_4: [u8; 4] = [203, 0, 113, 7];
const HERE_4: [u8; 4] = [192, 0, 2, 1];
const SOURCE_6: &str = "2001:db8::7";
const HERE_6: &str = "2001:db8:1::1";
const PORT: u16 = 8080;

#[test]
fn named_packets_are_what_their_name_says() {
    let syn_4 = frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN)));
    let first_fragment = ipv4(&[], MORE, &tcp(SYN));
    let tiny = ipv4(&[], MORE, &tcp(0)[..8]);
    let later_fragment = ipv4(&[], 1, &tcp(SYN));
    let with_options = ipv4(&[1; 40], 0, &tcp(SYN));
    let udp = with(ipv4(&[], 0, &tcp(SYN)), 9, 17);
    for (name, packet, expected) in [
        ("SYN", syn_4.clone(), to_4()),
        ("SYN and ECN", frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN | 0xc0))), to_4()),
        ("SYN and FIN", frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN | 1))), Packet::Other),
        ("SYN and RST", frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN | 4))), Packet::Other),
        ("SYN and ACK", frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN | ACK))), Packet::Other),
        ("ACK", frame(&[], 0x0800, ipv4(&[], 0, &tcp(ACK))), Packet::Other),
        ("no flags", frame(&[], 0x0800, ipv4(&[], 0, &tcp(0))), Packet::Other),
        ("IPv4 options", frame(&[], 0x0800, with_options), to_4()),
        ("one tag", frame(&[0x8100], 0x0800, ipv4(&[], 0, &tcp(SYN))), to_4()),
        ("two tags", frame(&[0x88a8, 0x8100], 0x0800, ipv4(&[4; 8], 0, &tcp(SYN))), to_4()),
        ("two tags, IPv6", frame(&[0x8100, 0x8100], 0x86dd, ipv6(6, &tcp(SYN))), to_6()),
        ("three tags", frame(&[0x8100; 3], 0x0800, ipv4(&[], 0, &tcp(SYN))), Packet::Other),
        ("first fragment", frame(&[], 0x0800, first_fragment), to_4()),
        ("first fragment without flags", frame(&[], 0x0800, tiny.clone()), to_4()),
        ("the same, padded", padded(frame(&[], 0x0800, tiny), 60), to_4()),
        ("later fragment", frame(&[], 0x0800, later_fragment), Packet::Other),
        ("last fragment", frame(&[], 0x0800, ipv4(&[], 185, &tcp(SYN))), Packet::Other),
        ("cut before its flags", frame(&[], 0x0800, ipv4(&[], 0, &tcp(SYN)[..13])), Packet::Other),
        ("UDP", frame(&[], 0x0800, udp), Packet::Other),
        ("IPv4 of version 5", frame(&[], 0x0800, with(ipv4(&[], 0, &tcp(SYN)), 0, 0x55)), Packet::Other),
        (
            "IPv4 header of 16 bytes",
            frame(&[], 0x0800, with(ipv4(&[], 0, &tcp(SYN)), 0, 0x44)),
            Packet::Other,
        ),
        ("ARP", frame(&[], 0x0806, vec![0; 46]), Packet::Other),
        ("802.3 length", frame(&[], 46, vec![0; 46]), Packet::Other),
        ("IPv6", frame(&[], 0x86dd, ipv6(6, &tcp(SYN))), to_6()),
        ("IPv6, ACK", frame(&[], 0x86dd, ipv6(6, &tcp(ACK))), Packet::Other),
        ("IPv6, ICMP", frame(&[], 0x86dd, ipv6(58, &tcp(SYN))), Packet::Other),
        ("IPv6, ESP", frame(&[], 0x86dd, ipv6(50, &tcp(SYN))), Packet::Other),
        ("nothing", Vec::new(), Packet::Other),
        ("a byte", vec![0xff], Packet::Other),
    ] {
        assert_eq!(parse(&&packet[..]), expected, "{name}: {packet:02x?}");
    }
    assert_eq!(parse(&&syn_4[..14 + 20 + 14]), to_4(), "nothing behind the flags is needed");
}

#[test]
fn extension_headers_are_looked_behind_up_to_a_bound() {
    let options = |next: u8, kind: u8| (kind, vec![next, 0, 1, 4, 0, 0, 0, 0]);
    let chain = |count: usize| {
        // Hop-by-hop options first, destination options after it.
        let kinds: Vec<u8> = (0..count).map(|n| if n == 0 { 0 } else { 60 }).collect();
        let mut payload = Vec::new();
        for n in 0..count {
            payload.extend(options(*kinds.get(n + 1).unwrap_or(&6), kinds[n]).1);
        }
        payload.extend(tcp(SYN));
        frame(&[], 0x86dd, ipv6(*kinds.first().unwrap_or(&6), &payload))
    };
    for count in 0..=MAX_EXTENSIONS {
        assert_eq!(parse(&&chain(count)[..]), to_6(), "{count} extension headers");
    }
    match parse(&&chain(MAX_EXTENSIONS + 1)[..]) {
        Packet::Unread(unread) => {
            assert_eq!(unread.port, NO_PORT);
            assert_eq!(
                Packet::Syn(Syn { port: PORT.into(), ..unread }),
                to_6(),
                "one more has its addresses"
            );
        }
        other => panic!("{other:?}"),
    }

    let extended = |kind: u8, header: &[u8], segment: &[u8]| {
        let packet = frame(&[], 0x86dd, ipv6(kind, &[header, segment].concat()));
        parse(&&packet[..])
    };
    assert_eq!(extended(51, &[6, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], &tcp(SYN)), to_6(), "authentication");
    assert_eq!(extended(43, &[6, 2, 4, 0].into_iter().chain([0; 20]).collect::<Vec<_>>(), &tcp(SYN)), to_6());
    assert_eq!(extended(44, &[6, 0, 0, 0, 1, 2, 3, 4], &tcp(SYN)), to_6(), "a fragment that is whole");
    assert_eq!(extended(44, &[6, 0, 0, 1, 1, 2, 3, 4], &tcp(SYN)), to_6(), "first fragment");
    assert_eq!(extended(44, &[6, 0, 0, 1, 1, 2, 3, 4], &tcp(0)[..8]), to_6(), "first, without flags");
    assert_eq!(extended(44, &[6, 0, 0, 0, 1, 2, 3, 4], &tcp(0)[..8]), Packet::Other, "cut");
    assert_eq!(extended(44, &[6, 0, 0, 8, 1, 2, 3, 4], &tcp(SYN)), Packet::Other, "last fragment");
    assert_eq!(extended(44, &[6, 0, 5, 1, 1, 2, 3, 4], &tcp(SYN)), Packet::Other, "one in between");
    assert_eq!(extended(60, &[59, 0, 1, 4, 0, 0, 0, 0], &tcp(SYN)), Packet::Other, "nothing follows");
    assert_eq!(extended(60, &[6, 255], &[]), Packet::Other, "cut in the extension header");
}

proptest! {
    #[test]
    fn what_was_built_is_understood(
        tags in 0..=2_usize,
        v4: bool,
        source: u128,
        destination: u128,
        port: u16,
        options in vec(any::<u8>(), 0..=10).prop_map(|words| words.into_iter().flat_map(|w| [w; 4]).collect::<Vec<_>>()),
        syn: bool,
        ack: bool,
        payload in vec(any::<u8>(), 0..100),
    ) {
        let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
        let (source_4, destination_4) = (last_4(source), last_4(destination));
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let id = VlanId::try_new(7).unwrap();
        macro_rules! built {
            ($link:expr) => {{
                let ip = if v4 {
                    let mut header = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, source_4, destination_4).unwrap();
                    header.options = (&options[..]).try_into().unwrap();
                    $link.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
                } else {
                    $link.ipv6(source.octets(), destination.octets(), 64)
                };
                let mut tcp = ip.tcp(4711, port, 1, 1000);
                if syn { tcp = tcp.syn(); }
                if ack { tcp = tcp.ack(1); }
                let mut bytes = Vec::new();
                tcp.write(&mut bytes, &payload).unwrap();
                bytes
            }};
        }
        let bytes = match tags {
            0 => built!(link),
            1 => built!(link.single_vlan(id)),
            _ => built!(link.double_vlan(id, id)),
        };
        let expected = if syn && !ack {
            let is_v4 = v4;
            let address = |v6: Ipv6Addr, v4: [u8; 4]| -> Address {
                if is_v4 { mapped(u32::from_ne_bytes(v4)) } else { words(v6.octets()) }
            };
            Packet::Syn(Syn {
                source: address(source, source_4),
                destination: address(destination, destination_4),
                port: port.into(),
            })
        } else {
            Packet::Other
        };
        prop_assert_eq!(parse(&&bytes[..]), expected);
    }

    #[test]
    fn no_bytes_lead_astray(bytes in vec(any::<u8>(), 0..200), ethertype in 0..6_usize, first: u8, next: u8) {
        // Noise alone hardly ever gets beyond the first field.
        let mut bytes = bytes;
        let types: [u16; 6] = [0x0800, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x0806];
        for (at, value) in [(12, types[ethertype] >> 8), (13, types[ethertype] & 0xff), (14, first.into()),
            (20, [6, 0, 60, 44, 51, 43, 135, next][usize::from(next % 8)].into()), (23, 6)]
        {
            if let Some(byte) = bytes.get_mut(at) { *byte = value as u8; }
        }
        let watched = Watched::new(&bytes);
        let whole = parse(&watched);
        prop_assert!(watched.fixed.borrow().iter().all(|(at, len)| at + len <= CONSTANT_PLACES_END));
        // Less of it is the same, or nothing.
        for len in 0..bytes.len() {
            let less = parse(&&bytes[..len]);
            prop_assert!(less == whole || less == Packet::Other, "{} bytes: {:?}, all: {:?}", len, less, whole);
        }
    }
}

/// The seeds of the fuzz target, what it has found, and what one changed byte makes of them.
#[test]
fn another_parser_agrees_about_every_seed_and_what_is_near_it() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/packet");
    let seeds: Vec<_> =
        std::fs::read_dir(folder).expect("seeds").map(|file| file.expect("a file").path()).collect();
    assert!(!seeds.is_empty());
    for seed in seeds {
        let frame = std::fs::read(&seed).expect("a seed");
        against_etherparse::agree(&frame);
        for at in 0..frame.len() {
            against_etherparse::agree(&frame[..at]);
            for value in 0..=255 {
                against_etherparse::agree(&with(frame.clone(), at, value));
            }
        }
    }
}

/// The last byte that is read at a constant place: the flags of TCP over plain IPv6.
const CONSTANT_PLACES_END: usize = 14 + 40 + 14;

/// A frame that notes what is read, and checks that what it gives out is what is there.
struct Watched<'a> {
    bytes: &'a [u8],
    fixed: RefCell<Vec<(usize, usize)>>,
}

impl<'a> Watched<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, fixed: RefCell::default() }
    }
}

impl Frame for Watched<'_> {
    fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.fixed.borrow_mut().push((at, N));
        self.bytes.fixed(at)
    }

    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.at(at)
    }
}

const SYN: u8 = 2;
const ACK: u8 = 16;
const MORE: u16 = 0x2000;

fn to_4() -> Packet {
    let [source, destination] = [SOURCE_4, HERE_4].map(|ip| mapped(u32::from_ne_bytes(ip)));
    Packet::Syn(Syn { source, destination, port: PORT.into() })
}

fn to_6() -> Packet {
    let [source, destination] =
        [SOURCE_6, HERE_6].map(|ip| words(ip.parse::<Ipv6Addr>().expect("an address").octets()));
    Packet::Syn(Syn { source, destination, port: PORT.into() })
}

fn frame(tags: &[u16], ethertype: u16, payload: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0, 7]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn ipv4(options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x40 | (5 + options.len() / 4) as u8, 0];
    bytes.extend(((20 + options.len() + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, 6, 0, 0]);
    bytes.extend(SOURCE_4);
    bytes.extend(HERE_4);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(SOURCE_6.parse::<Ipv6Addr>().expect("an address").octets());
    bytes.extend(HERE_6.parse::<Ipv6Addr>().expect("an address").octets());
    bytes.extend(payload);
    bytes
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut bytes = 4711_u16.to_be_bytes().to_vec();
    bytes.extend(PORT.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

fn padded(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.resize(len.max(bytes.len()), 0);
    bytes
}

fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

fn last_4(ip: Ipv6Addr) -> [u8; 4] {
    ip.octets()[12..].try_into().expect("an address")
}
