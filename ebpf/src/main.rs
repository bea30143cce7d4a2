//! weir's kernel programs: entry points only.
//!
//! Each hook parses its context, decides, and matches every outcome; the books that they share are in `books`. None of
//! them ever fails the operation of somebody else's socket: what is not ours passes untouched.
//!
//! Minimum kernel: 5.18 (`bpf_set_retval`); 6.12 to follow sockets that were connected before the agent came.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics), allow(internal_features))]
#![expect(unsafe_code, reason = "kernel helpers and map memory are raw pointers")]
#![cfg_attr(not(target_arch = "bpf"), allow(dead_code, reason = "on the host the crate is only linted"))]

mod atomic;
mod books;
mod errands;
mod events;
mod listeners;
mod maps;
mod marks;
mod release;
mod sockops;
mod sockopt;
mod sources;
mod tags;
mod xdp;
mod zone;

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sockopt, classifier, sock_ops, xdp},
    programs::{SockContext, SockOpsContext, SockoptContext, TcContext, XdpContext},
};

/// Answer of `sock_ops` and `sock_release`; any other would change what the kernel or other programs do.
const GO_ON: u32 = 1;

/// Birth, state changes and death of TCP sockets.
#[sock_ops]
pub fn weir_sock_ops(ctx: SockOpsContext) -> u32 {
    sockops::run(&ctx);
    GO_ON
}

/// What a proxy says of its sockets.
#[cgroup_sockopt(setsockopt)]
pub fn weir_setsockopt(ctx: SockoptContext) -> i32 {
    sockopt::run(&ctx)
}

/// What another proxy says of its sockets by their mark.
#[cgroup_sockopt(setsockopt)]
pub fn weir_set_mark(ctx: SockoptContext) -> i32 {
    marks::run(&ctx);
    GO_ON as i32
}

/// Sockets that are closed without ever having been connected.
#[cgroup_sock(sock_release)]
pub fn weir_release(ctx: SockContext) -> i32 {
    release::run(&ctx);
    GO_ON as i32
}

/// SYNs to our listeners, before the network stack sees them. Packets in several buffers are taken too: headers are in the first.
#[xdp(frags)]
pub fn weir_xdp(ctx: XdpContext) -> u32 {
    xdp::run(&ctx)
}

/// An errand of the agent's: the bytes of sockets that live.
#[classifier]
pub fn weir_bytes(ctx: TcContext) -> i32 {
    errands::count_bytes(&ctx)
}

/// An errand of the agent's: a socket of another ABI version's books.
#[classifier]
pub fn weir_adopt(ctx: TcContext) -> i32 {
    errands::adopt(&ctx)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// "Dual MIT/GPL": helpers such as `bpf_set_retval` are open to GPL-compatible programs.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
