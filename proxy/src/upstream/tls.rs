//! TLS towards origins: TLS 1.2 and 1.3, `http/1.1` by ALPN, and a certificate that leads to the system's authorities or to
//! those of a file. There is no way to leave the check out.
//!
//! One client configuration for each set of authorities, and with it one memory of sessions: a session is resumed only where
//! the certificate that it began with was checked against the same authorities for the same name.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{
    CertificateDer, InvalidDnsNameError, ServerName,
    pem::{self, PemObject},
};
use tokio_rustls::TlsConnector;
use tracing::warn;
use weir_config::{Origin, OriginScheme, OriginTls};

use crate::downstream::certificates::provider;

/// Servers whose sessions are remembered, for each set of authorities.
const SESSIONS: usize = 4096;

/// The authorities that origins' certificates have to lead to cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not PEM: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} has no certificate: it needs one -----BEGIN CERTIFICATE----- block or more", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} has a certificate that cannot be trusted: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error(
        "this system has no certificates of authorities: install them (Debian: ca-certificates), or name a file in `origin_tls.ca`"
    )]
    NoneOfSystem,
    #[error("{name:?} can be no name in TLS: set `origin_tls.server_name`")]
    Name { name: String, source: InvalidDnsNameError },
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// A set of authorities, and how to do TLS with those who lead to it.
#[derive(Clone)]
pub(super) struct Trust {
    /// Different for every set.
    pub id: u64,
    authorities: Arc<[CertificateDer<'static>]>,
    pub connector: TlsConnector,
}

/// All that a configuration needs, by file; `None` is the system's.
#[derive(Clone, Default)]
pub(crate) struct Trusts(HashMap<Option<PathBuf>, Trust>);

impl Trusts {
    /// What an origin needs: `None` without TLS. Files are read once; a set that `previous` has too goes on being that one.
    pub(super) fn of(
        &mut self,
        origin: &Origin,
        tls: &OriginTls,
        previous: Option<&Self>,
    ) -> Result<Option<(Trust, ServerName<'static>)>, TrustError> {
        if origin.scheme == OriginScheme::Ws {
            return Ok(None);
        }
        let name = tls.server_name.as_ref().unwrap_or(&origin.host);
        let server = ServerName::try_from(name.clone())
            .map_err(|source| TrustError::Name { name: name.clone(), source })?;
        if let Some(trust) = self.0.get(&tls.ca) {
            return Ok(Some((trust.clone(), server)));
        }
        let (authorities, store) = match &tls.ca {
            Some(path) => of_file(path)?,
            None => of_system()?,
        };
        let known = previous.and_then(|previous| previous.0.get(&tls.ca));
        let trust = match known.filter(|known| *known.authorities == *authorities) {
            Some(known) => known.clone(),
            None => Trust::new(authorities, store)?,
        };
        self.0.insert(tls.ca.clone(), trust.clone());
        Ok(Some((trust, server)))
    }
}

impl Trust {
    fn new(authorities: Vec<CertificateDer<'static>>, store: RootCertStore) -> Result<Self, rustls::Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { id: NEXT.fetch_add(1, Relaxed), authorities: authorities.into(), connector })
    }
}

type Authorities = (Vec<CertificateDer<'static>>, RootCertStore);

fn of_file(path: &Path) -> Result<Authorities, TrustError> {
    let path = path.to_owned();
    let text = fs::read(&path).map_err(|source| TrustError::Read { path: path.clone(), source })?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|source| TrustError::Pem { path: path.clone(), source })?;
    if all.is_empty() {
        return Err(TrustError::NoCertificate { path });
    }
    let mut store = RootCertStore::empty();
    for certificate in &all {
        let added = store.add(certificate.clone());
        added.map_err(|source| TrustError::Unusable { path: path.clone(), source })?;
    }
    Ok((all, store))
}

fn of_system() -> Result<Authorities, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        warn!(%error, "a certificate of the system's authorities cannot be read");
    }
    let mut store = RootCertStore::empty();
    // One that rustls does not take is one authority less.
    let (added, _) = store.add_parsable_certificates(found.certs.iter().cloned());
    if added == 0 {
        return Err(TrustError::NoneOfSystem);
    }
    Ok((found.certs, store))
}
