//! Whose certificates are believed: those of a file, or the system's.

use std::{fs, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::WayError;

/// The certificates of a PEM file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WayError> {
    let pem = fs::read(path).map_err(|source| WayError::File { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| WayError::Certificates { path: path.to_owned() })
}

/// The system's certificates; faulty ones among them are left out.
pub fn system() -> Result<Vec<CertificateDer<'static>>, WayError> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let why = loaded.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(WayError::SystemCertificates { why });
    }
    Ok(loaded.certs)
}

pub fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, WayError> {
    let trusted = ca.map_or_else(system, certificates)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| WayError::Tls { why: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
