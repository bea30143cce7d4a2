//! What became of requests and tunnels: short lists that become label values, so never changed.

use http::StatusCode;

use crate::{observe::counters::Counter, request::reason::Reason, upstream::DialError};

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
    /// Its name has no address, or the DNS does not answer.
    NameFailed,
    Unreachable,
    ConnectTimeout,
    TlsFailed,
    ResponseTimeout,
    Failed,
    BadUpgrade,
}

impl OriginError {
    pub const ALL: [Self; 7] = [
        Self::NameFailed,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::ResponseTimeout,
        Self::Failed,
        Self::BadUpgrade,
    ];

    /// Of a connection that did not come up, whether or not another origin then took the request. `None` if that was no fault of
    /// the origin's.
    pub fn of_dial(error: &DialError) -> Option<Self> {
        match error {
            _ if error.is_of_host() => None,
            DialError::Timeout => Some(Self::ConnectTimeout),
            DialError::Resolve(_) => Some(Self::NameFailed),
            DialError::Connect(_) => Some(Self::Unreachable),
            DialError::Tls(_) => Some(Self::TlsFailed),
        }
    }

    /// Of a connection that was there. `None` if the reason is no fault of the origin's, or one of [`Self::of_dial`].
    pub fn of_answer(reason: Reason) -> Option<Self> {
        match reason {
            Reason::OriginResponseTimeout => Some(Self::ResponseTimeout),
            Reason::OriginFailed => Some(Self::Failed),
            Reason::OriginBadUpgrade => Some(Self::BadUpgrade),
            _ => None,
        }
    }

    pub const fn label(self) -> &'static str {
        match self {
            Self::NameFailed => "name_failed",
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
    fn what_is_of_the_origin_has_one_kind() {
        let error = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let dials = [
            DialError::Timeout,
            DialError::Resolve(error()),
            DialError::Connect(error()),
            DialError::Tls(error()),
        ];
        let dials: Vec<Reason> = dials
            .iter()
            .map(|error| {
                assert!(OriginError::of_dial(error).is_some(), "{error}");
                error.reason()
            })
            .collect();
        for reason in Reason::ALL {
            let kinds =
                u32::from(dials.contains(&reason)) + u32::from(OriginError::of_answer(reason).is_some());
            assert_eq!(kinds, u32::from(reason.is_of_origin()), "{}", reason.label());
        }
        let exhausted = DialError::Connect(std::io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(OriginError::of_dial(&exhausted), None);
    }
}
