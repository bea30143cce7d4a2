//! Why a connection was refused, and how a socket ended: one append-only list for kernel, metrics and API.
//!
//! The discriminants index counters in kernel maps, the labels are label values of metrics: neither is ever changed or
//! given to something else. New reasons go to the end.

/// Number of refusal counters in a zone's record and in the host's (a change raises the ABI version).
pub const REFUSALS: usize = 16;
/// Number of close counters in a map value.
pub const CLOSES: usize = 4;

/// Why the kernel refused an operation on a socket.
///
/// Numbers below [`REFUSALS`] are counted with the zone, those from there on with the host, because no zone can be
/// named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// An operator or a verdict has blocked the zone.
    ZoneBlocked = 0,
    /// The zone is at its cap of kernel sockets.
    SocketCap = 1,
    /// The zone is at its abuse cap of live WebSockets.
    AbuseCap = 2,
    /// The zone is at a limit that was agreed or announced in a dialogue.
    Limit = 3,
    /// The socket is closed, or listens.
    SocketClosed = 4,
    /// The socket is admitted already.
    AlreadyAdmitted = 5,
    /// The socket is not admitted, so there is nothing to release.
    NotAdmitted = 6,
    /// The socket is a live WebSocket of another zone.
    OtherZone = 7,
    /// The kernel could not keep books for the socket: out of memory.
    NoMemory = 8,
    /// The socket was connected before the agent came, and this kernel cannot follow it any more (below 6.12).
    CannotFollow = 9,
    /// The zone is at a cap that a verdict has put on it for a time.
    Verdict = 10,
    /// The client's source prefix is at its cap of live sockets.
    SourceCap = 11,
    /// No such zone is configured.
    ZoneUnknown = 16,
    /// The caller's uid may not speak for zones.
    CallerNotAllowed = 17,
    /// Not a TCP socket over IPv4 or IPv6.
    NotTcp = 18,
    /// The option value is not 8 bytes long.
    BadLength = 19,
    /// No such operation.
    UnknownOp = 20,
    /// The caller speaks another ABI version.
    AbiMismatch = 21,
}

impl Refusal {
    /// Every refusal, in the order of its number.
    pub const ALL: [Self; 18] = [
        Self::ZoneBlocked,
        Self::SocketCap,
        Self::AbuseCap,
        Self::Limit,
        Self::SocketClosed,
        Self::AlreadyAdmitted,
        Self::NotAdmitted,
        Self::OtherZone,
        Self::NoMemory,
        Self::CannotFollow,
        Self::Verdict,
        Self::SourceCap,
        Self::ZoneUnknown,
        Self::CallerNotAllowed,
        Self::NotTcp,
        Self::BadLength,
        Self::UnknownOp,
        Self::AbiMismatch,
    ];

    /// Index of the refusal's counter in the record that counts it.
    #[inline(always)]
    pub const fn counter(self) -> usize {
        self as usize % REFUSALS
    }

    /// The errno (Linux, all architectures that weir builds for) by which a caller learns of it. Each refusal that
    /// [turns a customer away](Self::is_admission) has one of its own, so that the customer can be told which it was.
    #[inline(always)]
    pub const fn errno(self) -> i32 {
        match self {
            Self::ZoneBlocked => 13,                                     // EACCES
            Self::SocketCap => 24,                                       // EMFILE
            Self::AbuseCap => 122,                                       // EDQUOT
            Self::Limit => 87,                                           // EUSERS
            Self::Verdict => 111,                                        // ECONNREFUSED
            Self::SourceCap => 28,                                       // ENOSPC
            Self::SocketClosed => 107,                                   // ENOTCONN
            Self::AlreadyAdmitted => 114,                                // EALREADY
            Self::NotAdmitted | Self::BadLength | Self::UnknownOp => 22, // EINVAL
            Self::OtherZone => 16,                                       // EBUSY
            Self::ZoneUnknown => 2,                                      // ENOENT
            Self::CallerNotAllowed => 1,                                 // EPERM
            Self::NotTcp | Self::CannotFollow => 95,                     // EOPNOTSUPP
            Self::NoMemory => 12,                                        // ENOMEM
            Self::AbiMismatch => 71,                                     // EPROTO
        }
    }

    /// The value of the `reason` label in metrics, and of `reason` in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ZoneBlocked => "zone_blocked",
            Self::SocketCap => "socket_cap",
            Self::AbuseCap => "abuse_cap",
            Self::Limit => "limit",
            Self::SocketClosed => "socket_closed",
            Self::AlreadyAdmitted => "already_admitted",
            Self::NotAdmitted => "not_admitted",
            Self::OtherZone => "other_zone",
            Self::ZoneUnknown => "zone_unknown",
            Self::CallerNotAllowed => "caller_not_allowed",
            Self::NotTcp => "not_tcp",
            Self::BadLength => "bad_length",
            Self::UnknownOp => "unknown_op",
            Self::NoMemory => "no_memory",
            Self::CannotFollow => "cannot_follow",
            Self::Verdict => "verdict",
            Self::AbiMismatch => "abi_mismatch",
            Self::SourceCap => "source_cap",
        }
    }

    /// The refusal of a number in an event.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| *refusal as u32 == raw)
    }

    /// True if the refusal is counted with the zone, false if with the host.
    #[inline(always)]
    pub const fn names_a_zone(self) -> bool {
        (self as usize) < REFUSALS
    }

    /// True if the zone's customer is turned away by it, rather than a caller that misuses the interface.
    pub const fn is_admission(self) -> bool {
        matches!(
            self,
            Self::ZoneBlocked
                | Self::SocketCap
                | Self::AbuseCap
                | Self::Limit
                | Self::Verdict
                | Self::SourceCap
        )
    }
}

/// How a counted socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// The peer sent the first FIN.
    Peer = 0,
    /// This host sent the first FIN.
    Local = 1,
    /// Without a FIN: a reset by either side, a time-out, or the process died with unread data.
    Abort = 2,
    /// The socket never was connected, or its connect failed.
    NeverConnected = 3,
}

impl Close {
    /// Every way to end, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Peer, Self::Local, Self::Abort, Self::NeverConnected];

    /// The value of the `reason` label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Local => "local",
            Self::Abort => "abort",
            Self::NeverConnected => "never_connected",
        }
    }
}
