//! One POST over HTTP/1.1, on a connection of its own: bounded in time and in what is read of the answer, and without following
//! anybody anywhere.

use std::{path::Path, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Outcome, WayError, one_line, trust};

/// What is read of an answer.
const LONGEST_ANSWER: usize = 16 * 1024;
/// What a receiver may ask us to wait for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Where to post to, and whom to believe there.
#[derive(Clone)]
pub struct Target {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

/// An answer as far as it matters.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect to {to}: {source}")]
    Connect { to: String, source: std::io::Error },
    #[error("TLS with {to} failed: {source}")]
    Tls { to: String, source: std::io::Error },
    #[error("the request failed: {0}")]
    Request(String),
}

impl Target {
    pub fn new(url: &str, ca: Option<&Path>, timeout: Duration) -> Result<Self, WayError> {
        // A secret may be in its path, so the whole of it is never repeated.
        let wrong = || WayError::Url { text: url.split('/').take(3).collect::<Vec<_>>().join("/") };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = secure.then(|| trust::client(ca)).transpose()?;
        Ok(Self { uri, host, port, tls, timeout })
    }

    /// Posts, and reads the answer up to its bound.
    pub async fn post(&self, headers: &[(HeaderName, String)], body: Vec<u8>) -> Result<Answer, PostError> {
        let exchange = timeout(self.timeout, self.exchange(headers, body));
        exchange.await.unwrap_or(Err(PostError::Timeout(self.timeout)))
    }

    async fn exchange(&self, headers: &[(HeaderName, String)], body: Vec<u8>) -> Result<Answer, PostError> {
        let to = format!("{}:{}", self.host, self.port);
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = connected.map_err(|source| PostError::Connect { to: to.clone(), source })?;
        let request = self.request(headers, body)?;
        let Some(tls) = &self.tls else { return send(stream, request).await };
        let name =
            ServerName::try_from(self.host.clone()).map_err(|error| PostError::Request(error.to_string()))?;
        let secured = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        send(secured.map_err(|source| PostError::Tls { to, source })?, request).await
    }

    fn request(
        &self,
        headers: &[(HeaderName, String)],
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, PostError> {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|_| PostError::Request("its path is none".to_owned()))?;
        let fixed = [
            (header::HOST, authority.to_owned()),
            (header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")).to_owned()),
            (header::CONNECTION, "close".to_owned()),
        ];
        for (name, value) in fixed.iter().chain(headers) {
            let value = HeaderValue::from_str(value)
                .map_err(|_| PostError::Request(format!("a value of {name} is none")))?;
            request.headers_mut().insert(name.clone(), value);
        }
        Ok(request)
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, PostError> {
    let failed = |error: hyper::Error| PostError::Request(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let (parts, body) = response.into_parts();
        // What is longer is cut off: the status has said what there is to know.
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map(|body| body.to_bytes());
        let body = body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The answer may have come with the connection's last byte.
        ended = &mut connection => match (exchange.await, ended) {
            (Err(_), Err(error)) => Err(failed(error)),
            (answer, _) => answer,
        },
    }
}

/// What an answer means for the message: 2xx took it; 408, 425, 429 and 5xx are worth another try; the rest is for ever.
pub fn outcome(answered: Result<Answer, PostError>, reference: &str) -> Outcome {
    let answer = match answered {
        Ok(answer) => answer,
        Err(error) => return Outcome::Retry { after: None, why: one_line(&error.to_string()) },
    };
    let status = answer.status;
    if status.is_success() {
        return Outcome::Delivered { reference: reference.to_owned() };
    }
    let why = one_line(&format!("{status}: {}", answer.body));
    let again = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
    if again { Outcome::Retry { after: pause(&answer.headers), why } } else { Outcome::Refused { why } }
}

/// `Retry-After` in seconds.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs).map(|pause| pause.min(LONGEST_PAUSE))
}
