//! The agent's admin API, as its client sees it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, header::HOST};
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use crate::http;

/// From the connect to the last byte; a reply with 100,000 zones is some tens of MiB.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an agent is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Host and port.
    authority: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "no weir agent answers on http://{authority} ({source}): start `weir agent`, or name its address"
    )]
    NoAgent { authority: String, source: io::Error },
    #[error("http://{authority} did not answer within {} s", PATIENCE.as_secs())]
    Silent { authority: String },
    #[error("http://{authority} does not speak HTTP as a weir agent does")]
    Http { authority: String, source: hyper::Error },
    #[error("{detail} (says the agent on http://{authority})")]
    Refused { authority: String, detail: String },
    #[error("http://{authority}{path} answers {status}: is it a weir agent?")]
    Status { authority: String, path: String, status: StatusCode },
    #[error("http://{authority}{path} does not answer as a weir agent of this version does")]
    Json { authority: String, path: String, source: serde_json::Error },
}

/// What an agent answers that cannot do what it is asked for (RFC 9457).
#[derive(serde::Deserialize)]
struct Problem {
    detail: String,
}

impl Admin {
    /// The agent that listens on `address`.
    pub fn at(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self { authority: SocketAddr::new(ip, address.port()).to_string() }
    }

    /// Reads `http://127.0.0.1:9464`; the scheme may be left out.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address such as http://127.0.0.1:9464");
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let uri: Uri = format!("http://{bare}").parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_bare =
            matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        let has_port = authority.host() != authority.as_str();
        match (is_bare, has_port, authority.port_u16()) {
            (true, true, Some(_)) => Ok(Self { authority: authority.to_string() }),
            (true, false, _) => Ok(Self { authority: format!("{authority}:80") }),
            _ => Err(wrong()),
        }
    }

    /// True if the agent answers and its programs are in force.
    pub async fn is_ready(&self) -> bool {
        self.body("/readyz").await.is_ok()
    }

    /// The reply to a GET of `path`, as it came.
    pub async fn body(&self, path: &str) -> Result<Bytes, AdminError> {
        let (status, body) = timeout(PATIENCE, self.exchange(path))
            .await
            .map_err(|_| AdminError::Silent { authority: self.authority.clone() })??;
        if status == StatusCode::OK {
            return Ok(body);
        }
        if let Ok(Problem { detail }) = serde_json::from_slice(&body) {
            return Err(AdminError::Refused { authority: self.authority.clone(), detail });
        }
        Err(AdminError::Status { authority: self.authority.clone(), path: path.to_owned(), status })
    }

    /// The reply to a GET of `path`, read as `T`.
    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.read(path, &self.body(path).await?)
    }

    /// A reply's body as `T`.
    pub fn read<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, AdminError> {
        serde_json::from_slice(body).map_err(|source| AdminError::Json {
            authority: self.authority.clone(),
            path: path.to_owned(),
            source,
        })
    }

    async fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        let authority = &self.authority;
        let stream = TcpStream::connect(authority)
            .await
            .map_err(|source| AdminError::NoAgent { authority: authority.clone(), source })?;
        let mut request = Request::new(Full::default());
        // Both were parsed before, or are our own.
        *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
        if let Ok(host) = authority.parse() {
            request.headers_mut().insert(HOST, host);
        }
        http::exchange(stream, request)
            .await
            .map_err(|source| AdminError::Http { authority: authority.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_written_in_several_ways() {
        for (text, authority) in [
            ("http://127.0.0.1:9464", "127.0.0.1:9464"),
            ("http://127.0.0.1:9464/", "127.0.0.1:9464"),
            ("edge1.example:9464", "edge1.example:9464"),
            ("http://edge1.example", "edge1.example:80"),
            ("[::1]:9464", "[::1]:9464"),
        ] {
            assert_eq!(Admin::parse(text).map(|admin| admin.authority), Ok(authority.to_owned()), "{text}");
        }
        for text in ["", "https://a:1", "http://a:1/api", "http://a:1/?x", "a b", "http://u@a:1", "a:99999"] {
            assert!(Admin::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        let at = |text: &str| Admin::at(text.parse().unwrap()).authority;
        assert_eq!(at("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(at("[::]:9464"), "[::1]:9464");
        assert_eq!(at("192.0.2.1:80"), "192.0.2.1:80");
    }
}
