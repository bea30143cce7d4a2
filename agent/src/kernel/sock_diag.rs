//! The kernel's own list of TCP sockets, with weir's tag of each: `NETLINK_SOCK_DIAG` with
//! `INET_DIAG_REQ_SK_BPF_STORAGES` (Linux 5.10; needs `CAP_BPF` and `CAP_NET_ADMIN`).
//!
//! The list is not a snapshot: the kernel walks its hash table while sockets come and go. Time-wait minisockets (which the
//! kernel lists by the state that they stand for) and pending requests are not sockets and are left out; a socket that has
//! no port yet is in no table and cannot be seen.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::maps::MapData;
use weir_common::{
    listener::{ListenerKey, mapped},
    socket::SocketTag,
    source::SourceKey,
};

use super::sock_destroy::SocketId;

const NETLINK_SOCK_DIAG: libc::c_int = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
const NLA_TYPE_MASK: u16 = 0x3fff;

pub(super) const NLMSG_HEADER: usize = 16;
/// `struct inet_diag_msg`.
const DIAG_MESSAGE: usize = 72;
/// `struct inet_diag_req_v2`.
const DIAG_REQUEST: usize = 56;
/// `struct inet_diag_sockid`, which ends both.
const SOCKID: usize = 48;

/// All states but `TIME_WAIT` (6), `CLOSE` (7), `LISTEN` (10) and `NEW_SYN_RECV` (12).
const STATES: u32 = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 8) | (1 << 9) | (1 << 11);

/// One socket of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSeen {
    pub local: ListenerKey,
    /// TCP state, as `include/net/tcp_states.h` numbers them.
    pub state: u8,
    pub tag: Option<SocketTag>,
    pub id: SocketId,
    /// Only if it was asked for.
    pub holds: Option<SocketHolds>,
}

/// What a socket holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketHolds {
    /// Of its buffers: received, queued to be sent, allocated ahead, options, backlog.
    pub memory_bytes: u64,
    /// Received, and not read yet.
    pub receive_queue_bytes: u64,
    /// Written, and not acknowledged yet.
    pub send_queue_bytes: u64,
    pub retransmits: u64,
    /// Smoothed round-trip time; 0 if none was measured.
    pub rtt_us: u32,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Since data was last sent, and last received; since its birth if none was.
    pub sent_ago_ms: u32,
    pub received_ago_ms: u32,
}

/// Calls `each` with every TCP socket of the calling thread's network namespace.
pub fn list_sockets(tags: &MapData, mut each: impl FnMut(SocketSeen)) -> io::Result<()> {
    list(tags, 0, |body| socket_seen(body).into_iter().for_each(&mut each))
}

/// The same, with what each socket holds. The kernel takes each socket's lock for it.
pub fn list_holdings(tags: &MapData, mut each: impl FnMut(SocketSeen)) -> io::Result<()> {
    let bit = |extension: u16| 1 << (extension - 1);
    let extensions = bit(INET_DIAG_INFO) | bit(INET_DIAG_SKMEMINFO);
    list(tags, extensions, |body| {
        if let Some(seen) = socket_seen(body) {
            each(SocketSeen { holds: Some(holds(body)), ..seen });
        }
    })
}

/// The same, with the storage that a map of any version keeps with each socket; those without are left out.
pub(super) fn list_storages(map: &MapData, mut each: impl FnMut(SocketId, &[u8])) -> io::Result<()> {
    list(map, 0, |body| {
        if let (Some(seen), Some(storage)) = (socket_seen(body), storage(body)) {
            each(seen.id, storage);
        }
    })
}

fn list(map: &MapData, extensions: u8, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let socket = open()?;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        send(&socket, &request(family, extensions, map.fd().as_fd().as_raw_fd() as u32))?;
        receive(&socket, &mut each)?;
    }
    Ok(())
}

pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor that nobody else has.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn request(family: u8, extensions: u8, map_fd: u32) -> Vec<u8> {
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    let attributes = attribute(
        INET_DIAG_REQ_SK_BPF_STORAGES,
        &attribute(SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &map_fd.to_ne_bytes()),
    );
    message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, [family, extensions], STATES, &attributes)
}

/// A request without a socket's id.
fn message(kind: u16, flags: u16, [family, extensions]: [u8; 2], states: u32, attributes: &[u8]) -> Vec<u8> {
    let len = NLMSG_HEADER + DIAG_REQUEST + attributes.len();
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, libc::IPPROTO_TCP as u8, extensions, 0]);
    message.extend(states.to_ne_bytes());
    message.extend([0; SOCKID]);
    message.extend(attributes);
    message
}

