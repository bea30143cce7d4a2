//! The agent's Unix socket, as its client sees it.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use crate::http;

/// From the connect to the last byte. To end a million sockets takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an agent is asked.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why nothing was done, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no weir agent answers on {path} ({source}): start `weir agent`, or name its --socket")]
    NoAgent { path: PathBuf, source: io::Error },
    #[error(
        "you may not speak to the agent on {path}: act as root, or have your user named in agent.operators"
    )]
    Denied { path: PathBuf },
    #[error(
        "the agent on {path} did not answer within {} s: see with `weir acts` whether it was done",
        PATIENCE.as_secs()
    )]
    Silent { path: PathBuf },
    #[error(
        "the agent on {path} went away before it answered: what it had recorded is done when it is back; see `weir acts`"
    )]
    Broken { path: PathBuf, source: hyper::Error },
    #[error("refused: {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("{path} does not answer as a weir agent of this version does")]
    Json { path: PathBuf, source: serde_json::Error },
}

/// RFC 9457, as much as is told.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Client {
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The reply to a GET, read as `T`.
    pub async fn get<T: DeserializeOwned>(&self, page: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, page, Bytes::new()).await
    }

    /// The reply to a POST of `content`, read as `T`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        page: &str,
        content: &impl Serialize,
    ) -> Result<T, ClientError> {
        let content = serde_json::to_vec(content).map_err(|source| self.json(source))?;
        self.exchange(Method::POST, page, content.into()).await
    }

    /// The reply to a GET as it is.
    pub async fn page(&self, page: &str) -> Result<Bytes, ClientError> {
        self.bytes(Method::GET, page, Bytes::new()).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        page: &str,
        content: Bytes,
    ) -> Result<T, ClientError> {
        let body = self.bytes(method, page, content).await?;
        serde_json::from_slice(&body).map_err(|source| self.json(source))
    }

    async fn bytes(&self, method: Method, page: &str, content: Bytes) -> Result<Bytes, ClientError> {
        let path = || self.path.clone();
        let stream = UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { path: path() },
            _ => ClientError::NoAgent { path: path(), source },
        })?;
        let mut request = Request::new(Full::new(content));
        *request.method_mut() = method;
        // Our own paths.
        *request.uri_mut() = Uri::try_from(page).unwrap_or_default();
        request.headers_mut().insert(HOST, HeaderValue::from_static("agent"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (status, body) = timeout(PATIENCE, http::exchange(stream, request))
            .await
            .map_err(|_| ClientError::Silent { path: path() })?
            .map_err(|source| ClientError::Broken { path: path(), source })?;
        if status.is_success() {
            return Ok(body);
        }
        let detail = serde_json::from_slice(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned(), |Problem { detail }| detail);
        Err(ClientError::Refused { status, detail })
    }

    fn json(&self, source: serde_json::Error) -> ClientError {
        ClientError::Json { path: self.path.clone(), source }
    }
}
