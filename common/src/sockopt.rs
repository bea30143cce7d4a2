//! What a proxy says to the kernel: `setsockopt(fd, LEVEL, op, &value, 8)` on its own TCP socket.
//!
//! `value` is (but for the agent's own operation) a `u64` in native byte order: a [`ZoneKey`](crate::zone::ZoneKey), or for [`Op::Probe`] the caller's
//! ABI version. No capability is needed; the caller's uid must be one that the agent allows. Refusals come back as the
//! errno of [`Refusal::errno`](crate::reason::Refusal::errno). Without a loaded agent the kernel itself answers
//! `ENOPROTOOPT`.
//!
//! Minimum kernel: 5.18 (`bpf_set_retval`).

use crate::source::SourceKey;

/// The `level` of weir's socket options: ASCII `WEIR`, far from every level that the kernel uses.
pub const LEVEL: i32 = 0x5745_4952;

/// Length in bytes of a proxy's option value.
pub const VALUE_LEN: usize = 8;

/// The `optname`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Op {
    /// Does nothing but answer: 0 if accounting runs, speaks the caller's ABI version and allows the caller's uid.
    Probe = 0,
    /// The socket belongs to the zone: it counts in the zone's `sockets`, and nowhere else any more.
    ///
    /// Repeating it for the same zone changes nothing and succeeds.
    Attribute = 1,
    /// The socket is a live WebSocket of the zone, or (not connected yet) will carry one. Attributes it as well.
    Admit = 2,
    /// Takes [`Op::Admit`] back, for an upgrade that the origin declined. The socket stays attributed.
    Release = 3,
    /// The agent's own: a source's row is set right, by [`SourceCorrection`] as the value. No other user may.
    CorrectSource = 4,
}

/// What the audit found wrong with a source's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SourceCorrection {
    pub key: SourceKey,
    pub reserved: u32,
    /// Is added to `live`, wrapping. A row that counts nothing afterwards is deleted, also for 0.
    pub add: u64,
}

impl Op {
    /// The operation of an `optname`, if it is one of ours.
    #[inline(always)]
    pub const fn from_raw(optname: i32) -> Option<Self> {
        match optname {
            0 => Some(Self::Probe),
            1 => Some(Self::Attribute),
            2 => Some(Self::Admit),
            3 => Some(Self::Release),
            4 => Some(Self::CorrectSource),
            _ => None,
        }
    }
}
