//! The packet parser against another one, over any bytes: what the fuzz target and an ordinary test share.

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice};
use weir_common::{
    listener::{Address, mapped, words},
    packet::{MAX_TAGS, Packet, Syn, parse},
};

/// The other parser is stricter (lengths, order of extension headers). What it takes for a SYN, ours takes for the same SYN,
/// or says that it has not read so far; what it takes for another segment, ours takes for none.
pub fn agree(frame: &[u8]) {
    let ours = parse(&frame);
    let Ok(theirs) = SlicedPacket::from_ethernet(frame) else { return };
    if theirs.link_exts.len() > MAX_TAGS
        || theirs.link_exts.iter().any(|ext| matches!(ext, LinkExtSlice::Macsec(_)))
    {
        return;
    }
    let Some(TransportSlice::Tcp(segment)) = &theirs.transport else { return };
    let Some((source, destination)) = theirs.net.as_ref().and_then(ends) else { return };
    match ours {
        Packet::Unread(_) => {}
        Packet::Syn(syn) => {
            assert!(asks(segment), "a segment that asks for nothing is taken for a SYN: {frame:02x?}");
            let port = segment.destination_port().into();
            assert_eq!(syn, Syn { source, destination, port }, "{frame:02x?}");
        }
        // Nobody listens on port 0.
        Packet::Other => {
            assert!(!asks(segment) || segment.destination_port() == 0, "a SYN is not seen: {frame:02x?}")
        }
    }
}

fn asks(segment: &TcpSlice<'_>) -> bool {
    segment.syn() && !segment.ack() && !segment.fin() && !segment.rst()
}

fn ends(net: &NetSlice<'_>) -> Option<(Address, Address)> {
    match net {
        NetSlice::Ipv4(ip) => {
            let [source, destination] = [ip.header().source(), ip.header().destination()];
            Some((mapped(u32::from_ne_bytes(source)), mapped(u32::from_ne_bytes(destination))))
        }
        NetSlice::Ipv6(ip) => Some((words(ip.header().source()), words(ip.header().destination()))),
        NetSlice::Arp(_) => None,
    }
}
