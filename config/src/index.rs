//! From a host to its zone.

use std::{collections::HashMap, sync::Arc};

use crate::{
    host::normalise_host,
    model::{HostPattern, Zone},
};

/// Finds the zone of a host: the exact name first, then the longest wildcard above it.
///
/// A lookup takes time in the number of the host's labels, whatever the number of zones, and does not allocate for a name in
/// lower case.
#[derive(Clone, Debug, Default)]
pub struct HostIndex {
    exact: HashMap<Box<str>, Arc<Zone>>,
    /// By the name below the `*`.
    wildcard: HashMap<Box<str>, Arc<Zone>>,
}

impl HostIndex {
    /// Indexes the hosts of zones; a [`Config`](crate::Config) has each host once.
    pub fn new(zones: &[Arc<Zone>]) -> Self {
        let mut index = Self::default();
        for zone in zones {
            for host in &zone.hosts {
                let (map, name) = match host {
                    HostPattern::Exact(name) => (&mut index.exact, name),
                    HostPattern::Wildcard(parent) => (&mut index.wildcard, parent),
                };
                map.insert(name.as_str().into(), zone.clone());
            }
        }
        index
    }

    /// The zone of a host as it comes in a Host header, `:authority` or SNI. `None` as well for what is no host.
    pub fn lookup(&self, host: &str) -> Option<&Arc<Zone>> {
        let host = normalise_host(host)?;
        if let Some(zone) = self.exact.get(&*host) {
            return Some(zone);
        }
        let mut rest: &str = &host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(zone) = self.wildcard.get(parent) {
                return Some(zone);
            }
            rest = parent;
        }
        None
    }
}
