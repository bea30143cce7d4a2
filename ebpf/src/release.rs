//! `cgroup/sock_release`: a program closed its last descriptor of a socket.
//!
//! Only a socket that is not connected ends here: an admitted one that never was connected, which no state change
//! follows. Runs without the socket's lock; `books::settle` is safe against a state change on another CPU, and the
//! kernel has called the state hook before it lets the state be seen as closed.

use aya_ebpf::{bindings::BPF_TCP_CLOSE, programs::SockContext};

use crate::{books, tags};

#[inline(always)]
pub fn run(ctx: &SockContext) {
    // SAFETY: the context is the kernel's, and is a full socket.
    if unsafe { (*ctx.sock).state } != BPF_TCP_CLOSE {
        return;
    }
    if let Some(tag) = tags::find(ctx.sock) {
        books::settle(tag, 0, 0);
    }
}
