//! What became of requests and tunnels: short lists that become label values, so never changed.

use http::StatusCode;

use crate::{observe::counters::Counter, request::reason::Reason};

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A tunnel begins: 101, or 200 to an extended CONNECT.
    Switched,
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// The client left before an answer.
    Gone,
}

impl Class {
    pub const ALL: [Self; 6] =
        [Self::Switched, Self::Success, Self::Redirection, Self::ClientError, Self::ServerError, Self::Gone];

    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Switched,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::Switched => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Gone => "gone",
        }
    }
}

/// Requests of one zone by class. It outlives a reload that keeps the zone.
#[derive(Debug, Default)]
pub(crate) struct Classes([Counter; Class::ALL.len()]);

impl Classes {
    pub fn add(&self, class: Class) {
        self.0[class as usize].add(1);
    }

    /// Those that occurred.
    pub fn seen(&self) -> impl Iterator<Item = (Class, u64)> {
        Class::ALL.into_iter().map(|class| (class, self.0[class as usize].get())).filter(|(_, n)| *n > 0)
    }
}

/// What an origin did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginError {
    Unreachable,
    ConnectTimeout,
    TlsFailed,
    ResponseTimeout,
    Failed,
    BadUpgrade,
}

impl OriginError {
    pub const ALL: [Self; 6] = [
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::ResponseTimeout,
        Self::Failed,
        Self::BadUpgrade,
    ];

    /// `None` if the reason is no fault of an origin.
    pub fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::OriginUnreachable => Some(Self::Unreachable),
            Reason::OriginConnectTimeout => Some(Self::ConnectTimeout),
            Reason::OriginTlsFailed => Some(Self::TlsFailed),
            Reason::OriginResponseTimeout => Some(Self::ResponseTimeout),
            Reason::OriginFailed => Some(Self::Failed),
            Reason::OriginBadUpgrade => Some(Self::BadUpgrade),
            _ => None,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsFailed => "tls_failed",
            Self::ResponseTimeout => "response_timeout",
            Self::Failed => "failed",
            Self::BadUpgrade => "bad_upgrade",
        }
    }
}

/// Why a tunnel ended, by the side that ended it. TCP's own view: what is in the stream, a WebSocket close too, is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// The client closed first, cleanly.
    Client,
    /// The origin closed first, cleanly.
    Origin,
    /// The client's connection broke.
    ClientFailed,
    /// The origin's connection broke.
    OriginFailed,
    /// A time limit passed.
    Timeout,
    /// The proxy left.
    Drain,
}

impl TunnelEnd {
    pub const ALL: [Self; 6] =
        [Self::Client, Self::Origin, Self::ClientFailed, Self::OriginFailed, Self::Timeout, Self::Drain];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Origin => "origin",
            Self::ClientFailed => "client_failed",
            Self::OriginFailed => "origin_failed",
            Self::Timeout => "timeout",
            Self::Drain => "drain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_origin_has_a_kind() {
        for reason in Reason::ALL {
            assert_eq!(OriginError::of(reason).is_some(), reason.is_of_origin(), "{}", reason.label());
        }
    }
}
