//! The gate's program as it stands on an interface, run on frames that are made up; and its pinned lists, without an agent.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::Command,
    time::Duration,
};

use aya::{
    maps::{
        Array, HashMap, Map, MapData,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{ProgramFd, loaded_programs},
};
use nix::time::{ClockId, clock_gettime};
use weir_agent::HostReply;
use weir_common::{
    gate::{BY_OPERATOR, BY_VERDICT},
    listener::Address,
    names,
    zone::{FLAG_BLOCKED, ZonePolicy},
};

use crate::{World, programs};

const XDP_PASS: u32 = 2;

/// The program that stands on an interface.
pub struct Gate(OwnedFd);

impl Gate {
    /// # Panics
    /// If there is none.
    pub fn on(interface: &str) -> Self {
        let id = program_on(interface).unwrap_or_else(|| panic!("no XDP program on {interface}"));
        let info = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
        let fd: ProgramFd = info.expect("a loaded program").fd().expect("its descriptor");
        Self(fd.as_fd().try_clone_to_owned().expect("a descriptor"))
    }

    /// A program that lets everything pass, to compare with: what a run costs without one.
    pub fn empty() -> Self {
        Self(programs::idle(programs::XDP, XDP_PASS as u8))
    }

    /// True if the frame passes, false if it is dropped.
    pub fn passes(&self, frame: &[u8]) -> bool {
        self.run(frame, 1).0 == XDP_PASS
    }

    /// Runs the program on the frame many times. What one run took.
    pub fn time(&self, frame: &[u8], runs: u32) -> Duration {
        Duration::from_nanos(self.run(frame, runs).1.into())
    }

    /// What the program answered, and the nanoseconds of one run.
    #[expect(unsafe_code, reason = "aya runs only programs that it has loaded itself")]
    fn run(&self, frame: &[u8], repeat: u32) -> (u32, u32) {
        /// `union bpf_attr`, its `test` part, as far as it is used.
        #[repr(C)]
        #[derive(Default)]
        struct Test {
            prog_fd: u32,
            retval: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            ctx: [u64; 3],
        }
        const BPF_PROG_TEST_RUN: libc::c_long = 10;
        let mut test = Test {
            prog_fd: self.0.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..Test::default()
        };
        // SAFETY: the structure is of the stated size and lives during the call, as does the frame, which is only read.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut test, size_of::<Test>()) };
        assert_eq!(result, 0, "a test run: {}", std::io::Error::last_os_error());
        (test.retval, test.duration)
    }
}

/// The kernel's number of the XDP program on an interface.
pub fn program_on(interface: &str) -> Option<u32> {
    let link = shown(interface)?;
    link["xdp"]["prog"]["id"].as_u64().and_then(|id| id.try_into().ok())
}

/// How it is attached: `native` or `generic`.
pub fn mode_on(interface: &str) -> Option<&'static str> {
    match shown(interface)?["xdp"]["mode"].as_u64()? {
        1 => Some("native"),
        2 => Some("generic"),
        _ => None,
    }
}

fn shown(interface: &str) -> Option<serde_json::Value> {
    let output =
        Command::new("ip").args(["-j", "-d", "link", "show", "dev", interface]).output().expect("`ip`");
    serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout).ok()?.pop()
}

/// Packets of a verdict and reason.
pub fn packets(host: &HostReply, verdict: &str, reason: &str) -> u64 {
    let row =
        host.xdp.packets.iter().find(|row| (row.verdict.as_str(), row.reason.as_str()) == (verdict, reason));
    row.map_or(0, |row| row.packets)
}

/// An entry as it lies in memory: end, then length and flags.
type Entry = [u64; 2];

/// A pinned list.
pub struct Pinned(LpmTrie<MapData, Address, Entry>);

impl World {
    /// Makes a listener a zone's own, as the agent does. A reload takes it back.
    pub fn dedicate(&self, listener: SocketAddr, slot: u32, flags: u32) {
        let pinned = MapData::from_pin(self.pins().join(names::MAP_LISTENERS)).expect("a pinned map");
        let mut listeners: HashMap<_, [u32; 5], [u32; 4]> =
            Map::HashMap(pinned).try_into().expect("a hash map");
        let [a, b, c, d] = words(listener.ip());
        let uncapped = [u32::MAX; 2];
        let value = [slot, flags, uncapped[0], uncapped[1]];
        listeners.insert([a, b, c, d, u32::from(listener.port())], value, 0).expect("room");
    }

    /// Blocks the zone of a slot, or lets it go, as the agent does.
    pub fn block(&self, slot: u32, blocked: bool) {
        const WORDS: usize = size_of::<ZonePolicy>() / 8;
        const FLAGS: usize = std::mem::offset_of!(ZonePolicy, flags) / 8;
        let pinned = MapData::from_pin(self.pins().join(names::MAP_ZONE_POLICY)).expect("a pinned map");
        let mut policies: Array<_, [u64; WORDS]> = Map::Array(pinned).try_into().expect("an array");
        let mut policy = policies.get(&slot, 0).expect("a record");
        policy[FLAGS] = if blocked { FLAG_BLOCKED } else { 0 };
        policies.set(slot, policy, 0).expect("a record");
    }

    /// Opens a list that the agent of this world pinned.
    pub fn pinned_list(&self, map: &str) -> Pinned {
        let pinned = MapData::from_pin(self.pins().join(map)).expect("a pinned map");
        Pinned(Map::LpmTrie(pinned).try_into().expect("a list"))
    }
}

impl Pinned {
    /// Puts an address there, as an operator does, that ends after a time by the kernel's clock. An agent that starts takes it out
    /// again, as its ledger does not know it.
    pub fn put(&mut self, address: IpAddr, prefix_len: u32, time: Duration) {
        self.put_by(BY_OPERATOR, address, prefix_len, time);
    }

    /// The same, as a verdict does: it stays.
    pub fn put_by_verdict(&mut self, address: IpAddr, prefix_len: u32, time: Duration) {
        self.put_by(BY_VERDICT, address, prefix_len, time);
    }

    fn put_by(&mut self, by: u32, address: IpAddr, prefix_len: u32, time: Duration) {
        let now: Duration = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock").into();
        let until = (now + time).as_nanos() as u64;
        let entry = [until, u64::from(prefix_len) | u64::from(by) << 32];
        self.0.insert(&Key::new(prefix_len, words(address)), entry, 0).expect("room");
    }

    /// Takes an address out.
    pub fn take(&mut self, address: IpAddr, prefix_len: u32) {
        self.0.remove(&Key::new(prefix_len, words(address))).expect("it was there");
    }

    pub fn len(&self) -> usize {
        self.0.keys().filter_map(Result::ok).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn words(address: IpAddr) -> Address {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    weir_common::listener::words(octets)
}

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// A frame that asks for a connection.
pub fn syn(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    frame(from, to, SYN)
}

/// A TCP segment with these flags, in an Ethernet frame.
pub fn frame(from: IpAddr, to: SocketAddr, flags: u8) -> Vec<u8> {
    let mut tcp = 40_000_u16.to_be_bytes().to_vec();
    tcp.extend(to.port().to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let mut frame = vec![2; 12];
    match (from, to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        families => panic!("two families: {families:?}"),
    }
    frame.extend(tcp);
    frame
}
