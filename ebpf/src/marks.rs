//! `SO_MARK`, seen on its way to the kernel: another proxy's word for the zone of a socket. See `common::mark`.
//!
//! It speaks of clients' sockets only: those that were born at one of our listeners. The same proxy may mark its connections to
//! origins for its own routing, with whatever number. What it says holds as soon as it is said, also where the kernel then does not
//! take the mark (`EPERM`): this program runs before that is known.
//!
//! Such a proxy is not told of a refusal (it may well not look at what `setsockopt` returns), so a socket that a cap refuses is
//! *doomed*: it stays where it is counted, and the agent ends it. A later mark that succeeds before that takes it back.

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sockopt,
    helpers::{bpf_get_current_uid_gid, bpf_get_netns_cookie},
    programs::SockoptContext,
};
use weir_common::{
    mark::{self, Marked},
    reason::Refusal,
    socket::{ADMITTED, COUNTED, DEAD, DOOMED, ORIGIN_SIDE},
};

use crate::{atomic, books, maps, sockopt, tags, zone::Zone};

const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;

/// Whatever weir makes of it, the mark is the kernel's to set.
#[inline(always)]
pub fn run(ctx: &SockoptContext) {
    let sockopt = ctx.sockopt;
    // SAFETY: the context is the kernel's. Sockets of another namespace are another instance's.
    unsafe {
        if (*sockopt).level != SOL_SOCKET
            || (*sockopt).optname != SO_MARK
            || bpf_get_netns_cookie(ctx.as_ptr()) != maps::netns_cookie()
        {
            return;
        }
    }
    let Some(marked) = read(sockopt) else { return };
    if let Err(refusal) = bind(sockopt, marked) {
        books::refused_on_host(refusal);
    }
}

/// What the mark says, if it is one of weir's.
#[inline(always)]
fn read(sockopt: *mut bpf_sockopt) -> Option<Marked> {
    let policy = maps::host_policy()?;
    // SAFETY: the policy lives as long as its map; the value is only read behind the bounds check that the verifier asks for.
    unsafe {
        let mask = atomic::load(&raw const (*policy).mark_mask) as u32;
        let base = atomic::load(&raw const (*policy).mark_base) as u32;
        let start = (*sockopt).__bindgen_anon_2.optval.cast::<u8>();
        let end = (*sockopt).__bindgen_anon_3.optval_end.cast::<u8>();
        if (*sockopt).optlen < 4 || start.add(4) > end {
            return None;
        }
        mark::read(core::ptr::read_unaligned(start.cast::<u32>()), mask, base)
    }
}

/// `Err` for what no zone can be named for.
#[inline(always)]
fn bind(sockopt: *mut bpf_sockopt, marked: Marked) -> Result<(), Refusal> {
    if !maps::may_tag(bpf_get_current_uid_gid() as u32) {
        return Err(Refusal::CallerNotAllowed);
    }
    // SAFETY: the context is the kernel's.
    let sk = sockopt::stream_socket(unsafe { (*sockopt).__bindgen_anon_1.sk })?;
    let (flags, _) = tags::known(tags::find(sk));
    if flags & COUNTED == 0 || flags & ORIGIN_SIDE != 0 {
        return Ok(());
    }
    let zone = Zone::find(maps::marked_zone(marked.number).ok_or(Refusal::ZoneUnknown)?)?;
    let (flags, slot) = tags::known(tags::find(sk));
    let done = if marked.is_websocket {
        // A keep-alive connection may be marked with every request.
        if flags & ADMITTED != 0 && slot == zone.slot { Ok(()) } else { sockopt::admit(sk, &zone) }
    } else {
        // It was a WebSocket by an earlier mark, whose request the origin did not answer so.
        if flags & ADMITTED != 0
            && let Some(usage) = maps::usage(slot)
            && let Some(tag) = tags::find(sk)
        {
            // SAFETY: the tag lives as long as its socket, which is locked.
            unsafe { (*tag).flags = flags & !ADMITTED };
            books::take_back(usage);
        }
        sockopt::attribute(sk, &zone)
    };
    if let Err(refusal) = done {
        zone.refuse(refusal);
        if refusal.is_admission()
            && let Some(tag) = tags::find(sk)
        {
            // SAFETY: as above.
            unsafe {
                if (*tag).flags & (DEAD | DOOMED) == 0 {
                    (*tag).flags |= books::doom();
                }
            }
        }
    } else if let Some(tag) = tags::find(sk) {
        books::pardon(tag);
    }
    Ok(())
}
