//! `sock_ops`: the birth of sockets on our listeners, and every state change of the sockets that are followed.
//!
//! Runs under the socket's lock. The kernel calls the state hook before it stores the new state.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, BPF_TCP_CLOSE_WAIT, BPF_TCP_ESTABLISHED,
        BPF_TCP_FIN_WAIT1, bpf_sock,
    },
    helpers::{bpf_get_netns_cookie, generated::bpf_ktime_get_boot_ns},
    programs::SockOpsContext,
};
use aya_log_ebpf::debug;
use weir_common::{
    listener::{Address, Listener, WEBSOCKETS, mapped},
    socket::{
        ADMITTED, CLAIMED, COUNTED, LOCAL_CLOSED, OVER_SOURCE_CAP, PEER_CLOSED, SocketTag, UNCONNECTED,
    },
    zone::UNATTRIBUTED,
};

use crate::{books, listeners, maps, sources, tags, zone::Zone};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

#[inline(always)]
pub fn run(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => born(ctx),
        BPF_SOCK_OPS_STATE_CB => changed(ctx),
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(ctx),
        _ => {}
    }
}

/// A connection to one of our listeners is established.
#[inline(always)]
fn born(ctx: &SockOpsContext) {
    // SAFETY: the context is the kernel's.
    if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != maps::netns_cookie() {
        return;
    }
    let Some(listener) = listener(ctx) else { return };
    // SAFETY: a listener's record is replaced whole by the agent; a program that holds an old one goes by that.
    let (slot, listener_flags, source_cap) =
        unsafe { ((*listener).slot, (*listener).flags, (*listener).source_cap) };
    let Some(sk) = socket(ctx) else { return };
    let Some(tag) = tags::find_or_make(sk) else {
        books::untracked();
        return;
    };
    if !follow(ctx) {
        books::untracked();
        return;
    }
    if !tags::claim(tag) {
        return;
    }
    let address = remote(ctx);
    // SAFETY: the tag lives as long as its socket, which is locked; the helper takes nothing.
    unsafe {
        (*tag).source.address = address;
        (*tag).born_boot_ns = bpf_ktime_get_boot_ns();
    }
    // Wide, so that the compiler keeps it in a whole word of the stack: a narrow one over a pointer's old place is "corrupt" to a
    // verifier without CAP_PERFMON.
    let mut flags = u64::from(COUNTED | sources::join(tag));
    // SAFETY: as above.
    unsafe {
        if u64::from((*tag).source_ordinal) > source_cap {
            flags |= u64::from(OVER_SOURCE_CAP);
        }
        // For `join_zone`, which looks at it.
        (*tag).flags = CLAIMED | flags as u32 & OVER_SOURCE_CAP;
    }
    let mut joined = UNATTRIBUTED;
    if slot != UNATTRIBUTED {
        match join_zone(tag, slot, listener_flags) {
            Ok(admitted) => {
                flags |= u64::from(admitted);
                joined = slot;
            }
            Err(()) => flags |= u64::from(books::doom()),
        }
    }
    if joined == UNATTRIBUTED {
        let Some(usage) = maps::usage(UNATTRIBUTED) else { return };
        books::join(usage);
    }
    // SAFETY: as above.
    unsafe {
        (*tag).slot = joined;
        (*tag).flags = flags as u32;
    }
    debug!(ctx, "born: port {} slot {}", ctx.local_port(), joined);
}

/// A socket of a dedicated listener joins its zone, if the zone has room for it. Returns the flag of a WebSocket if it counts as
/// one.
///
/// It is established whatever weir says, and its server knows nothing of weir: one that is refused stays unattributed, and is
/// doomed. So a zone's gauges do not exceed its caps, and every socket is still in some count.
#[inline(always)]
fn join_zone(tag: *mut SocketTag, slot: u32, listener_flags: u32) -> Result<u32, ()> {
    let Some(zone) = Zone::of_slot(slot) else { return Err(()) };
    let taken = zone.check_source(Some(tag)).and_then(|()| zone.check_open()).and_then(|now| {
        zone.take_socket()?;
        if listener_flags & WEBSOCKETS == 0 {
            return Ok(0);
        }
        match zone.take_websocket(now) {
            Ok(websockets) => {
                zone.admitted(websockets);
                Ok(ADMITTED)
            }
            Err(refusal) => {
                books::leave(zone.usage);
                Err(refusal)
            }
        }
    });
    taken.map_err(|refusal| zone.refuse(refusal))
}

