//! What a request is served by: one immutable snapshot of a configuration, swapped whole on reload.
//!
//! A snapshot is built completely, certificates read and parsed, before it takes effect: what fails leaves the old one. A
//! request keeps the snapshot that it began with; a tunnel needs none.

use std::{collections::HashMap, fmt, sync::Arc};

use rustls::sign::CertifiedKey;
use weir_common::zone::ZoneKey;
use weir_config::{Config, HostIndex, Proxy, Zone, ZoneName};

use crate::{
    downstream::certificates::{Certificate, CertificateError},
    observe::outcome::Classes,
    upstream::Origin,
};

/// A zone, ready to serve.
pub(crate) struct Route {
    pub zone: Arc<Zone>,
    pub key: ZoneKey,
    pub origin: Origin,
    /// What its requests were answered.
    pub requests: Arc<Classes>,
    certificate: Option<Certificate>,
}

impl Route {
    pub fn certified_key(&self) -> Option<&Arc<CertifiedKey>> {
        self.certificate.as_ref().map(|certificate| &certificate.key)
    }
}

/// A configuration in the form that requests need.
pub(crate) struct Snapshot {
    index: HostIndex,
    routes: HashMap<ZoneName, Arc<Route>>,
    /// `[proxy]`. Its listeners and its user are those of the start.
    pub settings: Proxy,
}

/// A configuration that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    #[error("zone {zone}: {source}")]
    Certificate { zone: ZoneName, source: Box<CertificateError> },
    #[error(
        "zone {zone}: the origin's host {host:?} cannot stand in a URL: write a DNS name or an IP address"
    )]
    Origin { zone: ZoneName, host: String },
}

impl Snapshot {
    /// Builds the routes of a configuration. Certificates whose files have not changed are taken from `previous`.
    pub fn build(config: &Config, previous: Option<&Self>) -> Result<Self, RoutesError> {
        let mut routes = HashMap::with_capacity(config.zones.len());
        for zone in &config.zones {
            let known = previous.and_then(|previous| previous.routes.get(&zone.name)).map(Arc::as_ref);
            routes.insert(zone.name.clone(), Arc::new(Route::build(zone, known)?));
        }
        Ok(Self { index: HostIndex::new(&config.zones), routes, settings: config.proxy.clone() })
    }

    /// The route of a host as it comes in a Host header or SNI.
    pub fn find(&self, host: &str) -> Option<&Arc<Route>> {
        self.routes.get(&self.index.lookup(host)?.name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    pub fn zones(&self) -> usize {
        self.routes.len()
    }
}

impl Route {
    /// `known` is the zone's route before.
    fn build(zone: &Arc<Zone>, known: Option<&Self>) -> Result<Self, RoutesError> {
        let requests = known.map(|known| known.requests.clone()).unwrap_or_default();
        let known = known.and_then(|known| known.certificate.as_ref());
        let certificate =
            zone.tls.as_ref().map(|tls| Certificate::load(tls, known)).transpose().map_err(|source| {
                RoutesError::Certificate { zone: zone.name.clone(), source: Box::new(source) }
            })?;
        let origin = Origin::new(&zone.origin.host, zone.origin.port)
            .ok_or_else(|| RoutesError::Origin { zone: zone.name.clone(), host: zone.origin.host.clone() })?;
        Ok(Self { zone: zone.clone(), key: ZoneKey::of(zone.name.as_str()), origin, requests, certificate })
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("zones", &self.zones()).finish_non_exhaustive()
    }
}
