//! `cgroup/sock_release`: a program closed its last descriptor of a socket.
//!
//! Only a socket that is not connected ends here: an admitted one that never was connected, or that was made to listen
//! instead, which no state change may follow. Runs without the socket's lock; `books::settle` is safe against a state change on another CPU, and the
//! kernel has called the state hook before it lets the state be seen as closed.

use aya_ebpf::{
    bindings::{BPF_TCP_CLOSE, BPF_TCP_LISTEN},
    programs::SockContext,
};

use crate::{books, tags};

#[inline(always)]
pub fn run(ctx: &SockContext) {
    // SAFETY: the context is the kernel's, and is a full socket.
    let state = unsafe { (*ctx.sock).state };
    if state != BPF_TCP_CLOSE && state != BPF_TCP_LISTEN {
        return;
    }
    if let Some(tag) = tags::find(ctx.sock) {
        books::settle(tag, 0, 0);
    }
}
