//! Why weir answers a request itself: one list, each reason with its label, status and words.
//!
//! A label is `reason` in the answer's body and names the reason's counter; labels are never changed or given to something
//! else. What the kernel refuses keeps the kernel's label (`weir_common::reason`).

use http::StatusCode;
use weir_common::reason::Refusal as KernelRefusal;

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ZoneBlocked,
    SocketCap,
    AbuseCap,
    Limit,
    Verdict,
    SourceCap,
    AccountingUnavailable,
    /// No Host, several, or one that is none.
    BadHost,
    /// A request target that is neither a path nor a URL of this host.
    BadTarget,
    /// An absolute request target and the Host header name different hosts.
    TargetHostMismatch,
    /// An upgrade request with content: there is nothing that could be done with it.
    UpgradeWithContent,
    /// An upgrade request that does not ask for version 13, the only one that there is.
    WebsocketVersion,
    /// An upgrade request without a proper `Sec-WebSocket-Key`.
    BadWebsocketKey,
    /// `CONNECT`.
    MethodNotSupported,
    /// No zone has the host.
    HostUnknown,
    /// The host is another zone's than the one that the TLS handshake named.
    HostNotOfConnection,
    /// The request's content has a transfer coding besides `chunked`.
    CodingNotSupported,
    /// The request's content broke off, or is not framed as HTTP.
    BadContent,
    /// The host has no descriptor, memory or local port left for a connection to the origin.
    HostExhausted,
    /// The request has passed this proxy before, as often as it may.
    Loop,
    /// The client did not send its request's content in time.
    RequestTimeout,
    OriginUnreachable,
    OriginConnectTimeout,
    /// No TLS with the origin: its certificate is not accepted, or the handshake failed.
    OriginTlsFailed,
    OriginResponseTimeout,
    /// The origin closed the connection, or what it sent is not HTTP.
    OriginFailed,
    /// The origin answered 101 without the `Upgrade` and `Connection` that make it a WebSocket, or to a plain request.
    OriginBadUpgrade,
    /// A list of the firewall denies the client's network.
    FirewallDenied,
    /// A rule of the firewall blocks the request. The rule's own status may be another.
    FirewallRule,
    /// A limit of the firewall is exceeded.
    RateLimited,
    /// The managed rules of the firewall object to the request.
    FirewallManaged,
    /// The managed rules could not be asked in time.
    FirewallBusy,
}

impl Reason {
    pub const ALL: [Self; 32] = [
        Self::ZoneBlocked,
        Self::SocketCap,
        Self::AbuseCap,
        Self::Limit,
        Self::Verdict,
        Self::SourceCap,
        Self::AccountingUnavailable,
        Self::BadHost,
        Self::BadTarget,
        Self::TargetHostMismatch,
        Self::UpgradeWithContent,
        Self::WebsocketVersion,
        Self::BadWebsocketKey,
        Self::MethodNotSupported,
        Self::HostUnknown,
        Self::HostNotOfConnection,
        Self::CodingNotSupported,
        Self::BadContent,
        Self::HostExhausted,
        Self::Loop,
        Self::RequestTimeout,
        Self::OriginUnreachable,
        Self::OriginConnectTimeout,
        Self::OriginTlsFailed,
        Self::OriginResponseTimeout,
        Self::OriginFailed,
        Self::OriginBadUpgrade,
        Self::FirewallDenied,
        Self::FirewallRule,
        Self::RateLimited,
        Self::FirewallManaged,
        Self::FirewallBusy,
    ];

