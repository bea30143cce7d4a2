//! A zone's certificate chain and key, read from PEM files and checked against each other.
//!
//! Files that look unchanged (device, inode, size, change time) are not read again: a reload of many zones is cheap, and keys
//! that only root may read stay usable after the proxy has become another user.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use weir_config::Tls;

/// Why a zone's certificate or key cannot be used. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}: {source}{}", path.display(), remedy(source))]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not PEM: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} has no certificate: it needs one -----BEGIN CERTIFICATE----- block or more, the zone's own first", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} has no private key: it needs a -----BEGIN PRIVATE KEY----- block", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate in {} and the key in {} cannot be used together: {source}", cert.display(), key.display())]
    Unusable { cert: PathBuf, key: PathBuf, source: rustls::Error },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (a changed file must be readable for the user of `proxy.user`)",
        _ => "",
    }
}

/// A loaded pair, and what its files looked like.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub key: Arc<CertifiedKey>,
    seen: Option<Seen>,
}

/// The state of both files; equal states mean equal contents.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    files: Tls,
    states: [FileState; 2],
}

#[derive(Clone, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Seen {
    fn now(files: &Tls) -> Option<Self> {
        Some(Self { files: files.clone(), states: [FileState::of(&files.cert)?, FileState::of(&files.key)?] })
    }
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Certificate {
    /// Reads the pair, or takes `known` if it is of the same, unchanged files.
    pub fn load(files: &Tls, known: Option<&Self>) -> Result<Self, CertificateError> {
        // Before reading, so that a change meanwhile is seen as a change by the next load.
        let seen = Seen::now(files);
        if let Some(known) = known.filter(|known| seen.is_some() && known.seen == seen) {
            return Ok(known.clone());
        }
        let chain = read_chain(&files.cert)?;
        let key = read_key(&files.key)?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|source| {
            CertificateError::Unusable { cert: files.cert.clone(), key: files.key.clone(), source }
        })?;
        Ok(Self { key: Arc::new(key), seen })
    }
}

/// The cryptography of both sides.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|source| CertificateError::Pem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| match source {
        pem::Error::NoItemsFound => CertificateError::NoKey { path: path.to_owned() },
        source => CertificateError::Pem { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
        tls: Tls,
    }

    impl Files {
        fn of(host: &str) -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
            let tls = Tls { cert: dir.path().join("a.pem"), key: dir.path().join("a.key") };
            fs::write(&tls.cert, made.cert.pem()).expect("written");
            fs::write(&tls.key, made.signing_key.serialize_pem()).expect("written");
            Self { dir, tls }
        }
    }

    fn error(tls: &Tls) -> String {
        Certificate::load(tls, None).map(|_| ()).expect_err("a fault").to_string()
    }

    #[test]
    fn an_unchanged_pair_is_not_read_again_and_a_changed_one_is() {
        let files = Files::of("a.example");
        let first = Certificate::load(&files.tls, None).expect("loads");
        let again = Certificate::load(&files.tls, Some(&first)).expect("loads");
        assert!(Arc::ptr_eq(&first.key, &again.key));

        let other = Files::of("a.example");
        fs::rename(&other.tls.cert, &files.tls.cert).expect("renamed");
        fs::rename(&other.tls.key, &files.tls.key).expect("renamed");
        let changed = Certificate::load(&files.tls, Some(&first)).expect("loads");
        assert_ne!(first.key.cert, changed.key.cert);
    }

    #[test]
    fn a_fault_names_its_file() {
        let files = Files::of("a.example");
        let missing = Tls { cert: files.dir.path().join("none.pem"), ..files.tls.clone() };
        assert!(error(&missing).contains("none.pem"));

        let swapped = Tls { cert: files.tls.key.clone(), key: files.tls.cert.clone() };
        assert!(error(&swapped).contains("a.key has no certificate"));
        let no_key = Tls { key: files.tls.cert.clone(), ..files.tls.clone() };
        assert!(error(&no_key).contains("a.pem has no private key"));

        let other = Files::of("b.example");
        let mixed = Tls { key: other.tls.key.clone(), ..files.tls.clone() };
        assert!(error(&mixed).contains("cannot be used together"), "{}", error(&mixed));
    }
}
