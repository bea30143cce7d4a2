//! `cgroup/setsockopt`: what a proxy says of its sockets, checked and done in one step under the socket's lock.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_TCP_CLOSE, BPF_TCP_LISTEN, bpf_sock, bpf_sockopt},
    helpers::{
        bpf_get_current_uid_gid, bpf_get_netns_cookie, bpf_ktime_get_boot_ns, bpf_set_retval, bpf_tcp_sock,
    },
    programs::SockoptContext,
};
use aya_log_ebpf::debug;
use weir_common::{
    ABI_VERSION,
    reason::Refusal,
    socket::{ADMITTED, COUNTED, DEAD, ORIGIN_SIDE, OVER_SOURCE_CAP, SocketTag, UNCONNECTED},
    sockopt::{LEVEL, Op, VALUE_LEN},
    zone::{FLAG_BLOCKED, FLAG_LEASED, ZonePolicy, ZoneUsage},
};

use crate::{atomic, books, events, maps, sources, tags};

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
    let result = request(sockopt).and_then(|(op, value)| match op {
        Op::Probe if value == u64::from(ABI_VERSION) => Ok(None),
        Op::Probe => Err(Refusal::AbiMismatch),
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
        Op::Release | Op::Probe => release(sk, &zone),
    };
    if let Err(refusal) = done {
        zone.refuse(refusal);
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
        if (*sockopt).optlen != VALUE_LEN as i32 || start.add(VALUE_LEN) > end {
            return Err(Refusal::BadLength);
        }
        Ok((op, core::ptr::read_unaligned(start.cast::<u64>())))
    }
}

