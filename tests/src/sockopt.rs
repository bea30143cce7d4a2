//! weir's socket options, asked for as a proxy asks: whatever operation, whatever bytes.

#![expect(unsafe_code, reason = "no library sets an option of any level, name and length")]

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use weir_common::{
    sockopt::{LEVEL, Op},
    zone::ZoneKey,
};

/// Asks for an operation on the socket with any option value.
pub fn raw(socket: impl AsFd, op: i32, value: &[u8]) -> Result<(), Errno> {
    let socket = socket.as_fd();
    // SAFETY: the descriptor is open while it is borrowed, the bytes live until the call returns; the kernel only reads them.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), LEVEL, op, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    Errno::result(result).map(drop)
}

/// The kernel answers whether it counts, by this ABI version.
pub fn probe(socket: impl AsFd, abi_version: u64) -> Result<(), Errno> {
    raw(socket, Op::Probe as i32, &abi_version.to_ne_bytes())
}

pub fn attribute(socket: impl AsFd, zone: &str) -> Result<(), Errno> {
    ask(socket, Op::Attribute, zone)
}

pub fn admit(socket: impl AsFd, zone: &str) -> Result<(), Errno> {
    ask(socket, Op::Admit, zone)
}

pub fn release(socket: impl AsFd, zone: &str) -> Result<(), Errno> {
    ask(socket, Op::Release, zone)
}

fn ask(socket: impl AsFd, op: Op, zone: &str) -> Result<(), Errno> {
    raw(socket, op as i32, &ZoneKey::of(zone).to_raw().to_ne_bytes())
}
