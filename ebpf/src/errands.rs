//! The agent's errands: what is done to sockets that it names. See `common::errand`.
//!
//! They run without the sockets' locks, so whatever they change is changed by compare-and-swap.

use core::{
    mem::MaybeUninit,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, BPF_TCP_SYN_SENT, bpf_sock},
    helpers::{
        bpf_sk_lookup_tcp, bpf_sk_release, bpf_skb_load_bytes, bpf_tcp_sock, generated::bpf_ktime_get_boot_ns,
    },
    programs::TcContext,
};
use weir_common::{
    errand::{ERRANDS, Errand, HEAD, TUPLE_V4, TUPLE_V6},
    socket::{
        ADMITTED, CLAIMED, COUNTED, DOOMED, LOCAL_CLOSED, ORIGIN_SIDE, OVER_SOURCE_CAP, PEER_CLOSED, SOURCED,
        SocketTag, UNCONNECTED,
    },
};

use crate::{atomic, books, maps, sources, tags};

/// Adds the bytes of sockets that live to their zones'. Returns of how many.
#[inline(always)]
pub fn count_bytes(ctx: &TcContext) -> i32 {
    let mut done = 0;
    for n in 0..ERRANDS {
        let Some(errand) = read(ctx, n) else { break };
        let Some(sk) = find(ctx, &errand) else { continue };
        // SAFETY: a socket that the lookup holds; the helper answers null for what is none of TCP.
        unsafe {
            let tcp = bpf_tcp_sock(sk);
            if !tcp.is_null()
                && let Some(tag) = tags::find(sk)
                && books::carry(tag, (*tcp).bytes_received, (*tcp).bytes_acked)
            {
                done += 1;
            }
        }
        release(sk);
    }
    done
}

/// Counts a socket that an agent of another ABI version had counted. Returns 1 if it is counted by that.
#[inline(always)]
pub fn adopt(ctx: &TcContext) -> i32 {
    let Some(mut errand) = read(ctx, 0) else { return 0 };
    let Some(sk) = find(ctx, &errand) else { return 0 };
    let mut adopted = 0;
    if let Some(tag) = tags::find_or_make(sk)
        && tags::claim(tag)
    {
        adopted = count(sk, tag, &mut errand);
    }
    release(sk);
    adopted
}

/// Joins what the errand says. A socket that ends meanwhile has taken the claim away: then all is given back.
///
/// Flags stay in the errand, and are read where they are looked at: see `sockops::old`.
#[inline(always)]
fn count(sk: *mut bpf_sock, tag: *mut SocketTag, errand: &mut Errand) -> i32 {
    const KEPT: u32 = COUNTED
        | ADMITTED
        | ORIGIN_SIDE
        | PEER_CLOSED
        | LOCAL_CLOSED
        | DOOMED
        | OVER_SOURCE_CAP
        | UNCONNECTED
        | SOURCED;
    let Some(usage) = maps::usage(errand.slot) else {
        tags::unclaim(tag);
        return 0;
    };
    let flags = &raw mut errand.flags;
    // SAFETY: the errand is this program's own.
    let has = |flag: u32| unsafe { read_volatile(flags) } & flag != 0;
    // SAFETY: the socket is held by the lookup; the claim makes the tag's fields ours; the helper takes nothing.
    unsafe {
        // It may have been established since the agent looked.
        let connecting = if (*sk).state == BPF_TCP_SYN_SENT { UNCONNECTED } else { 0 };
        write_volatile(flags, read_volatile(flags) & KEPT & (!UNCONNECTED | connecting));
        (*tag).slot = errand.slot;
        (*tag).rx_counted = errand.rx_counted;
        (*tag).tx_counted = errand.tx_counted;
        (*tag).born_boot_ns = bpf_ktime_get_boot_ns();
        if has(SOURCED) {
            sources::note_remote(tag, sk);
            if sources::join(tag) == 0 {
                write_volatile(flags, read_volatile(flags) & !SOURCED);
            }
        }
    }
    books::join(usage);
    // SAFETY: records live as long as their maps.
    unsafe {
        if has(ADMITTED) {
            let live = atomic::add(&raw mut (*usage).websockets, 1) + 1;
            atomic::increment(&raw mut (*usage).admitted_total);
            books::raise_peak(&raw mut (*usage).websockets_peak, live);
        }
        if has(UNCONNECTED) {
            atomic::increment(&raw mut (*usage).unconnected);
        }
        if has(DOOMED) {
            books::doom();
        }
        if atomic::compare_exchange_u32(&raw mut (*tag).flags, CLAIMED, read_volatile(flags)) {
            return 1;
        }
    }
    if has(SOURCED) {
        sources::leave(tag);
    }
    if has(DOOMED) {
        books::spare();
    }
    if has(UNCONNECTED) {
        books::connected(usage);
    }
    if has(ADMITTED) {
        books::end_websocket(usage);
    }
    books::leave(usage);
    0
}

/// The errand of this number, if there are as many.
#[inline(always)]
fn read(ctx: &TcContext, n: usize) -> Option<Errand> {
    let mut errand = MaybeUninit::<Errand>::uninit();
    let at = (HEAD + n * size_of::<Errand>()) as u32;
    // SAFETY: the context is the kernel's; the helper writes an errand's bytes to this stack, or fails. All bit patterns are one.
    unsafe {
        let to = errand.as_mut_ptr().cast();
        let failed = bpf_skb_load_bytes(ctx.skb.skb.cast(), at, to, size_of::<Errand>() as u32);
        if failed != 0 { None } else { Some(errand.assume_init()) }
    }
}

/// The socket, held until it is released. Where it has ended, or is not born yet, the kernel finds the listener, which is none of
/// those that are counted.
#[inline(always)]
fn find(ctx: &TcContext, errand: &Errand) -> Option<*mut bpf_sock> {
    let len = if errand.tuple_len == TUPLE_V4 { TUPLE_V4 } else { TUPLE_V6 };
    let netns = i64::from(BPF_F_CURRENT_NETNS) as u64;
    // SAFETY: the context is the kernel's; the tuple is as long as is said.
    let sk = unsafe {
        let tuple = (&raw const errand.tuple).cast_mut().cast();
        bpf_sk_lookup_tcp(ctx.skb.skb.cast(), tuple, len, netns, 0)
    };
    if sk.is_null() {
        return None;
    }
    // SAFETY: the lookup holds it.
    if unsafe { (*sk).state } == BPF_TCP_LISTEN {
        release(sk);
        return None;
    }
    Some(sk)
}

#[inline(always)]
fn release(sk: *mut bpf_sock) {
    // SAFETY: it was found by `find`, and nobody uses it any more.
    unsafe { bpf_sk_release(sk.cast()) };
}