    /// The reason of a kernel refusal that turns a zone away; what is none means that the books are not to be had.
    pub fn of_kernel(refusal: KernelRefusal) -> Self {
        match refusal {
            KernelRefusal::ZoneBlocked => Self::ZoneBlocked,
            KernelRefusal::SocketCap => Self::SocketCap,
            KernelRefusal::AbuseCap => Self::AbuseCap,
            KernelRefusal::Limit => Self::Limit,
            KernelRefusal::Verdict => Self::Verdict,
            KernelRefusal::SourceCap => Self::SourceCap,
            KernelRefusal::SocketClosed
            | KernelRefusal::AlreadyAdmitted
            | KernelRefusal::NotAdmitted
            | KernelRefusal::OtherZone
            | KernelRefusal::ZoneUnknown
            | KernelRefusal::CallerNotAllowed
            | KernelRefusal::NotTcp
            | KernelRefusal::BadLength
            | KernelRefusal::UnknownOp
            | KernelRefusal::NoMemory
            | KernelRefusal::CannotFollow
            | KernelRefusal::AbiMismatch => Self::AccountingUnavailable,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::ZoneBlocked => KernelRefusal::ZoneBlocked.label(),
            Self::SocketCap => KernelRefusal::SocketCap.label(),
            Self::AbuseCap => KernelRefusal::AbuseCap.label(),
            Self::Limit => KernelRefusal::Limit.label(),
            Self::Verdict => KernelRefusal::Verdict.label(),
            Self::SourceCap => KernelRefusal::SourceCap.label(),
            Self::AccountingUnavailable => "accounting_unavailable",
            Self::BadHost => "bad_host",
            Self::BadTarget => "bad_target",
            Self::TargetHostMismatch => "target_host_mismatch",
            Self::UpgradeWithContent => "upgrade_with_content",
            Self::WebsocketVersion => "websocket_version_not_supported",
            Self::BadWebsocketKey => "bad_websocket_key",
            Self::MethodNotSupported => "method_not_supported",
            Self::HostUnknown => "host_unknown",
            Self::HostNotOfConnection => "host_not_of_connection",
            Self::CodingNotSupported => "transfer_coding_not_supported",
            Self::BadContent => "bad_content",
            Self::HostExhausted => "host_exhausted",
            Self::Loop => "loop",
            Self::RequestTimeout => "request_timeout",
            Self::OriginUnreachable => "origin_unreachable",
            Self::OriginConnectTimeout => "origin_connect_timeout",
            Self::OriginTlsFailed => "origin_tls_failed",
            Self::OriginResponseTimeout => "origin_response_timeout",
            Self::OriginFailed => "origin_failed",
            Self::OriginBadUpgrade => "origin_bad_upgrade",
            Self::FirewallDenied => "firewall_denied",
            Self::FirewallRule => "firewall_rule",
            Self::RateLimited => "rate_limited",
            Self::FirewallManaged => "firewall_managed",
            Self::FirewallBusy => "firewall_busy",
        }
    }

    pub const fn status(self) -> StatusCode {
        match self {
            Self::ZoneBlocked | Self::FirewallDenied | Self::FirewallRule | Self::FirewallManaged => {
                StatusCode::FORBIDDEN
            }
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::SocketCap
            | Self::AbuseCap
            | Self::Limit
            | Self::Verdict
            | Self::SourceCap
            | Self::AccountingUnavailable
            | Self::HostExhausted
            | Self::FirewallBusy => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadHost
            | Self::BadTarget
            | Self::TargetHostMismatch
            | Self::UpgradeWithContent
            | Self::BadWebsocketKey
            | Self::BadContent => StatusCode::BAD_REQUEST,
            Self::WebsocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::MethodNotSupported | Self::CodingNotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::HostUnknown | Self::HostNotOfConnection => StatusCode::MISDIRECTED_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::OriginUnreachable | Self::OriginTlsFailed | Self::OriginFailed | Self::OriginBadUpgrade => {
                StatusCode::BAD_GATEWAY
            }
            Self::OriginConnectTimeout | Self::OriginResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::ZoneBlocked => "This zone is blocked",
            Self::SocketCap => "This zone has too many connections",
            Self::AbuseCap | Self::Limit | Self::Verdict => "This zone has too many WebSockets",
            Self::SourceCap => "Too many connections from one network",
            Self::AccountingUnavailable => "Connections cannot be accounted for",
            Self::BadHost => "The Host header is not usable",
            Self::BadTarget => "The request target is not usable",
            Self::TargetHostMismatch => "The request target contradicts the Host header",
            Self::UpgradeWithContent => "An upgrade request cannot have content",
            Self::WebsocketVersion => "The version of WebSocket is not supported",
            Self::BadWebsocketKey => "The key of the WebSocket is not usable",
            Self::MethodNotSupported => "The method is not supported",
            Self::HostUnknown => "No such host is served here",
            Self::HostNotOfConnection => "This connection is for another host",
            Self::CodingNotSupported => "The transfer coding is not supported",
            Self::BadContent => "The request's content is not usable",
            Self::HostExhausted => "This host has no room for another connection",
            Self::Loop => "The request goes round in circles",
            Self::RequestTimeout => "The request was not sent in time",
            Self::OriginUnreachable => "The origin cannot be reached",
            Self::OriginConnectTimeout => "The origin did not accept the connection in time",
            Self::OriginTlsFailed => "The origin cannot be reached securely",
            Self::OriginResponseTimeout => "The origin did not answer in time",
            Self::OriginFailed => "The origin did not answer properly",
            Self::OriginBadUpgrade => "The origin did not upgrade properly",
            Self::FirewallDenied => "This network is not let in",
            Self::FirewallRule => "The request is not let in",
            Self::RateLimited => "Too many requests",
            Self::FirewallManaged => "The request is not let in",
            Self::FirewallBusy => "The request could not be looked at",
        }
    }

