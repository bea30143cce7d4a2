//! `cgroup/setsockopt`: what a proxy says of its sockets, checked and done in one step under the socket's lock.

use core::{mem::MaybeUninit, ptr::write_volatile};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_TCP_CLOSE, BPF_TCP_LISTEN, bpf_sock, bpf_sockopt},
    helpers::{
        bpf_get_current_uid_gid, bpf_get_netns_cookie, bpf_set_retval, bpf_tcp_sock,
        generated::{bpf_get_retval, bpf_ktime_get_boot_ns},
    },
    programs::SockoptContext,
};
use aya_log_ebpf::debug;
use weir_common::{
    ABI_VERSION,
    reason::Refusal,
    socket::{ADMITTED, COUNTED, DEAD, ORIGIN_SIDE, SocketTag, UNCONNECTED},
    sockopt::{LEVEL, Op, SourceCorrection, VALUE_LEN},
    source::SourceKey,
};

use crate::{atomic, books, maps, sources, tags, zone::Zone};

const IPPROTO_TCP: u32 = 6;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

const PASS: i32 = 1;
const REJECT: i32 = 0;

#[inline(always)]
pub fn run(ctx: &SockoptContext) -> i32 {
    let sockopt = ctx.sockopt;
    // SAFETY: the context is the kernel's.
    if unsafe { (*sockopt).level } != LEVEL {
        return PASS;
    }
    // SAFETY: as above. Sockets of another namespace are another instance's.
    if unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != maps::netns_cookie() {
        return PASS;
    }
    // SAFETY: the helper takes nothing. The programs of the ABI version that is being replaced have refused it.
    if maps::is_adopting() && unsafe { bpf_get_retval() } < 0 {
        return PASS;
    }
    match decide(sockopt) {
        Ok(()) => {
            // SAFETY: -1 tells the kernel that the option is dealt with.
            unsafe { (*sockopt).optlen = -1 };
            PASS
        }
        Err(refusal) => {
            debug!(ctx, "refused: reason {}", refusal as u32);
            // SAFETY: the helper takes a negative errno.
            unsafe { bpf_set_retval(-refusal.errno()) };
            REJECT
        }
    }
}

#[inline(always)]
fn decide(sockopt: *mut bpf_sockopt) -> Result<(), Refusal> {
    // SAFETY: the context is the kernel's.
    if unsafe { (*sockopt).optname } == Op::CorrectSource as i32 {
        return correct_source(sockopt).inspect_err(|refusal| books::refused_on_host(*refusal));
    }
    let result = request(sockopt).and_then(|(op, value)| match op {
        Op::Probe if value == u64::from(ABI_VERSION) || maps::is_adopting() => Ok(None),
        Op::Probe => Err(Refusal::AbiMismatch),
        Op::CorrectSource => Err(Refusal::UnknownOp),
        Op::Attribute | Op::Admit | Op::Release => {
            // SAFETY: the context is the kernel's.
            let sk = stream_socket(unsafe { (*sockopt).__bindgen_anon_1.sk })?;
            let zone = if op == Op::Release { Zone::of_admitted(sk, value)? } else { Zone::find(value)? };
            Ok(Some((op, sk, zone)))
        }
    });
    let (op, sk, zone) = match result {
        Ok(None) => return Ok(()),
        Ok(Some(found)) => found,
        Err(refusal) => {
            books::refused_on_host(refusal);
            return Err(refusal);
        }
    };
    let done = match op {
        Op::Attribute => attribute(sk, &zone),
        Op::Admit => admit(sk, &zone),
        Op::Release | Op::Probe | Op::CorrectSource => release(sk, &zone),
    };
    if let Err(refusal) = done {
        zone.refuse(refusal);
    } else if op != Op::Release
        && let Some(tag) = tags::find(sk)
    {
        books::pardon(tag);
    }
    done
}

