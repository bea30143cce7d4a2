//! What the gate does with a packet and why: one append-only list for the kernel, metrics and the API.
//!
//! The discriminants index counters in the kernel, the labels are label values of metrics: neither is ever changed or given to
//! something else. Reasons to pass are below [`FIRST_DROP`], reasons to drop from there on.

/// Number of counters (a change raises the ABI version).
pub const OUTCOMES: u32 = 32;
/// Number of the first reason to drop.
pub const FIRST_DROP: u32 = 8;

/// Room for reasons to drop that a zone is the cause of: a power of two, so that an index can be masked.
pub const ZONE_DROPS: usize = 4;

/// A rule that can drop, and that can be run dry: then it counts what it would have dropped, and lets it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Rule {
    /// The deny list.
    Deny = 0,
    /// Live sockets of a source prefix.
    SourceCap = 1,
    /// SYNs of a source prefix in time.
    SynRate = 2,
    /// The zone of a dedicated listener.
    Zone = 3,
}

impl Rule {
    /// Every rule, in the order in which the gate asks them.
    pub const ALL: [Self; 4] = [Self::Deny, Self::SourceCap, Self::SynRate, Self::Zone];

    /// The rule's bit in [`GatePolicy::dry`](crate::gate::GatePolicy::dry).
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::SourceCap => "source_cap",
            Self::SynRate => "syn_rate",
            Self::Zone => "zone",
        }
    }
}

/// How the gate came to let a packet pass, or to drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Outcome {
    /// It asks for no connection.
    NotSyn = 0,
    /// More IPv6 extension headers than are looked behind.
    Unread = 1,
    /// It asks for a connection to none of our listeners.
    NotOurs = 2,
    /// The source is on the allow list.
    Allowed = 3,
    /// No rule is against it.
    Clean = 4,
    /// The source is on the deny list by the configuration.
    DenyConfigured = 8,
    /// An operator has put the source on the deny list.
    DenyOperator = 9,
    /// A verdict has put the source on the deny list.
    DenyVerdict = 10,
    /// The source prefix is at its cap of live sockets.
    SourceCap = 11,
    /// The source prefix asks for connections more often than it may.
    SynRate = 12,
    /// The listener's zone is blocked.
    ZoneBlocked = 13,
    /// The listener's zone is at its cap of kernel sockets.
    SocketCap = 14,
    /// The listener's zone is at its cap of live WebSockets.
    WebsocketCap = 15,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub const ALL: [Self; 13] = [
        Self::NotSyn,
        Self::Unread,
        Self::NotOurs,
        Self::Allowed,
        Self::Clean,
        Self::DenyConfigured,
        Self::DenyOperator,
        Self::DenyVerdict,
        Self::SourceCap,
        Self::SynRate,
        Self::ZoneBlocked,
        Self::SocketCap,
        Self::WebsocketCap,
    ];

    /// The value of the `reason` label in metrics, and of `reason` in the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotSyn => "not_syn",
            Self::Unread => "unread",
            Self::NotOurs => "not_ours",
            Self::Allowed => "allowed",
            Self::Clean => "clean",
            Self::DenyConfigured => "deny_configured",
            Self::DenyOperator => "deny_operator",
            Self::DenyVerdict => "deny_verdict",
            Self::SourceCap => "source_cap",
            Self::SynRate => "syn_rate",
            Self::ZoneBlocked => "zone_blocked",
            Self::SocketCap => "socket_cap",
            Self::WebsocketCap => "websocket_cap",
        }
    }

    /// The rule that drops for this reason.
    #[inline(always)]
    pub const fn rule(self) -> Option<Rule> {
        match self {
            Self::NotSyn | Self::Unread | Self::NotOurs | Self::Allowed | Self::Clean => None,
            Self::DenyConfigured | Self::DenyOperator | Self::DenyVerdict => Some(Rule::Deny),
            Self::SourceCap => Some(Rule::SourceCap),
            Self::SynRate => Some(Rule::SynRate),
            Self::ZoneBlocked | Self::SocketCap | Self::WebsocketCap => Some(Rule::Zone),
        }
    }

    /// Index of the zone's counter for this reason, if it is one of a zone.
    #[inline(always)]
    pub const fn zone_drop(self) -> Option<usize> {
        match self {
            Self::ZoneBlocked | Self::SocketCap | Self::WebsocketCap => {
                Some(self as usize - Self::ZoneBlocked as usize)
            }
            _ => None,
        }
    }

    /// Index of the counter of packets that this was done to.
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        self as u32
    }

    /// Index of the counter of packets that would have been dropped.
    #[inline(always)]
    pub const fn dry_counter(self) -> u32 {
        OUTCOMES + self as u32
    }

    /// The outcome of a number in an event.
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| *outcome as u32 == raw)
    }
}