/// `struct nlattr` with its content; all of ours are multiples of 4 bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + content.len());
    bytes.extend(((4 + content.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes
}

pub(super) fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open and the buffer live.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &OwnedFd, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        // SAFETY: the descriptor is open, the buffer live and of the stated length.
        let received = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        let bytes = buffer.get(..received as usize).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a socket list message was cut short")
        })?;
        if messages(bytes, each)? {
            return Ok(());
        }
    }
}

/// Reads the messages of one datagram. True if the list is at its end.
fn messages(mut bytes: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    while bytes.len() >= NLMSG_HEADER {
        let len = u32_at(bytes, 0) as usize;
        let kind = u16_at(bytes, 4);
        if len < NLMSG_HEADER || len > bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a socket list message has a wrong length",
            ));
        }
        let body = &bytes[NLMSG_HEADER..len];
        match kind {
            // Both carry an errno, 0 where all is well.
            NLMSG_ERROR | NLMSG_DONE => {
                let errno = if body.len() >= 4 { u32_at(body, 0) as i32 } else { 0 };
                if errno < 0 {
                    return Err(io::Error::from_raw_os_error(-errno));
                }
                return Ok(true);
            }
            SOCK_DIAG_BY_FAMILY if body.len() >= DIAG_MESSAGE => each(body),
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// `None` for what is no socket any more.
fn socket_seen(body: &[u8]) -> Option<SocketSeen> {
    /// What `inet_twsk_diag_fill` (`net/ipv4/inet_diag.c`) says the running timer is.
    const TIME_WAIT_TIMER: u8 = 3;
    // family, state, timer, retrans, then `struct inet_diag_sockid`: ports in network byte order, addresses.
    let (family, state, timer) = (body[0], body[1], body[2]);
    if timer == TIME_WAIT_TIMER {
        return None;
    }
    let address = if i32::from(family) == libc::AF_INET {
        mapped(u32_at(body, 8))
    } else {
        [u32_at(body, 8), u32_at(body, 12), u32_at(body, 16), u32_at(body, 20)]
    };
    let local = ListenerKey { address, port: u32::from(u16::from_be_bytes([body[4], body[5]])) };
    let tag = storage(body).filter(|value| value.len() >= size_of::<SocketTag>()).map(read_tag);
    Some(SocketSeen { local, state, tag, id: SocketId::of_message(body)?, holds: None })
}

/// What the map keeps with the socket.
fn storage(body: &[u8]) -> Option<&[u8]> {
    attributes(&body[DIAG_MESSAGE..])
        .filter(|(kind, _)| *kind == INET_DIAG_SK_BPF_STORAGES)
        .flat_map(|(_, storages)| attributes(storages))
        .filter(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE)
        .flat_map(|(_, storage)| attributes(storage))
        .find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE_MAP_VALUE)
        .map(|(_, value)| value)
}

/// Numbers that an older kernel does not tell are 0.
fn holds(body: &[u8]) -> SocketHolds {
    // `struct inet_diag_msg`.
    let mut holds = SocketHolds {
        receive_queue_bytes: u32_at(body, 56).into(),
        send_queue_bytes: u32_at(body, 60).into(),
        ..SocketHolds::default()
    };
    for (kind, content) in attributes(&body[DIAG_MESSAGE..]) {
        let word = |at: usize| if content.len() >= at + 4 { u32_at(content, at) } else { 0 };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        match kind {
            // `enum` of `SK_MEMINFO_*`: RMEM_ALLOC, FWD_ALLOC, WMEM_QUEUED, OPTMEM, BACKLOG.
            INET_DIAG_SKMEMINFO => {
                holds.memory_bytes = [0, 4, 5, 6, 7].into_iter().map(|at| u64::from(word(4 * at))).sum();
            }
            // `struct tcp_info`: last_data_sent, last_data_recv, rtt, total_retrans, bytes_acked, bytes_received.
            INET_DIAG_INFO => {
                holds.sent_ago_ms = word(44);
                holds.received_ago_ms = word(52);
                holds.rtt_us = word(68);
                holds.retransmits = word(100).into();
                holds.tx_bytes = long(120);
                holds.rx_bytes = long(128);
            }
            _ => {}
        }
    }
    holds
}

/// A tag as it lies in socket storage. As long as a tag, by the caller's check.
fn read_tag(value: &[u8]) -> SocketTag {
    let word = |at| u32_at(value, at);
    let long = |at| u64::from_ne_bytes(std::array::from_fn(|i| value[at + i]));
    let source = offset_of!(SocketTag, source);
    SocketTag {
        slot: word(offset_of!(SocketTag, slot)),
        flags: word(offset_of!(SocketTag, flags)),
        source: SourceKey {
            address: std::array::from_fn(|i| word(source + offset_of!(SourceKey, address) + 4 * i)),
            prefix_len: word(source + offset_of!(SourceKey, prefix_len)),
        },
        source_ordinal: word(offset_of!(SocketTag, source_ordinal)),
        rx_counted: long(offset_of!(SocketTag, rx_counted)),
        tx_counted: long(offset_of!(SocketTag, tx_counted)),
        born_boot_ns: long(offset_of!(SocketTag, born_boot_ns)),
    }
}

