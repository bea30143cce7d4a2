//! A client: it connects from one of many addresses of the loopback network, shakes hands, upgrades, and closes as a WebSocket does.

use std::{
    cell::Cell,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use bytes::BytesMut;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustls::{ClientConfig, HandshakeKind, client::Resumption};
use rustls_pki_types::ServerName;
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};
use tokio_rustls::TlsConnector;

use crate::{
    HOST, frame,
    socket::{Reader, Socket, Stream},
};

/// The sample of RFC 6455, 1.3: the origin knows its answer.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Connections from one address, before the next address has its turn.
const PER_SOURCE: u32 = 64;
/// Addresses that have turns: enough that ports of closed connections rest.
const SOURCES: u32 = 250;

/// Where clients of a row connect to.
pub struct Target {
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
    resumes: bool,
    handshakes: Rc<Handshakes>,
}

/// Connections so far, and how many of them resumed a session.
#[derive(Default)]
pub struct Handshakes {
    pub all: Cell<u32>,
    pub resumed: Cell<u32>,
}

impl Target {
    pub fn new(addresses: Vec<SocketAddr>, tls: Option<Arc<ClientConfig>>, resumes: bool) -> Self {
        Self { addresses, tls, resumes, handshakes: Rc::default() }
    }

    /// Whether sessions are to be resumed.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    pub fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    /// The same for one client alone: it shares its tickets with nobody.
    pub fn own(&self) -> Self {
        let alone = |tls: &Arc<ClientConfig>| {
            let mut tls = ClientConfig::clone(tls);
            if self.resumes {
                tls.resumption = Resumption::in_memory_sessions(1);
            }
            Arc::new(tls)
        };
        Self {
            addresses: self.addresses.clone(),
            tls: self.tls.as_ref().map(alone),
            resumes: self.resumes,
            handshakes: self.handshakes.clone(),
        }
    }

    /// An open WebSocket.
    pub async fn open(&self, path: &str) -> io::Result<Socket> {
        let mut socket = Reader::new(self.connect().await?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        socket.send(request.as_bytes()).await?;
        let head = socket.head().await?;
        if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
            return Err(io::Error::other(format!("no WebSocket: {head:?}")));
        }
        Ok(socket)
    }

    async fn connect(&self) -> io::Result<Stream> {
        let number = self.handshakes.all.get();
        self.handshakes.all.set(number.wrapping_add(1));
        let source = Ipv4Addr::from_bits(0x7f01_0001 + (number / PER_SOURCE) % SOURCES);
        let tcp = TcpSocket::new_v4()?;
        setsockopt(&tcp, IpBindAddressNoPort, &true)?;
        tcp.bind((source, 0).into())?;
        tcp.set_nodelay(true)?;
        let address = self.addresses[number as usize % self.addresses.len()];
        let tcp = tcp.connect(address).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(tcp)) };
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.handshakes.resumed.set(self.handshakes.resumed.get() + 1);
        }
        Ok(Stream::Client(Box::new(stream)))
    }
}

/// The closing handshake (RFC 6455, 7): ours, theirs, then the end of the stream, which is the server's to begin.
pub async fn close(mut socket: Socket) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    frame::write(&mut bytes, frame::CLOSE, &1000u16.to_be_bytes(), Some(frame::mask()));
    socket.send(&bytes).await?;
    while socket.frame().await?.is_some() {}
    // The other end is gone: it may not take our own end any more.
    let _ = socket.stream.shutdown().await;
    Ok(())
}
