//! A zone's certificate chain and key, read from PEM files and checked against each other, and its OCSP response.
//!
//! Files that look unchanged (device, inode, size, change time) are not read again: a reload of many zones is cheap, and keys
//! that only root may read stay usable after the proxy has become another user. A handshake keeps what it began with, so a
//! renewal touches no connection.

mod ocsp;

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tracing::{error, warn};
use weir_config::Tls;

use ocsp::Staple;

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
    key: Arc<CertifiedKey>,
    /// The same with an OCSP response, and until when that holds.
    stapled: Option<(Arc<CertifiedKey>, SystemTime)>,
    files: Tls,
    seen: Option<[FileState; 2]>,
    seen_staple: Option<FileState>,
}

/// The state of a file; equal states mean equal contents.
#[derive(Clone, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
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
    /// Reads the pair, or takes what is `known` of the same, unchanged files. An OCSP response that cannot be stapled is no
    /// fault, but is warned of.
    pub fn load(files: &Tls, known: Option<&Self>) -> Result<Self, CertificateError> {
        let known = known.filter(|known| known.files == *files);
        // Before reading, so that a change meanwhile is seen as a change by the next load.
        let seen = FileState::of(&files.cert).zip(FileState::of(&files.key)).map(|(cert, key)| [cert, key]);
        let seen_staple = FileState::of(&files.ocsp);
        let same = known.filter(|known| seen.is_some() && known.seen == seen);
        let key = match same {
            Some(known) if known.seen_staple == seen_staple => return Ok(known.clone()),
            Some(known) => known.key.clone(),
            None => Arc::new(read_pair(files)?),
        };
        let stapled = staple(&key, &files.ocsp);
        Ok(Self { key, stapled, files: files.clone(), seen, seen_staple })
    }

    /// As [`load`](Self::load), but if the files of `known` are not sound any more it stays in force, and that is logged:
    /// whoever renews a pair writes one file after the other. `whose` is for the log.
    pub fn renew(
        files: &Tls,
        known: Option<&Self>,
        whose: &dyn fmt::Display,
    ) -> Result<Self, CertificateError> {
        let known = known.filter(|known| known.files.cert == files.cert && known.files.key == files.key);
        match (Self::load(files, known), known) {
            (Err(error), Some(known)) => {
                error!(%error, "the certificate of {whose} is not renewed: the one before stays in force");
                Ok(known.clone())
            }
            (loaded, _) => loaded,
        }
    }

    /// What a handshake at this time is done with.
    pub fn at(&self, now: SystemTime) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, until)) if now < *until => stapled,
            _ => &self.key,
        }
    }
}

fn read_pair(files: &Tls) -> Result<CertifiedKey, CertificateError> {
    let chain = read_chain(&files.cert)?;
    let key = read_key(&files.key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| CertificateError::Unusable {
        cert: files.cert.clone(),
        key: files.key.clone(),
        source,
    })
}

fn staple(key: &CertifiedKey, path: &Path) -> Option<(Arc<CertifiedKey>, SystemTime)> {
    let leaf = key.cert.first()?;
    match Staple::load(path, leaf, SystemTime::now()) {
        Ok(staple) => staple
            .map(|Staple { der, until }| (Arc::new(CertifiedKey { ocsp: Some(der), ..key.clone() }), until)),
        Err(error) => {
            warn!(%error, "the OCSP response in {} is not stapled", path.display());
            None
        }
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
            let path = |name: &str| dir.path().join(name);
            let tls = Tls { cert: path("a.pem"), key: path("a.key"), ocsp: path("a.pem.ocsp") };
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

    /// Has openssl respond for the certificate, for a day from now.
    fn respond(files: &Files) {
        let openssl = |args: &[&str]| {
            let run = std::process::Command::new("openssl").args(args).current_dir(files.dir.path()).output();
            String::from_utf8(run.expect("openssl is needed for this test").stdout).expect("text")
        };
        let serial = openssl(&["x509", "-in", "a.pem", "-noout", "-serial"]);
        let serial = serial.trim().trim_start_matches("serial=");
        let index = format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN=a\n");
        fs::write(files.dir.path().join("index"), index).expect("written");
        let serial = format!("0x{serial}");
        let (pair, how) = (["-rsigner", "a.pem", "-rkey", "a.key"], ["-noverify", "-ndays", "1"]);
        let asked = ["-index", "index", "-CA", "a.pem", "-issuer", "a.pem", "-serial", &serial];
        openssl(&[&["ocsp", "-respout", "a.pem.ocsp"][..], &asked, &pair, &how].concat());
    }

    #[test]
    fn a_response_is_stapled_until_its_time_is_over_and_may_come_without_a_new_pair() {
        let day = std::time::Duration::from_secs(24 * 3600);
        let files = Files::of("a.example");
        let bare = Certificate::load(&files.tls, None).expect("loads");
        respond(&files);
        let stapled = Certificate::load(&files.tls, Some(&bare)).expect("loads");
        assert!(Arc::ptr_eq(&bare.key, &stapled.key), "the pair is not read again");
        let (now, later) = (SystemTime::now(), SystemTime::now() + day * 2);
        assert!(stapled.at(now).ocsp.is_some() && stapled.at(later).ocsp.is_none());
        let leaf = &bare.key.cert[0];
        let load = |at| Staple::load(&files.tls.ocsp, leaf, at).map(|staple| staple.is_some());
        assert!(load(now).expect("good"));
        assert!(load(later).is_err() && load(now - day).is_err(), "its time is not now");
        fs::remove_file(&files.tls.ocsp).expect("removed");
        let gone = Certificate::load(&files.tls, Some(&stapled)).expect("loads");
        assert!(gone.at(now).ocsp.is_none());
    }

    #[test]
    fn a_fault_names_its_file() {
        let files = Files::of("a.example");
        let missing = Tls { cert: files.dir.path().join("none.pem"), ..files.tls.clone() };
        assert!(error(&missing).contains("none.pem"));

        let swapped = Tls { cert: files.tls.key.clone(), key: files.tls.cert.clone(), ..files.tls.clone() };
        assert!(error(&swapped).contains("a.key has no certificate"));
        let no_key = Tls { key: files.tls.cert.clone(), ..files.tls.clone() };
        assert!(error(&no_key).contains("a.pem has no private key"));

        let other = Files::of("b.example");
        let mixed = Tls { key: other.tls.key.clone(), ..files.tls.clone() };
        assert!(error(&mixed).contains("cannot be used together"), "{}", error(&mixed));
    }
}
