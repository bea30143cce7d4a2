//! What a request has to pass before it is served: the rules of the host, then those of its zone.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{Managed, ManagedPool, RuleId};
use crate::condition::Condition;

/// `[firewall]`: the rules that every request of the host has to pass, and what zones share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFirewall {
    pub rules: Firewall,
    /// A MaxMind database with countries; default none. It exists when the configuration is checked; what is in it is the
    /// proxy's to read.
    pub geoip: Option<PathBuf>,
    /// With what managed rules are evaluated, whichever zone's.
    pub managed_pool: ManagedPool,
}

/// The rules of the host or of a zone, by stage. Within a stage they are asked in this order; no two have the same id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    pub access: Vec<AccessRule>,
    pub custom: Vec<CustomRule>,
    pub limits: Vec<RateLimit>,
    /// A zone's are the host's where the zone says nothing else; the host's are asked by none but zones.
    pub managed: Arc<Managed>,
}

/// `access`: what to do with clients of some networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    pub id: RuleId,
    pub action: AccessAction,
    /// In no order; IPv4 addresses are never written as mapped IPv6 ones.
    pub networks: Arc<[IpNet]>,
    pub dry_run: bool,
}

/// `action` of an access rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessAction {
    /// The request passes this list, whatever stands further down.
    Allow,
    Deny,
}

/// `rules`: a condition on the request, and what to do where it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomRule {
    pub id: RuleId,
    pub when: Condition,
    pub action: CustomAction,
    pub on_error: OnError,
    pub dry_run: bool,
}

/// `action` of a custom rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomAction {
    /// The request passes this list, whatever stands further down.
    Allow,
    /// The request is answered with a status from 400 to 599, default 403, and with a text instead of the problem if there is one.
    Block { status: u16, body: Option<Arc<str>> },
    /// A line in the log.
    Log,
}

/// `on_error`: what a condition is taken for that cannot be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    NotMatched,
    Matched,
}

/// `limits`: how many requests of one kind may pass in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub id: RuleId,
    /// Requests that agree in all of these share the rate. Never empty.
    pub key: Vec<LimitKey>,
    /// This many requests, at least 1, ...
    pub requests: u32,
    /// ... in each of these.
    pub window: Duration,
    /// This many may come at once; default `requests`.
    pub burst: u32,
    /// Keys that are told apart; further ones share one rate.
    pub max_keys: u32,
    /// How much of a client's address is its key; default 32 bits of IPv4, 64 of IPv6.
    pub v4_prefix: u8,
    pub v6_prefix: u8,
    pub dry_run: bool,
}

/// A part of `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// The prefix of the client's address.
    Client,
    Zone,
    /// The path without the query.
    Path,
    /// A header, its name in lower case.
    Header(String),
}

impl RateLimit {
    /// The network that a client is counted as.
    pub fn client(&self, address: IpAddr) -> IpNet {
        let length = if address.is_ipv4() { self.v4_prefix } else { self.v6_prefix };
        IpNet::new(address, length).map_or(IpNet::from(address), |network| network.trunc())
    }
}
