//! News about interfaces: they come, go, and change their names.
//!
//! What the kernel says (rtnetlink, `RTMGRP_LINK`) is not read, only that it said something: whoever is told looks at all interfaces
//! anyway. So nothing depends on a message that found no room.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

const RTMGRP_LINK: u32 = 1;
/// Of messages that are thrown away.
const SCRATCH: usize = 8192;
/// Messages that are read at once; more are another time's.
const AT_ONCE: usize = 256;

/// A subscription to news about the interfaces of this network namespace.
pub struct LinkNews(AsyncFd<OwnedFd>);

impl LinkNews {
    /// Call it inside of a runtime.
    pub fn subscribe() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_LINK))?;
        super::load::ready(socket.as_fd()).map(Self)
    }

    /// Waits until something has changed since the last call.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        // In this order: what comes while it is drained makes it ready again.
        ready.clear_ready();
        drain(self.0.get_ref());
        Ok(())
    }
}

/// Reads all that is there. ENOBUFS says that messages were lost, which is news, too.
fn drain(socket: &OwnedFd) {
    let mut scratch = [0; SCRATCH];
    for _ in 0..AT_ONCE {
        match recv(socket.as_raw_fd(), &mut scratch, MsgFlags::empty()) {
            Ok(_) | Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