/// The listener that accepted the socket, if it is one of ours.
#[inline(always)]
fn listener(ctx: &SockOpsContext) -> Option<*const Listener> {
    let port = ctx.local_port();
    let address = match ctx.family() {
        AF_INET => mapped(ctx.local_ip4()),
        AF_INET6 => local_ip6(ctx),
        _ => return None,
    };
    listeners::find(address, port)
}

/// The client's address.
#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Address {
    if ctx.family() == AF_INET {
        return mapped(ctx.remote_ip4());
    }
    // SAFETY: as in `local_ip6`, for its reason.
    let word = |index: usize| unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).remote_ip6[index]) };
    [word(0), word(1), word(2), word(3)]
}

/// The verifier (seen on Linux 6.18) takes no 8-byte load of this field, which LLVM makes of two of its words unless each is
/// loaded for itself: "invalid bpf_context access off=48 size=8".
#[inline(always)]
fn local_ip6(ctx: &SockOpsContext) -> Address {
    // SAFETY: the context is the kernel's; the words are in network byte order as they lie in memory.
    let word = |index: usize| unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).local_ip6[index]) };
    [word(0), word(1), word(2), word(3)]
}

/// A socket that was admitted before it was connected has to be followed from here, where `cgroup/setsockopt` could not.
#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(tag) = socket(ctx).and_then(tags::find) else { return };
    // SAFETY: the tag lives as long as its socket, which is locked.
    if unsafe { (*tag).flags } & COUNTED != 0 {
        follow(ctx);
    }
}

/// A followed socket changes its state.
#[inline(always)]
fn changed(ctx: &SockOpsContext) {
    let Some(sk) = socket(ctx) else { return };
    let new = ctx.arg(1);
    let Some(tag) = tags::find(sk) else {
        if new == BPF_TCP_CLOSE && maps::is_adopting() {
            ended_untagged(sk);
        }
        return;
    };
    if new == BPF_TCP_CLOSE {
        // SAFETY: the context is the kernel's.
        let (rx_bytes, tx_bytes) = unsafe { ((*ctx.ops).bytes_received, (*ctx.ops).bytes_acked) };
        books::settle(tag, rx_bytes, tx_bytes);
        debug!(
            ctx,
            "closed: port {} from state {} rx {} tx {}",
            ctx.local_port(),
            old(ctx),
            rx_bytes,
            tx_bytes
        );
        return;
    }
    match new {
        BPF_TCP_ESTABLISHED => now_connected(tag),
        BPF_TCP_CLOSE_WAIT => mark(tag, PEER_CLOSED),
        BPF_TCP_FIN_WAIT1 if old(ctx) == BPF_TCP_ESTABLISHED => mark(tag, LOCAL_CLOSED),
        _ => {}
    }
}

/// A socket ends that an earlier ABI version counts, and that is not adopted yet: the adoption, which runs without the socket's lock,
/// must find that it is too late.
#[inline(always)]
fn ended_untagged(sk: *mut bpf_sock) {
    if let Some(tag) = tags::find_or_make(sk) {
        books::settle(tag, 0, 0);
    }
}

/// The state before, loaded where it is looked at: four bytes that are kept on the stack in between may be put where a pointer was, and
/// without `CAP_PERFMON` the verifier (seen on Linux 6.18) takes that for an "attempt to corrupt spilled pointer on stack".
#[inline(always)]
fn old(ctx: &SockOpsContext) -> u32 {
    // SAFETY: the context is the kernel's.
    unsafe { core::ptr::read_volatile(&raw const (*ctx.ops).__bindgen_anon_1.args[0]) }
}

/// The socket is established, so `sock_diag` lists it.
///
/// Not earlier: the kernel enters `SYN_SENT` before it looks for a port, which can take long, and lists the socket after that.
#[inline(always)]
fn now_connected(tag: *mut SocketTag) {
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe {
        if (*tag).flags & UNCONNECTED == 0 {
            return;
        }
        (*tag).flags &= !UNCONNECTED;
        if let Some(usage) = maps::usage((*tag).slot) {
            books::connected(usage);
        }
    }
}

#[inline(always)]
fn mark(tag: *mut SocketTag, flag: u32) {
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe {
        if (*tag).flags & COUNTED != 0 {
            (*tag).flags |= flag;
        }
    }
}

/// Has the kernel call this program on each later change of the socket's state.
#[inline(always)]
fn follow(ctx: &SockOpsContext) -> bool {
    let flags = ctx.cb_flags();
    flags & BPF_SOCK_OPS_STATE_CB_FLAG != 0
        || ctx.set_cb_flags((flags | BPF_SOCK_OPS_STATE_CB_FLAG) as i32).is_ok()
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is the kernel's; the verifier asks for the null check.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}
