//! Connections to origins.
//!
//! A zone has a [`Group`] of origins, each of which is reached by an [`Endpoint`]: its name is resolved, an address connected
//! to, a PROXY protocol header sent if the zone wants one, and TLS set up. One way to dial, for upgrades (a connection each)
//! and for the [`Pool`] of plain requests. Whoever asked tells the [`Member`] of the group what came of it.

mod endpoint;
mod group;
mod health;
mod introduction;
mod names;
mod pool;
mod pooled;
mod stream;
mod tls;

use std::{io, sync::Arc};

use weir_config::{Proxy, Zone};

pub(crate) use endpoint::{Call, Endpoint, Endpoints};
pub(crate) use group::{Group, Member};
pub(crate) use introduction::Introduction;
pub(crate) use names::Names;
pub(crate) use pool::{Pool, Reuse};
pub(crate) use pooled::{Pooled, has_answered, mark_answered};
pub(crate) use stream::Stream;
pub use tls::TrustError;
pub(crate) use tls::Trusts;

use crate::request::reason::Reason;

/// The longest head that an origin may send, and what is read of its answer at a time: a client that takes nothing has the
/// proxy hold a few times as much. Bytes.
pub(crate) const MAX_HEAD: usize = 32 * 1024;

/// No connection to an origin came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("no connection within the connect timeout")]
    Timeout,
    #[error("cannot resolve the origin's name: {0}")]
    Resolve(#[source] io::Error),
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("{kind}: {0}", kind = of_tls(.0))]
    Tls(#[source] io::Error),
}

/// What a failed handshake is a case of, for the log.
fn of_tls(error: &io::Error) -> &'static str {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match fault {
        Some(rustls::Error::InvalidCertificate(_)) => "the origin's certificate is not accepted",
        Some(_) => "no TLS with the origin",
        None => "the origin broke off the TLS handshake",
    }
}

/// Why a caller has no connection.
#[derive(Debug)]
pub(crate) enum Unconnected<E> {
    Dial(DialError),
    /// What the caller's `on_socket` said.
    OnSocket(E),
}

impl<E> From<DialError> for Unconnected<E> {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl DialError {
    fn of_name(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Timeout } else { Self::Resolve(error) }
    }

    pub fn reason(&self) -> Reason {
        match self {
            _ if self.is_of_host() => Reason::HostExhausted,
            Self::Timeout => Reason::OriginConnectTimeout,
            Self::Resolve(_) | Self::Connect(_) => Reason::OriginUnreachable,
            Self::Tls(_) => Reason::OriginTlsFailed,
        }
    }

    /// True for want of descriptors, memory or local ports: no fault of the origin.
    pub fn is_of_host(&self) -> bool {
        use libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
        let (Self::Resolve(error) | Self::Connect(error) | Self::Tls(error)) = self else { return false };
        error
            .raw_os_error()
            .is_some_and(|errno| [EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL].contains(&errno))
    }

    /// Another origin may do better, and there is time left to ask it.
    pub fn is_for_another(&self) -> bool {
        !matches!(self, Self::Timeout) && !self.is_of_host()
    }
}

/// Builds the groups of a configuration's zones, with what the groups before know.
pub(crate) struct Builder<'a> {
    endpoints: &'a Endpoints,
    trusts: Trusts,
    previous: Option<&'a Trusts>,
    rule: health::Rule,
}

impl<'a> Builder<'a> {
    pub fn new(settings: &Proxy, endpoints: &'a Endpoints, previous: Option<&'a Trusts>) -> Self {
        let rule =
            health::Rule { max_fails: settings.origin_max_fails, timeout: settings.origin_fail_timeout };
        Self { endpoints, trusts: Trusts::default(), previous, rule }
    }

    pub fn group(&mut self, zone: &Zone, previous: Option<&Arc<Group>>) -> Result<Group, TrustError> {
        let origins = &zone.origins;
        let mut endpoints = Vec::with_capacity(origins.list.len());
        for origin in &origins.list {
            let tls = self.trusts.of(origin, &origins.tls, self.previous)?;
            endpoints.push(self.endpoints.get(&origin.host, origin.port, tls, origins.send_proxy_protocol));
        }
        Ok(Group::new(&zone.name, endpoints, self.rule, previous.map(Arc::as_ref)))
    }

    /// What the next configuration is built from.
    pub fn finish(self) -> Trusts {
        self.trusts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_or_ports_is_not_the_origins_fault() {
        for (errno, reason, another) in [
            (libc::EMFILE, Reason::HostExhausted, false),
            (libc::EADDRNOTAVAIL, Reason::HostExhausted, false),
            (libc::ECONNREFUSED, Reason::OriginUnreachable, true),
        ] {
            let error = DialError::Connect(io::Error::from_raw_os_error(errno));
            assert_eq!((error.reason(), error.is_for_another()), (reason, another));
        }
        assert!(!DialError::Timeout.is_for_another(), "no time is left");
    }
}