/// The operation and its value, if the caller may ask for it.
#[inline(always)]
fn request(sockopt: *mut bpf_sockopt) -> Result<(Op, u64), Refusal> {
    // The low half is the uid in the initial user namespace.
    let uid = bpf_get_current_uid_gid() as u32;
    if !maps::may_tag(uid) {
        return Err(Refusal::CallerNotAllowed);
    }
    // SAFETY: the context is the kernel's; the value is only read behind the bounds check that the verifier asks for.
    unsafe {
        let Some(op) = Op::from_raw((*sockopt).optname) else { return Err(Refusal::UnknownOp) };
        let start = (*sockopt).__bindgen_anon_2.optval.cast::<u8>();
        let end = (*sockopt).__bindgen_anon_3.optval_end.cast::<u8>();
        // -1 is what the programs have set that ran before these ones.
        let is_dealt_with = (*sockopt).optlen == -1 && maps::is_adopting();
        if ((*sockopt).optlen != VALUE_LEN as i32 && !is_dealt_with) || start.add(VALUE_LEN) > end {
            return Err(Refusal::BadLength);
        }
        Ok((op, core::ptr::read_unaligned(start.cast::<u64>())))
    }
}

/// The agent sets a source's row right.
#[inline(always)]
fn correct_source(sockopt: *mut bpf_sockopt) -> Result<(), Refusal> {
    const LEN: usize = size_of::<SourceCorrection>();
    let Some(policy) = maps::host_policy() else { return Err(Refusal::NoMemory) };
    // SAFETY: the policy lives as long as its map.
    let agent_uid = unsafe { atomic::load(&raw const (*policy).agent_uid) };
    if u64::from(bpf_get_current_uid_gid() as u32) != agent_uid {
        return Err(Refusal::CallerNotAllowed);
    }
    // SAFETY: the context is the kernel's; the value is only read behind the bounds check that the verifier asks for. The key is
    // written word by word for the reason that `maps::listener` gives.
    unsafe {
        let start = (*sockopt).__bindgen_anon_2.optval.cast::<u8>();
        let end = (*sockopt).__bindgen_anon_3.optval_end.cast::<u8>();
        if (*sockopt).optlen != LEN as i32 || start.add(LEN) > end {
            return Err(Refusal::BadLength);
        }
        let given = start.cast::<SourceCorrection>();
        let mut key = MaybeUninit::<SourceKey>::uninit();
        let words = key.as_mut_ptr().cast::<u32>();
        let from = (&raw const (*given).key).cast::<u32>();
        write_volatile(words, from.read_unaligned());
        write_volatile(words.add(1), from.add(1).read_unaligned());
        write_volatile(words.add(2), from.add(2).read_unaligned());
        write_volatile(words.add(3), from.add(3).read_unaligned());
        write_volatile(words.add(4), from.add(4).read_unaligned());
        let add = (&raw const (*given).add).read_unaligned();
        sources::correct(key.assume_init_ref(), add);
    }
    Ok(())
}

#[inline(always)]
pub fn stream_socket(sk: *mut bpf_sock) -> Result<*mut bpf_sock, Refusal> {
    if sk.is_null() {
        return Err(Refusal::NotTcp);
    }
    // SAFETY: the context's socket, not null.
    let (family, protocol) = unsafe { ((*sk).family, (*sk).protocol) };
    if (family == AF_INET || family == AF_INET6) && protocol == IPPROTO_TCP {
        Ok(sk)
    } else {
        Err(Refusal::NotTcp)
    }
}

/// What a socket is good for.
#[derive(PartialEq, Eq)]
enum Stage {
    Unconnected,
    Connected,
}

#[inline(always)]
fn stage(sk: *mut bpf_sock, flags: u32) -> Result<Stage, Refusal> {
    // SAFETY: the context's socket.
    let state = unsafe { (*sk).state };
    if state == BPF_TCP_LISTEN {
        return Err(Refusal::SocketClosed);
    }
    if state != BPF_TCP_CLOSE {
        return Ok(Stage::Connected);
    }
    // Closed, or not connected yet? Whoever was connected has sent a segment.
    // SAFETY: a full TCP socket by `stream_socket`'s check; the helper answers null otherwise.
    let was_connected = unsafe {
        let tcp = bpf_tcp_sock(sk);
        !tcp.is_null() && (*tcp).segs_out != 0
    };
    if flags & DEAD != 0 || was_connected { Err(Refusal::SocketClosed) } else { Ok(Stage::Unconnected) }
}

