//! A connection of which a test writes and reads every byte.

use std::{net::SocketAddr, sync::Arc};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::soon;

pub struct Raw<S> {
    stream: S,
    read: Vec<u8>,
}

impl Raw<TcpStream> {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(soon(TcpStream::connect(address)).await.expect("connected"))
    }

    pub fn into_inner(self) -> TcpStream {
        assert!(self.read.is_empty());
        self.stream
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A client configuration that trusts `roots` alone.
pub fn tls_config(roots: &[CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("versions").with_root_certificates(store).with_no_client_auth())
}

impl Raw<TlsStream<TcpStream>> {
    pub async fn tls(
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> std::io::Result<Self> {
        let stream = soon(TcpStream::connect(address)).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Ok(Self::new(soon(TlsConnector::from(config).connect(name, stream)).await?))
    }

    pub fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0
    }

    pub fn session(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().1
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that has gone is seen by the next read.
        let _ = soon(self.stream.write_all(bytes.as_ref())).await;
        let _ = soon(self.stream.flush()).await;
    }

    pub async fn half_close(&mut self) {
        let _ = soon(self.stream.shutdown()).await;
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        soon(self.stream.read_buf(&mut self.read)).await
    }

    /// Up to and with the empty line; `None` at the end of the stream.
    pub async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head).expect("text"));
            }
            match self.more().await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn head(&mut self) -> String {
        self.try_head().await.expect("a head")
    }

    pub async fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.read.len() < len {
            let read = self.more().await.expect("bytes");
            assert_ne!(read, 0, "the stream ended after {} of {len} bytes", self.read.len());
        }
        self.read.drain(..len).collect()
    }

    /// As [`exactly`](Self::exactly); `None` if the stream ends before.
    pub async fn try_exactly(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.read.len() < len {
            if !matches!(self.more().await, Ok(1..)) {
                return None;
            }
        }
        Some(self.read.drain(..len).collect())
    }

    pub async fn expect(&mut self, bytes: &str) {
        assert_eq!(String::from_utf8_lossy(&self.exactly(bytes.len()).await), bytes);
    }

    /// Whatever comes next; `None` at the end of the stream.
    pub async fn some(&mut self) -> Option<Vec<u8>> {
        if self.read.is_empty() && !matches!(self.more().await, Ok(1..)) {
            return None;
        }
        Some(std::mem::take(&mut self.read))
    }

    /// Everything up to the end; the error if the stream was cut off.
    pub async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        while self.more().await? > 0 {}
        Ok(std::mem::take(&mut self.read))
    }

    /// The body that a head announces.
    pub async fn body_of(&mut self, head: &str) -> String {
        let lower = head.to_ascii_lowercase();
        let mut body = Vec::new();
        if lower.contains("transfer-encoding: chunked") {
            loop {
                let line = self.line().await;
                let len = usize::from_str_radix(line.trim(), 16).expect("a chunk's length");
                let chunk = self.exactly(len + 2).await;
                if len == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..len]);
            }
        } else if let Some(len) = header(head, "content-length") {
            body = self.exactly(len.parse().expect("a number")).await;
        }
        String::from_utf8(body).expect("text")
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                return String::from_utf8(self.read.drain(..end + 2).collect()).expect("text");
            }
            assert_ne!(self.more().await.expect("bytes"), 0, "the stream ended within a line");
        }
    }

    /// Sends a request and reads the answer's head and body.
    pub async fn ask(&mut self, request: &str) -> (String, String) {
        self.send(request).await;
        let head = self.head().await;
        let body = self.body_of(&head).await;
        (head, body)
    }

    /// Sends an upgrade request for `host` and expects a 101.
    pub async fn upgrade(&mut self, host: &str) {
        self.send(upgrade_request(host)).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }
}

pub fn upgrade_request(host: &str) -> String {
    format!(
        "GET /chat?x=1 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The value of a header in the text of a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().find(|line| {
        line.split_once(':').is_some_and(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
    })?;
    Some(line.split_once(':')?.1.trim())
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).expect("a status").parse().expect("a number")
}