/// The attributes of a byte string: type without flags, content. A faulty length ends them.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        if bytes.len() < 4 {
            return None;
        }
        let len = usize::from(u16_at(bytes, 0));
        let kind = u16_at(bytes, 2) & NLA_TYPE_MASK;
        let content = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diag_body(storage: &[u8]) -> Vec<u8> {
        let mut body = vec![0; DIAG_MESSAGE];
        body[0] = libc::AF_INET as u8;
        body[4..6].copy_from_slice(&8080_u16.to_be_bytes());
        body[8..12].copy_from_slice(&[192, 0, 2, 7]);
        let value = attribute(SK_DIAG_BPF_STORAGE_MAP_VALUE, storage);
        body.extend(attribute(
            INET_DIAG_SK_BPF_STORAGES | 0x8000,
            &attribute(SK_DIAG_BPF_STORAGE | 0x8000, &value),
        ));
        body
    }

    #[test]
    fn a_socket_with_its_tag_is_read() {
        let address = mapped(u32::from_ne_bytes([198, 51, 100, 9]));
        let source = SourceKey { address, prefix_len: 128 };
        let words = [[5, 3].as_slice(), &address, &[128, 7, 11, 0, 12, 0, 13, 0]].concat();
        let tag: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let seen = socket_seen(&diag_body(&tag)).unwrap();
        let address = mapped(u32::from_ne_bytes([192, 0, 2, 7]));
        assert_eq!(seen.local, ListenerKey { address, port: 8080 });
        assert_eq!(seen.tag, Some(tag_of(source)));
    }

    fn tag_of(source: SourceKey) -> SocketTag {
        let (rx_counted, tx_counted, born_boot_ns) =
            if cfg!(target_endian = "little") { (11, 12, 13) } else { (11 << 32, 12 << 32, 13 << 32) };
        SocketTag { slot: 5, flags: 3, source, source_ordinal: 7, rx_counted, tx_counted, born_boot_ns }
    }

    #[test]
    fn what_a_socket_holds_is_read() {
        let mut body = vec![0; DIAG_MESSAGE];
        body[56..60].copy_from_slice(&30_u32.to_ne_bytes());
        body[60..64].copy_from_slice(&40_u32.to_ne_bytes());
        let memory: Vec<u8> = (1..=9_u32).flat_map(u32::to_ne_bytes).collect();
        body.extend(attribute(INET_DIAG_SKMEMINFO, &memory));
        let mut info = vec![0; 136];
        info[44..48].copy_from_slice(&70_u32.to_ne_bytes());
        info[52..56].copy_from_slice(&80_u32.to_ne_bytes());
        info[68..72].copy_from_slice(&1500_u32.to_ne_bytes());
        info[100..104].copy_from_slice(&7_u32.to_ne_bytes());
        info[120..128].copy_from_slice(&(5_u64 << 32 | 6).to_ne_bytes());
        info[128..136].copy_from_slice(&8_u64.to_ne_bytes());
        body.extend(attribute(INET_DIAG_INFO, &info));
        let expected = SocketHolds {
            memory_bytes: 1 + 5 + 6 + 7 + 8,
            receive_queue_bytes: 30,
            send_queue_bytes: 40,
            retransmits: 7,
            rtt_us: 1500,
            rx_bytes: 8,
            tx_bytes: 5 << 32 | 6,
            sent_ago_ms: 70,
            received_ago_ms: 80,
        };
        assert_eq!(holds(&body), expected);
        assert_eq!(holds(&body[..DIAG_MESSAGE + 20]).rtt_us, 0, "an older kernel's shorter list");
    }

    #[test]
    fn a_socket_without_a_tag_and_faulty_attributes_are_no_tag() {
        assert_eq!(socket_seen(&diag_body(&[])[..DIAG_MESSAGE]).unwrap().tag, None);
        assert_eq!(socket_seen(&diag_body(&[1, 2, 3, 4])).unwrap().tag, None);
        let mut body = diag_body(&[0; 56]);
        body[DIAG_MESSAGE..DIAG_MESSAGE + 2].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(socket_seen(&body).unwrap().tag, None);
    }

    #[test]
    fn a_time_wait_leftover_is_no_socket() {
        let mut body = diag_body(&[]);
        body[1] = 5; // It stands for FIN_WAIT2.
        body[2] = 3;
        assert_eq!(socket_seen(&body), None);
    }

    #[test]
    fn an_error_in_the_list_is_an_error() {
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend(2_u16.to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-libc::EPERM).to_ne_bytes());
        let error = messages(&message, &mut |_| panic!("no socket")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