#[inline(always)]
pub fn attribute(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = tags::known(tag);
    if stage(sk, flags)? == Stage::Unconnected {
        return Err(Refusal::SocketClosed);
    }
    zone.check_open()?;
    if flags & COUNTED != 0 && slot == zone.slot {
        return Ok(());
    }
    if flags & ADMITTED != 0 {
        return Err(Refusal::OtherZone);
    }
    zone.check_source(tag)?;
    move_to(sk, tag, flags, slot, zone, COUNTED)
}

#[inline(always)]
pub fn admit(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = tags::known(tag);
    let stage = stage(sk, flags)?;
    if flags & ADMITTED != 0 {
        return Err(if slot == zone.slot { Refusal::AlreadyAdmitted } else { Refusal::OtherZone });
    }
    let now = zone.check_open()?;
    if slot != zone.slot || flags & COUNTED == 0 {
        zone.check_source(tag)?;
    }
    let websockets = zone.take_websocket(now)?;
    let fresh = match stage {
        Stage::Connected => ADMITTED | COUNTED,
        Stage::Unconnected => ADMITTED | COUNTED | UNCONNECTED | ORIGIN_SIDE,
    };
    if let (true, Some(tag)) = (flags & COUNTED != 0 && slot == zone.slot, tag) {
        // SAFETY: the tag lives as long as its socket, which is locked.
        unsafe { (*tag).flags = flags | ADMITTED };
    } else if let Err(refusal) = move_to(sk, tag, flags, slot, zone, fresh) {
        // SAFETY: records live as long as their maps. Nothing was recorded of this admission yet but the gauge.
        unsafe { atomic::decrement(&raw mut (*zone.usage).websockets) };
        return Err(refusal);
    }
    zone.admitted(websockets);
    Ok(())
}

#[inline(always)]
pub fn release(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = tags::known(tag);
    if flags & DEAD != 0 {
        return Err(Refusal::SocketClosed);
    }
    if flags == 0 && maps::is_adopting() {
        return attribute(sk, zone);
    }
    let (true, Some(tag)) = (flags & ADMITTED != 0, tag) else { return Err(Refusal::NotAdmitted) };
    if slot != zone.slot {
        return Err(Refusal::OtherZone);
    }
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe { (*tag).flags = flags & !ADMITTED };
    books::take_back(zone.usage);
    Ok(())
}

/// Counts the socket in the zone's slot and nowhere else. On refusal nothing has changed.
#[inline(always)]
fn move_to(
    sk: *mut bpf_sock,
    tag: Option<*mut SocketTag>,
    flags: u32,
    slot: u32,
    zone: &Zone,
    fresh: u32,
) -> Result<(), Refusal> {
    let counted = flags & COUNTED != 0;
    if !counted && !tags::follow(sk) && fresh & UNCONNECTED == 0 {
        return Err(Refusal::CannotFollow);
    }
    let tag = match tag {
        Some(tag) => tag,
        None => tags::find_or_make(sk).ok_or(Refusal::NoMemory)?,
    };
    zone.take_socket()?;
    let flags = if counted {
        flags | (fresh & ADMITTED)
    } else {
        if !tags::claim(tag) {
            // It is being adopted from another ABI version's books at this instant.
            books::leave(zone.usage);
            return Err(Refusal::NoMemory);
        }
        // SAFETY: the tag lives as long as its socket, which is locked; the helper takes nothing.
        unsafe { (*tag).born_boot_ns = bpf_ktime_get_boot_ns() };
        if fresh & ORIGIN_SIDE != 0 {
            fresh
        } else {
            // Connected before the agent came: its source is counted from here on.
            sources::note_remote(tag, sk);
            fresh | sources::join(tag)
        }
    };
    if flags & UNCONNECTED != 0 {
        // SAFETY: records live as long as their maps.
        unsafe { atomic::increment(&raw mut (*zone.usage).unconnected) };
    }
    if counted && let Some(usage) = maps::usage(slot) {
        books::leave(usage);
        if flags & UNCONNECTED != 0 {
            books::connected(usage);
        }
    }
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe {
        (*tag).slot = zone.slot;
        (*tag).flags = flags;
    }
    Ok(())
}
