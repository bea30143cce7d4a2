//! What a request is served by: one immutable snapshot of a configuration, swapped whole on reload.
//!
//! A snapshot is built completely, certificates read and parsed, before it takes effect: what fails leaves the old one. A
//! request keeps the snapshot that it began with; a tunnel needs none.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use http::HeaderValue;
use rustls::sign::CertifiedKey;
use weir_common::zone::ZoneKey;
use weir_config::{Config, HostIndex, Proxy, Zone, ZoneName};

use crate::{
    downstream::certificates::{Certificate, CertificateError},
    firewall::{
        Firewall, HostFirewallError, RuleCount, Rules, Shared,
        country::CountryError,
        managed::{
            library::CompileError,
            sets::{RuleSet, Sets},
        },
    },
    observe::outcome::Classes,
    upstream::{Builder, Endpoints, Group, Names, TrustError, Trusts},
};

/// A zone, ready to serve.
pub(crate) struct Route {
    pub zone: Arc<Zone>,
    pub key: ZoneKey,
    pub origins: Arc<Group>,
    /// The Host header for the origins, if it is not the client's.
    pub origin_host: Option<HeaderValue>,
    /// What its requests were answered.
    pub requests: Arc<Classes>,
    /// What the zone itself asks of a request.
    pub rules: Rules,
    certificate: Option<Certificate>,
}

impl Route {
    /// It has a certificate of its own, so that its connections are for no other zone.
    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }
}

/// What a handshake is done with.
pub(crate) enum Named<'a> {
    /// The zone of the name, if it has one of its own, or else `default_tls`.
    Zone(&'a Arc<Route>),
    /// No name, and `default_tls`: the zone is the one of each request's host.
    Nobody,
}

/// A configuration in the form that requests need.
pub(crate) struct Snapshot {
    index: HostIndex,
    routes: HashMap<ZoneName, Arc<Route>>,
    default_certificate: Option<Certificate>,
    /// What the host asks of a request.
    pub firewall: Firewall,
    /// For the next one.
    rule_sets: Vec<Arc<RuleSet>>,
    /// `[proxy]`. Its listeners and its user are those of the start.
    pub settings: Proxy,
    /// Who resolves the names of origins.
    pub names: Arc<Names>,
    endpoints: Arc<Endpoints>,
    trusts: Trusts,
}