    pub const fn detail(self) -> &'static str {
        match self {
            Self::ZoneBlocked => "An operator or a verdict has blocked the zone on this host.",
            Self::SocketCap => "The zone is at its cap of connections on this host. Try again later.",
            Self::AbuseCap => {
                "The zone is at its abuse cap of live WebSockets on this host. Try again later."
            }
            Self::Limit => {
                "The zone is at its agreed limit of live WebSockets on this host. Try again later."
            }
            Self::Verdict => {
                "The zone is at a cap of live WebSockets that was put on it for a time, as abuse is suspected. Try again later."
            }
            Self::SourceCap => {
                "This host has as many connections from your address or network as it takes. Close some, or try again later."
            }
            Self::AccountingUnavailable => "The host cannot keep count of this connection. Try again later.",
            Self::BadHost => "A request needs exactly one Host header with a host name or address.",
            Self::BadTarget => "Send a path, or an absolute http or https URL without user information.",
            Self::TargetHostMismatch => {
                "An absolute request target and the Host header have to name the same host and port."
            }
            Self::UpgradeWithContent => {
                "Send the upgrade request without Content-Length and Transfer-Encoding."
            }
            Self::WebsocketVersion => "Send exactly one Sec-WebSocket-Version, with 13.",
            Self::BadWebsocketKey => "Send exactly one Sec-WebSocket-Key, with 16 bytes in base64.",
            Self::MethodNotSupported => "CONNECT is not served here.",
            Self::HostUnknown => {
                "Check the name in the DNS and in the URL: it points here, but no zone is configured for it."
            }
            Self::HostNotOfConnection => {
                "The TLS handshake named a host of another zone. Open a connection for this one."
            }
            Self::CodingNotSupported => "Send the content with no transfer coding but one chunked.",
            Self::BadContent => "The content broke off, or its chunks are not framed as HTTP/1.1 has it.",
            Self::HostExhausted => {
                "The host is out of descriptors, memory or ports for connections to origins. Try again later."
            }
            Self::Loop => {
                "The zone's origin, or what is behind it, sends requests back here. Point the zone at its real origin."
            }
            Self::RequestTimeout => "The content of the request stopped coming.",
            Self::OriginUnreachable => "The zone's origin refused the connection or has no usable address.",
            Self::OriginConnectTimeout => {
                "No connection to the zone's origin came up within the connect timeout."
            }
            Self::OriginTlsFailed => {
                "The certificate of the zone's origin is not accepted, or its TLS handshake failed."
            }
            Self::OriginResponseTimeout => {
                "The zone's origin sent no response headers within the response timeout."
            }
            Self::OriginFailed => {
                "The zone's origin closed the connection early, or sent what is not HTTP/1.1."
            }
            Self::OriginBadUpgrade => "The zone's origin sent 101 where it makes no WebSocket.",
            Self::FirewallDenied => "A list of networks has the client's address, or lacks it.",
            Self::FirewallRule => "A rule of the firewall blocks it.",
            Self::RateLimited => "Come back after the time in Retry-After.",
            Self::FirewallManaged => "It looks like an attack to the rules of the firewall.",
            Self::FirewallBusy => "This host has too many requests to look at. Try again later.",
        }
    }

    /// True where it is the origin that failed.
    pub const fn is_of_origin(self) -> bool {
        matches!(
            self,
            Self::OriginUnreachable
                | Self::OriginConnectTimeout
                | Self::OriginTlsFailed
                | Self::OriginResponseTimeout
                | Self::OriginFailed
                | Self::OriginBadUpgrade
        )
    }

    /// True where coming back later helps, so that `Retry-After` is sent.
    pub const fn is_passing(self) -> bool {
        matches!(
            self,
            Self::SocketCap
                | Self::AbuseCap
                | Self::Limit
                | Self::Verdict
                | Self::SourceCap
                | Self::AccountingUnavailable
                | Self::HostExhausted
                | Self::FirewallBusy
        )
    }

    /// True where the connection is better given back than kept open.
    pub const fn closes(self) -> bool {
        self.is_passing()
            || matches!(
                self,
                Self::ZoneBlocked
                    | Self::FirewallDenied
                    | Self::RequestTimeout
                    | Self::UpgradeWithContent
                    | Self::WebsocketVersion
                    | Self::BadWebsocketKey
                    | Self::CodingNotSupported
                    | Self::BadContent
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_in_the_order_of_their_counters() {
        let mut seen = std::collections::HashSet::new();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert!(seen.insert(reason.label()), "{}", reason.label());
        }
    }

    #[test]
    fn the_reference_has_every_reason_with_its_status() {
        let reference = include_str!("../../../docs/proxy.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.label(), reason.status().as_u16());
            assert!(reference.contains(&row), "docs/proxy.md has no {row}");
        }
    }
}
