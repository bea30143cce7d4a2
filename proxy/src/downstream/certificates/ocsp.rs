//! An OCSP response from a file, to be stapled to the handshake (RFC 6066, 8).
//!
//! It is stapled only while it helps: it says `good` of this certificate, and its time has come and is not over. Anything
//! else would have clients refuse a certificate that they take without it. Its signature is the clients' to check.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use x509_cert::{Certificate, der::Decode};
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspResponse, OcspResponseStatus};

/// A response that may be stapled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staple {
    pub der: Vec<u8>,
    /// It is not to be stapled from then on.
    pub until: SystemTime,
}

/// Why a response is not stapled.
#[derive(Debug, thiserror::Error)]
pub(super) enum StapleError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is no OCSP response in DER: {0}")]
    Der(#[from] x509_cert::der::Error),
    #[error("the responder answered {0:?}")]
    Status(OcspResponseStatus),
    #[error("it says nothing of this certificate")]
    OtherCertificate,
    #[error("it does not say that the certificate is good")]
    NotGood,
    #[error("it does not say until when it holds")]
    Endless,
    #[error("its time is not now: fetch a new one")]
    OutOfTime,
}

impl Staple {
    /// Reads the response for `leaf`; `None` if there is no such file.
    pub fn load(
        path: &Path,
        leaf: &CertificateDer<'_>,
        now: SystemTime,
    ) -> Result<Option<Self>, StapleError> {
        match fs::read(path) {
            Ok(der) => Self::read(der, leaf, now).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(der: Vec<u8>, leaf: &CertificateDer<'_>, now: SystemTime) -> Result<Self, StapleError> {
        let response = OcspResponse::from_der(&der)?;
        if response.response_status != OcspResponseStatus::Successful {
            return Err(StapleError::Status(response.response_status));
        }
        let bytes = response.response_bytes.ok_or(StapleError::OtherCertificate)?;
        let basic = BasicOcspResponse::from_der(bytes.response.as_bytes())?;
        let serial = Certificate::from_der(leaf)?.tbs_certificate.serial_number;
        let singles = &basic.tbs_response_data.responses;
        let single = singles.iter().find(|single| single.cert_id.serial_number == serial);
        let single = single.ok_or(StapleError::OtherCertificate)?;
        if !matches!(single.cert_status, CertStatus::Good(_)) {
            return Err(StapleError::NotGood);
        }
        let at = |after_epoch: Duration| SystemTime::UNIX_EPOCH + after_epoch;
        let since = at(single.this_update.0.to_unix_duration());
        let until = at(single.next_update.ok_or(StapleError::Endless)?.0.to_unix_duration());
        if now < since || until <= now {
            return Err(StapleError::OutOfTime);
        }
        Ok(Self { der, until })
    }
}
