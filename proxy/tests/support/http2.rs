//! A client of HTTP/2 that a test drives stream by stream.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{Method, Request, Response};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::{Setup, raw::tls_config, soon};

/// A connection to the proxy, and how it ended.
pub struct Client {
    pub requests: SendRequest<Bytes>,
    pub end: JoinHandle<Result<(), h2::Error>>,
}

/// A WebSocket's stream, or a request's answer.
pub struct Answer {
    pub head: Response<()>,
    pub send: SendStream<Bytes>,
    pub receive: RecvStream,
}

impl Client {
    /// In cleartext, with prior knowledge.
    pub async fn cleartext(address: SocketAddr) -> Self {
        Self::on(soon(TcpStream::connect(address)).await.expect("connected"), &Builder::new()).await
    }

    /// Over TLS, as a client that prefers HTTP/2.
    pub async fn tls(setup: &Setup, name: &str) -> Self {
        let mut config = (*tls_config(&setup.roots)).clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = soon(TcpStream::connect(setup.https)).await.expect("connected");
        let server = ServerName::try_from(name.to_owned()).expect("a name");
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let stream = soon(connector.connect(server, tcp)).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut builder = Builder::new();
        // So that it is its streams' windows that matter.
        builder.initial_connection_window_size(64 << 20);
        Self::on(stream, &builder).await
    }

    pub async fn on<T>(stream: T, builder: &Builder) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = soon(builder.handshake(stream)).await.expect("a preface");
        Self { requests, end: tokio::spawn(connection) }
    }

    /// Sends a request of which this is all, and reads the answer.
    pub async fn ask(&mut self, request: Request<()>) -> (Response<()>, String) {
        let mut answer = self.begin(request, true).await.expect("an answer");
        let body = answer.text().await;
        (answer.head, body)
    }

    pub async fn get(&mut self, url: &str) -> (Response<()>, String) {
        self.ask(Request::get(url).body(()).expect("a request")).await
    }

    /// Sends a request's head and waits for that of its answer.
    pub async fn begin(&mut self, request: Request<()>, ends: bool) -> Result<Answer, h2::Error> {
        let mut requests = soon(self.requests.clone().ready()).await?;
        let (response, send) = requests.send_request(request, ends)?;
        let (head, receive) = soon(response).await?.into_parts();
        Ok(Answer { head: Response::from_parts(head, ()), send, receive })
    }

    /// Asks for a WebSocket, with further fields.
    pub async fn connect(&mut self, url: &str, fields: &[(&str, &str)]) -> Result<Answer, h2::Error> {
        // Whether a server has extended CONNECT its first SETTINGS say.
        super::until("extended CONNECT is on", || self.requests.is_extended_connect_protocol_enabled()).await;
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(url)
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.begin(request.body(()).expect("a request"), false).await
    }

    /// A WebSocket, which has to open.
    pub async fn open(&mut self, url: &str) -> Answer {
        let answer = self.connect(url, &[]).await.expect("an answer");
        assert_eq!(answer.head.status(), 200);
        answer
    }
}

impl Answer {
    pub fn say(&mut self, bytes: impl Into<Bytes>) {
        self.send.send_data(bytes.into(), false).expect("sent");
    }

    pub fn finish(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("sent");
    }

    /// Whatever comes next; `None` at the end of the stream.
    pub async fn some(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let data = loop {
            match soon(self.receive.data()).await? {
                // The end of a stream may be an empty frame.
                Ok(data) if data.is_empty() => {}
                data => break data,
            }
        };
        Some(data.inspect(|data| {
            self.receive.flow_control().release_capacity(data.len()).expect("received");
        }))
    }

    pub async fn expect(&mut self, bytes: &[u8]) {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            got.extend(self.some().await.expect("more").expect("bytes"));
        }
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
    }

    pub async fn text(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(data) = self.some().await {
            text.extend(data.expect("content"));
        }
        String::from_utf8(text).expect("text")
    }

    /// Why the stream was reset.
    pub async fn reset(&mut self) -> h2::Reason {
        loop {
            match self.some().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason().expect("a reason"),
                None => panic!("a clean end"),
            }
        }
    }
}
