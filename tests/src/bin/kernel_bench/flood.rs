//! Connections a second that a client gets while another floods the listener with SYNs over the same cable.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};
use weir_tests::{World, ip, net::this_end};

use crate::{
    Sizes,
    bed::{Bed, Contender, listeners, reset},
    figures::{Report, turns},
};

const PART: &str = "connections a second beside a SYN flood over veth";
const CAP: u32 = 4;
/// The source of a flood that is at its cap.
const GREEDY: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 3);
/// Where the denied flood comes from (RFC 2544).
const DENIED: &str = "198.18.0.0/15";
const FRAMES: u32 = 4096;
const PATIENCE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    None,
    Denied,
    OverCap,
}

pub fn measure(world: &World, sizes: &Sizes, report: &mut Report) {
    let weir = Bed::here(Contender::Weir);
    let (bare, nft) = (Bed::apart(Contender::Nothing), Bed::apart(Contender::Nft));
    // The cap is the flood's source's alone: what is closed counts on for a while there, so it would stop the other client, too.
    nft.nft(&format!(
        "table inet d {{\nset per {{\ntype ipv4_addr\nsize 65535\nflags dynamic\n}}\n\
         chain pre {{\ntype filter hook prerouting priority -300;\nip saddr {DENIED} drop\n}}\n\
         chain in {{\ntype filter hook input priority 0;\n\
         ip saddr {GREEDY} meta l4proto tcp ct state new add @per {{ ip saddr ct count over {CAP} }} drop\n}}\n}}\n"
    ));
    let conf = world
        .conf()
        .http(&listeners())
        .audit("1h")
        .proxy(&format!("source_cap = {CAP}"))
        .xdp("interfaces = [{ name = \"here\", mode = \"native\" }]")
        .xdp(&format!("deny = [\"{DENIED}\"]"));
    let _agent = world.agent(&conf);
    let mut beds = [bare, nft, weir];
    for bed in &mut beds {
        let listener = bed.acceptor();
        let held = bed.at_client(move || {
            ip("address add 10.9.8.3/24 dev there");
            (0..CAP).map(|_| crate::bed::connect_from(GREEDY.into(), &listener)).collect::<Vec<_>>()
        });
        bed.listener.set_nonblocking(true).expect("an option");
        bed.held = held.into_iter().map(|(client, accepted)| (client.into(), accepted)).collect();
    }
    for (flood, what) in [
        (Flood::None, "no flood"),
        (Flood::Denied, "a flood from denied sources"),
        (Flood::OverCap, "a flood from a source at its cap"),
    ] {
        let mut sent = vec![Vec::new(); beds.len()];
        let mut cases: Vec<usize> = (0..beds.len()).collect();
        let values = turns(sizes.rounds, &mut cases, |at| {
            let (connections, packets) = round(&beds[*at], flood, Duration::from_millis(sizes.flood_ms));
            sent[*at].push(packets);
            connections
        });
        for ((bed, values), mut sent) in beds.iter().zip(values).zip(sent) {
            // As `turns` leaves its first out.
            sent.remove(0);
            let name = bed.contender.name();
            report.add(PART, &format!("{what}, {name}"), "connections/s", values);
            if flood != Flood::None {
                report.add(PART, &format!("   SYNs of it, {name}"), "packets/s", sent);
            }
        }
    }
}

/// Connections and packets of the flood, a second.
fn round(bed: &Bed, flood: Flood, time: Duration) -> (f64, f64) {
    let listener = bed.acceptor();
    bed.at_client(move || {
        // To make the frames takes longer than a short round.
        let frames: Vec<Vec<u8>> = match flood {
            Flood::None => Vec::new(),
            _ => (0..FRAMES).map(|n| frame(flood, n)).collect(),
        };
        let over = AtomicBool::new(false);
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                begin.wait();
                send(&frames, &over)
            });
            begin.wait();
            let began = Instant::now();
            let connections = connections(&listener, time);
            over.store(true, Relaxed);
            let packets: u64 = flooding.join().expect("a flood");
            // The last connection may have taken longer.
            let took = began.elapsed().as_secs_f64();
            (connections as f64 / took, packets as f64 / took)
        })
    })
}

fn connections(listener: &TcpListener, time: Duration) -> u32 {
    let (end, mut done) = (Instant::now() + time, 0);
    while Instant::now() < end {
        // Queues may be full of others.
        let Ok(client) = TcpStream::connect_timeout(&this_end(), PATIENCE) else { continue };
        // Its last segment may be lost in a full queue, and then there is nobody to accept.
        while Instant::now() < end {
            if let Ok((accepted, _)) = listener.accept() {
                reset((client, accepted));
                done += 1;
                break;
            }
        }
    }
    done
}

fn send(frames: &[Vec<u8>], over: &AtomicBool) -> u64 {
    let link: LinkAddr = getifaddrs()
        .expect("addresses")
        .filter(|found| found.interface_name == "there")
        .find_map(|found| found.address?.as_link_addr().copied())
        .expect("an interface");
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).expect("a raw socket");
    let mut sent = 0;
    for frame in frames.iter().cycle() {
        if over.load(Relaxed) {
            break;
        }
        // A queue that is full is a flood's own matter.
        sent += u64::from(sendto(raw.as_raw_fd(), frame, &link, MsgFlags::empty()).is_ok());
    }
    sent
}

fn frame(flood: Flood, n: u32) -> Vec<u8> {
    let source = match flood {
        Flood::OverCap => GREEDY,
        _ => Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n * 31),
    };
    let port = 1024 + (n % 60_000) as u16;
    let std::net::SocketAddr::V4(to) = this_end() else { return Vec::new() };
    let builder = PacketBuilder::ethernet2([2; 6], [2; 6])
        .ipv4(source.octets(), to.ip().octets(), 64)
        .tcp(port, to.port(), n, 65_535)
        .syn();
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).expect("a frame");
    bytes
}