/// A configuration that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    #[error("zone {zone}: {source}")]
    Certificate { zone: ZoneName, source: Box<CertificateError> },
    #[error("zone {zone}: {source}")]
    Trust { zone: ZoneName, source: Box<TrustError> },
    #[error("zone {zone}: {host:?} cannot be a Host header: correct `origin_host`")]
    OriginHost { zone: ZoneName, host: String },
    #[error("`default_tls` of [proxy]: {0}")]
    DefaultCertificate(#[source] Box<CertificateError>),
    #[error("geoip: {0}")]
    Country(#[from] CountryError),
    #[error(transparent)]
    Managed(#[from] CompileError),
    #[error("zone {zone}: {source}")]
    ZoneManaged { zone: ZoneName, source: CompileError },
}

impl From<HostFirewallError> for RoutesError {
    fn from(error: HostFirewallError) -> Self {
        match error {
            HostFirewallError::Country(error) => Self::Country(error),
            HostFirewallError::Managed(error) => Self::Managed(error),
        }
    }
}

impl Snapshot {
    /// Builds the routes of a configuration. Certificates whose files have not changed are taken from `previous`, and those
    /// whose files are not sound any more. What its rules have counted goes on.
    pub fn build(config: &Config, previous: Option<&Self>) -> Result<Self, RoutesError> {
        let sets = Sets::after(previous.map(|previous| &*previous.rule_sets));
        let mut shared = Shared { interned: Default::default(), sets };
        let before = previous.map(|previous| &previous.firewall);
        let firewall = Firewall::build(&config.firewall, before, &mut shared)?;
        let settings = config.proxy.clone();
        let endpoints = previous.map(|previous| previous.endpoints.clone()).unwrap_or_default();
        let mut origins = Builder::new(&settings, &endpoints, previous.map(|previous| &previous.trusts));
        let mut routes = HashMap::with_capacity(config.zones.len());
        for zone in &config.zones {
            let known = previous.and_then(|previous| previous.routes.get(&zone.name)).map(Arc::as_ref);
            routes.insert(zone.name.clone(), Arc::new(Route::build(zone, known, &mut origins, &mut shared)?));
        }
        let trusts = origins.finish();
        endpoints.tidy();
        let names = Names::of(&settings.resolvers, previous.map(|previous| &previous.names));
        let known = previous.and_then(|previous| previous.default_certificate.as_ref());
        let default = config.proxy.default_tls.as_ref();
        let default = default.map(|tls| Certificate::renew(tls, known, &"`default_tls`")).transpose();
        Ok(Self {
            index: HostIndex::new(&config.zones),
            routes,
            firewall,
            rule_sets: shared.sets.finish(),
            default_certificate: default
                .map_err(|source| RoutesError::DefaultCertificate(Box::new(source)))?,
            settings,
            names,
            endpoints,
            trusts,
        })
    }

    /// The route of a host as it comes in a Host header or SNI.
    pub fn find(&self, host: &str) -> Option<&Arc<Route>> {
        self.routes.get(&self.index.lookup(host)?.name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// What a handshake for `name` is done with; `None` if it cannot be done.
    pub fn named(&self, name: Option<&str>) -> Option<Named<'_>> {
        let has_default = self.default_certificate.is_some();
        match name {
            Some(name) => {
                self.find(name).filter(|route| route.has_certificate() || has_default).map(Named::Zone)
            }
            None => has_default.then_some(Named::Nobody),
        }
    }

    /// The certificate of [`named`](Self::named).
    pub fn certified_key(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let own = match self.named(name)? {
            Named::Zone(route) => route.certificate.as_ref(),
            Named::Nobody => None,
        };
        Some(own.or(self.default_certificate.as_ref())?.at(SystemTime::now()).clone())
    }

    /// What each rule of the host and of its zones has done.
    pub fn rule_counts(&self) -> Vec<RuleCount> {
        let zones = self.routes.values().flat_map(|route| route.rules.counts(Some(&route.zone.name)));
        self.firewall.rules.counts(None).into_iter().chain(zones).collect()
    }

    pub fn zones(&self) -> usize {
        self.routes.len()
    }
}

impl Route {
    /// `known` is the zone's route before.
    fn build(
        zone: &Arc<Zone>,
        known: Option<&Self>,
        origins: &mut Builder<'_>,
        shared: &mut Shared,
    ) -> Result<Self, RoutesError> {
        let certificate = known.and_then(|known| known.certificate.as_ref());
        let certificate = zone
            .tls
            .as_ref()
            .map(|tls| Certificate::renew(tls, certificate, &zone.name))
            .transpose()
            .map_err(|source| RoutesError::Certificate {
                zone: zone.name.clone(),
                source: Box::new(source),
            })?;
        let group = origins.group(zone, known.map(|known| &known.origins));
        let group = group
            .map_err(|source| RoutesError::Trust { zone: zone.name.clone(), source: Box::new(source) })?;
        let host = zone.origins.host.as_ref().map(|host| {
            HeaderValue::try_from(host)
                .map_err(|_| RoutesError::OriginHost { zone: zone.name.clone(), host: host.clone() })
        });
        let rules = Rules::build(&zone.firewall, known.map(|known| &known.rules), shared)
            .map_err(|source| RoutesError::ZoneManaged { zone: zone.name.clone(), source })?;
        Ok(Self {
            zone: zone.clone(),
            key: ZoneKey::of(zone.name.as_str()),
            origins: Arc::new(group),
            origin_host: host.transpose()?,
            requests: known.map(|known| known.requests.clone()).unwrap_or_default(),
            rules,
            certificate,
        })
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("zones", &self.zones()).finish_non_exhaustive()
    }
}
