//! Certificates of zones, and the one for zones without.

use std::path::PathBuf;

use crate::{
    model::Tls,
    raw::{TLS, Value},
};

pub(super) fn read(value: &Value<'_>) -> Option<Tls> {
    let section = value.section(&TLS)?;
    let cert =
        section.required("cert", "\"certs/example.com.pem\"").and_then(|value| pem(&value, "certificate"));
    let key = section.required("key", "\"certs/example.com.key\"").and_then(|value| pem(&value, "key"));
    let ocsp = section.get("ocsp").map(|value| value.path("\"certs/example.com.der\""));
    let (cert, key) = (cert?, key?);
    let ocsp = match ocsp {
        // It need not be there yet: whoever fetches it may come later.
        Some(path) => path?,
        None => {
            let mut beside = cert.clone().into_os_string();
            beside.push(".ocsp");
            beside.into()
        }
    };
    Some(Tls { cert, key, ocsp })
}

pub(super) fn pem(value: &Value<'_>, what: &str) -> Option<PathBuf> {
    let path = value.path("\"certs/example.com.pem\"")?;
    let why = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => return Some(path),
        Ok(_) => "it is not a file".to_owned(),
        Err(error) => error.to_string(),
    };
    value.fault(
        format!("the {what} {} cannot be read: {why}", path.display()),
        "put the PEM file there, or correct the path; a relative one begins at the folder of this file",
    );
    None
}
