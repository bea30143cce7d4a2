//! Certificates, and what is spoken with them.

use std::path::PathBuf;

/// A certificate chain and its key: PEM files, relative paths from the file that names them. They exist and are readable when
/// the configuration is checked; what is in them is the proxy's to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// An OCSP response in DER that is stapled as long as it is there and valid; default `cert` with `.ocsp` behind it.
    pub ocsp: PathBuf,
}

impl Tls {
    pub fn files(&self) -> [&PathBuf; 3] {
        [&self.cert, &self.key, &self.ocsp]
    }
}

/// `tls_min_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}
