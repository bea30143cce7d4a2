//! Ending sockets of other processes: `SOCK_DESTROY` of `NETLINK_SOCK_DIAG` (Linux 4.5, `CONFIG_INET_DIAG_DESTROY`; needs
//! `CAP_NET_ADMIN`). The kernel resets the connection; its owner reads `ECONNABORTED`.
//!
//! A socket is named by its addresses *and* its cookie, which no later socket has again: one that ended meanwhile, and whose
//! addresses another has taken, is not found.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use weir_common::{
    errand::{Errand, TUPLE_V4, TUPLE_V6},
    listener::{Address, ListenerKey, is_mapped, mapped},
};

use super::sock_diag::{NLMSG_HEADER, open, send, u16_at, u32_at};

const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
/// `struct inet_diag_sockid`: ports (network byte order), addresses, interface, cookie.
const ID: usize = 48;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 8 + ID;

/// A socket as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    family: u8,
    id: [u8; ID],
}

impl SocketId {
    /// Of the body of a socket list's message. `None` if it is cut short.
    pub(super) fn of_message(body: &[u8]) -> Option<Self> {
        Some(Self { family: *body.first()?, id: body.get(4..4 + ID)?.try_into().ok()? })
    }

    /// The peer's address.
    pub fn remote(&self) -> Address {
        let word = |at: usize| u32_at(&self.id, 20 + 4 * at);
        if i32::from(self.family) == libc::AF_INET {
            mapped(word(0))
        } else {
            [word(0), word(1), word(2), word(3)]
        }
    }

    /// An errand to it.
    pub fn errand(&self) -> Errand {
        let word = |at: usize| u32_at(&self.id, at);
        let (local, remote) = (4, 20);
        // Source port (this host's) before the peer's in the list; the other way round in a packet that comes from the peer.
        let ports = u32::from_ne_bytes([self.id[2], self.id[3], self.id[0], self.id[1]]);
        let words = |at: usize| [word(at), word(at + 4), word(at + 8), word(at + 12)];
        let v4 = if i32::from(self.family) == libc::AF_INET {
            Some((word(remote), word(local)))
        } else {
            // The kernel finds sockets of a dual-stack listener by their IPv4 addresses.
            is_mapped(&words(remote)).then(|| (word(remote + 12), word(local + 12)))
        };
        let mut tuple = [0; 9];
        let tuple_len = match v4 {
            Some((remote, local)) => {
                tuple[..3].copy_from_slice(&[remote, local, ports]);
                TUPLE_V4
            }
            None => {
                tuple[..4].copy_from_slice(&words(remote));
                tuple[4..8].copy_from_slice(&words(local));
                tuple[8] = ports;
                TUPLE_V6
            }
        };
        Errand { tuple, tuple_len, ..Errand::default() }
    }

    /// One that no socket has: its cookie is 0.
    pub fn of(local: ListenerKey, remote: ListenerKey) -> Self {
        let mut id = [0; ID];
        id[0..2].copy_from_slice(&(local.port as u16).to_be_bytes());
        id[2..4].copy_from_slice(&(remote.port as u16).to_be_bytes());
        for (word, at) in local.address.iter().chain(&remote.address).zip((4..).step_by(4)) {
            id[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        Self { family: libc::AF_INET6 as u8, id }
    }
}

#[cfg(test)]
impl SocketId {
    pub fn numbered(number: u8) -> Self {
        Self { family: libc::AF_INET as u8, id: [number; ID] }
    }
}

/// Ends these sockets. Returns how many it ended; the others had ended by themselves.
pub fn destroy_sockets(sockets: &[SocketId]) -> io::Result<u64> {
    let netlink = open()?;
    let mut ended = 0;
    for socket in sockets {
        match destroy(&netlink, socket) {
            Ok(()) => ended += 1,
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ended)
}

/// Whether this kernel can: asked with a socket that there is not.
pub fn can_destroy() -> io::Result<bool> {
    let nobody = ListenerKey { address: [0; 4], port: 0 };
    match destroy(&open()?, &SocketId::of(nobody, nobody)) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) if is_gone(&error) => Ok(true),
        Err(error) => Err(error),
        Ok(()) => Ok(true),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
}

fn destroy(netlink: &OwnedFd, socket: &SocketId) -> io::Result<()> {
    const NLM_F_REQUEST: u16 = 1;
    const NLM_F_ACK: u16 = 4;
    let len = NLMSG_HEADER + REQUEST;
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(SOCK_DESTROY.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([socket.family, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(socket.id);
    send(netlink, &message)?;
    answer(netlink)
}

/// The errno that the kernel acknowledges with.
fn answer(netlink: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0_u8; 1024];
    let received = loop {
        // SAFETY: the descriptor is open, the buffer live and of the stated length.
        let received =
            unsafe { libc::recv(netlink.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if received >= 0 {
            break received as usize;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let bytes = buffer.get(..received).filter(|bytes| bytes.len() >= NLMSG_HEADER + 4);
    match bytes {
        Some(bytes) if u16_at(bytes, 4) == NLMSG_ERROR => match u32_at(bytes, NLMSG_HEADER) as i32 {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        },
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no acknowledgement of SOCK_DESTROY")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errands_tuple_is_of_a_packet_from_the_peer() {
        let mut body = [0; 4 + ID];
        body[0] = libc::AF_INET as u8;
        body[4..8].copy_from_slice(&[0x1f, 0x90, 0xc3, 0x50]);
        body[8..12].copy_from_slice(&[192, 0, 2, 1]);
        body[24..28].copy_from_slice(&[198, 51, 100, 7]);
        let bytes = |errand: &Errand, len: usize| -> Vec<u8> {
            errand.tuple.iter().flat_map(|word| word.to_ne_bytes()).take(len).collect()
        };
        let v4 = SocketId::of_message(&body).unwrap().errand();
        let expected = [198, 51, 100, 7, 192, 0, 2, 1, 0xc3, 0x50, 0x1f, 0x90];
        assert_eq!((v4.tuple_len, bytes(&v4, 12)), (12, expected.to_vec()));

        body[0] = libc::AF_INET6 as u8;
        for at in [8, 24] {
            let v4: [u8; 4] = body[at..at + 4].try_into().unwrap();
            body[at..at + 16]
                .copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]);
        }
        let mapped = SocketId::of_message(&body).unwrap().errand();
        assert_eq!((mapped.tuple_len, bytes(&mapped, 12)), (12, expected.to_vec()));

        body[24] = 0x20;
        let v6 = SocketId::of_message(&body).unwrap().errand();
        let expected = [&body[24..40], &body[8..24], &[0xc3, 0x50, 0x1f, 0x90]].concat();
        assert_eq!((v6.tuple_len, bytes(&v6, 36)), (36, expected));
    }

    #[test]
    fn the_peers_address_is_read_in_either_family() {
        let mut body = [0; 4 + ID];
        body[0] = libc::AF_INET as u8;
        body[24..28].copy_from_slice(&[198, 51, 100, 7]);
        let v4 = SocketId::of_message(&body).unwrap();
        assert_eq!(v4.remote(), mapped(u32::from_ne_bytes([198, 51, 100, 7])));
        let key = |last| ListenerKey { address: [1, 2, 3, last], port: 9 };
        assert_eq!(SocketId::of(key(4), key(5)).remote(), [1, 2, 3, 5]);
        assert_eq!(SocketId::of_message(&body[..40]), None);
    }
}
