//! The tag of a socket: made, found, followed.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock},
    helpers::{bpf_getsockopt, bpf_setsockopt, bpf_sk_storage_get},
};
use weir_common::socket::{CLAIMED, SocketTag};

use crate::{atomic, maps};

const SOL_TCP: i32 = 6;
/// `include/uapi/linux/bpf.h`; settable from `cgroup/setsockopt` since Linux 6.12.
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// The tag of a socket, if it has one.
#[inline(always)]
pub fn find(sk: *mut bpf_sock) -> Option<*mut SocketTag> {
    get(sk, 0)
}

/// The tag of a socket; all 0 if it had none. `None` if the kernel has no memory for it.
#[inline(always)]
pub fn find_or_make(sk: *mut bpf_sock) -> Option<*mut SocketTag> {
    get(sk, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

/// Has a socket that nobody counts to itself, until its flags are written. False if somebody counts it, is about to, or if it has
/// ended.
#[inline(always)]
pub fn claim(tag: *mut SocketTag) -> bool {
    // SAFETY: the tag lives as long as its socket.
    unsafe { atomic::compare_exchange_u32(&raw mut (*tag).flags, 0, CLAIMED) }
}

/// Takes a claim back.
#[inline(always)]
pub fn unclaim(tag: *mut SocketTag) {
    // SAFETY: as above.
    unsafe { atomic::compare_exchange_u32(&raw mut (*tag).flags, CLAIMED, 0) };
}

/// Flags and slot of a tag, or those of a socket that is not counted.
#[inline(always)]
pub fn known(tag: Option<*mut SocketTag>) -> (u32, u32) {
    match tag {
        // SAFETY: the tag lives as long as its socket, which is locked.
        Some(tag) => unsafe { ((*tag).flags, (*tag).slot) },
        None => (0, 0),
    }
}

#[inline(always)]
fn get(sk: *mut bpf_sock, flags: u64) -> Option<*mut SocketTag> {
    // SAFETY: `sk` is a socket of the running program's context, checked not to be null. Without a value to begin with the
    // kernel makes one of zeros.
    let tag = unsafe { bpf_sk_storage_get(maps::tags(), sk.cast(), core::ptr::null_mut(), flags) }
        .cast::<SocketTag>();
    if tag.is_null() { None } else { Some(tag) }
}

/// Has the kernel call `sock_ops` on each later change of the socket's state, beside whatever else is asked of it.
///
/// Holds on kernels from 6.12; older ones refuse, and then only sockets that were met at birth can be followed.
#[inline(always)]
pub fn follow(sk: *mut bpf_sock) -> bool {
    let mut value = 0_u32;
    let flags = &raw mut value;
    // SAFETY: the socket is the context's and locked by the kernel around this program; the value is 4 bytes on this stack.
    unsafe {
        if bpf_getsockopt(sk.cast(), SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, flags.cast(), 4) != 0 {
            return false;
        }
        if *flags & BPF_SOCK_OPS_STATE_CB_FLAG != 0 {
            return true;
        }
        *flags |= BPF_SOCK_OPS_STATE_CB_FLAG;
        bpf_setsockopt(sk.cast(), SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, flags.cast(), 4) == 0
    }
}