#[inline(always)]
fn stream_socket(sk: *mut bpf_sock) -> Result<*mut bpf_sock, Refusal> {
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

/// A zone's two records.
struct Zone {
    slot: u32,
    policy: *const ZonePolicy,
    usage: *mut ZoneUsage,
}

impl Zone {
    #[inline(always)]
    fn find(key: u64) -> Result<Self, Refusal> {
        let slot = maps::slot(key).ok_or(Refusal::ZoneUnknown)?;
        match (maps::policy(slot), maps::usage(slot)) {
            (Some(policy), Some(usage)) => Ok(Self { slot, policy, usage }),
            _ => Err(Refusal::ZoneUnknown),
        }
    }

    /// The zone of a key, also if it has left the configuration while the socket is one of its live WebSockets: what was
    /// admitted can always be released.
    #[inline(always)]
    fn of_admitted(sk: *mut bpf_sock, key: u64) -> Result<Self, Refusal> {
        let (flags, slot) = known(tags::find(sk));
        if flags & ADMITTED != 0
            && let (Some(policy), Some(usage)) = (maps::policy(slot), maps::usage(slot))
        {
            // SAFETY: records live as long as their maps.
            if unsafe { atomic::load(&raw const (*policy).key) } == key {
                return Ok(Self { slot, policy, usage });
            }
        }
        Self::find(key)
    }

    /// The time by which leases end, if the zone may have some; else a time at which none holds. The clock is not read for
    /// zones without.
    #[inline(always)]
    fn lease_clock(&self, flags: u64) -> u64 {
        // SAFETY: the helper takes nothing.
        if flags & FLAG_LEASED != 0 { unsafe { bpf_ktime_get_boot_ns() } } else { u64::MAX }
    }

    /// Refused if the zone is blocked. Returns the time by which its leases end.
    #[inline(always)]
    fn check_open(&self) -> Result<u64, Refusal> {
        // SAFETY: records live as long as their maps.
        let flags = unsafe { atomic::load(&raw const (*self.policy).flags) };
        let now = self.lease_clock(flags);
        // SAFETY: as above.
        let blocked_until = unsafe { atomic::load(&raw const (*self.policy).leases.block_until_boot_ns) };
        if flags & FLAG_BLOCKED != 0 || blocked_until > now {
            return Err(Refusal::ZoneBlocked);
        }
        Ok(now)
    }

    /// A socket goes by its place among its source's at its birth, so that of many exactly as many pass as the cap says,
    /// whatever the order in which they are spoken for.
    #[inline(always)]
    fn check_source(&self, tag: Option<*mut SocketTag>) -> Result<(), Refusal> {
        let Some(tag) = tag else { return Ok(()) };
        // SAFETY: the tag lives as long as its socket, which is locked; records as long as their maps.
        let (flags, ordinal, cap) = unsafe {
            ((*tag).flags, (*tag).source_ordinal, atomic::load(&raw const (*self.policy).source_cap))
        };
        if flags & OVER_SOURCE_CAP != 0 || u64::from(ordinal) > cap {
            return Err(Refusal::SourceCap);
        }
        Ok(())
    }

    #[inline(always)]
    fn take_socket(&self) -> Result<(), Refusal> {
        // SAFETY: as above.
        unsafe {
            let cap = atomic::load(&raw const (*self.policy).socket_cap);
            books::raise_below(&raw mut (*self.usage).sockets, cap).ok_or(Refusal::SocketCap)?;
            atomic::increment(&raw mut (*self.usage).joined_total);
        }
        Ok(())
    }

    /// Below the lowest cap that is in force, which names the refusal.
    #[inline(always)]
    fn take_websocket(&self, now: u64) -> Result<u64, Refusal> {
        let (cap, refusal) = self.websocket_cap(now);
        // SAFETY: as above.
        books::raise_below(unsafe { &raw mut (*self.usage).websockets }, cap).ok_or(refusal)
    }

    #[inline(always)]
    fn websocket_cap(&self, now: u64) -> (u64, Refusal) {
        // SAFETY: as above.
        let (abuse_cap, leases) =
            unsafe { (atomic::load(&raw const (*self.policy).abuse_cap), &raw const (*self.policy).leases) };
        let mut lowest = (abuse_cap, Refusal::AbuseCap);
        if now == u64::MAX {
            return lowest;
        }
        // SAFETY: as above.
        let [limit_cap, limit_until, verdict_cap, verdict_until] = unsafe {
            [
                atomic::load(&raw const (*leases).limit_cap),
                atomic::load(&raw const (*leases).limit_until_boot_ns),
                atomic::load(&raw const (*leases).verdict_cap),
                atomic::load(&raw const (*leases).verdict_until_boot_ns),
            ]
        };
        if limit_until > now && limit_cap < lowest.0 {
            lowest = (limit_cap, Refusal::Limit);
        }
        if verdict_until > now && verdict_cap < lowest.0 {
            lowest = (verdict_cap, Refusal::Verdict);
        }
        lowest
    }

    /// An admission that stands: it may raise the high-water mark, and may be the one that crosses the guideline.
    #[inline(always)]
    fn admitted(&self, websockets: u64) {
        // SAFETY: as above.
        let guideline = unsafe {
            books::raise_peak(&raw mut (*self.usage).websockets_peak, websockets);
            atomic::increment(&raw mut (*self.usage).admitted_total);
            atomic::load(&raw const (*self.policy).guideline)
        };
        if websockets > guideline && websockets - 1 == guideline {
            events::above_guideline(self.policy, self.usage, websockets);
        }
    }

    #[inline(always)]
    fn refuse(&self, refusal: Refusal) {
        books::refused(self.usage, refusal);
        if refusal.is_admission() {
            // All are loaded before one is chosen: see `books::opaque`.
            // SAFETY: as above.
            let [socket_cap, abuse_cap, limit_cap, verdict_cap, source_cap] = unsafe {
                [
                    atomic::load(&raw const (*self.policy).socket_cap),
                    atomic::load(&raw const (*self.policy).abuse_cap),
                    atomic::load(&raw const (*self.policy).leases.limit_cap),
                    atomic::load(&raw const (*self.policy).leases.verdict_cap),
                    atomic::load(&raw const (*self.policy).source_cap),
                ]
            };
            let bound = match refusal {
                Refusal::SocketCap => socket_cap,
                Refusal::AbuseCap => abuse_cap,
                Refusal::Limit => limit_cap,
                Refusal::Verdict => verdict_cap,
                Refusal::SourceCap => source_cap,
                _ => 0,
            };
            events::refused(self.policy, self.usage, refusal, bound);
        }
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
fn attribute(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = known(tag);
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
fn admit(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = known(tag);
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
fn release(sk: *mut bpf_sock, zone: &Zone) -> Result<(), Refusal> {
    let tag = tags::find(sk);
    let (flags, slot) = known(tag);
    if flags & DEAD != 0 {
        return Err(Refusal::SocketClosed);
    }
    let (true, Some(tag)) = (flags & ADMITTED != 0, tag) else { return Err(Refusal::NotAdmitted) };
    if slot != zone.slot {
        return Err(Refusal::OtherZone);
    }
    // SAFETY: the tag lives as long as its socket, which is locked.
    unsafe { (*tag).flags = flags & !ADMITTED };
    books::end_websocket(zone.usage);
    Ok(())
}

/// The tag's content, or that of a socket that is not counted.
#[inline(always)]
fn known(tag: Option<*mut SocketTag>) -> (u32, u32) {
    match tag {
        // SAFETY: the tag lives as long as its socket, which is locked.
        Some(tag) => unsafe { ((*tag).flags, (*tag).slot) },
        None => (0, 0),
    }
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
    } else if fresh & ORIGIN_SIDE != 0 {
        fresh
    } else {
        // Connected before the agent came: its source is counted from here on.
        fresh | sources::join(tag, sources::remote(sk))
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
