//! TLS towards clients: the zone is known from the ClientHello, before the handshake costs anything.
//!
//! One `ServerConfig` a lowest version for all zones; the certificate comes from the current snapshot, so a reload needs no
//! new one and session tickets stay valid. Their keys are of this process, live for 12 hours and change every 6; rustls
//! resumes a session only for the SNI that it was made for, so never for another zone.
//!
//! A name that no zone has, or that of a zone without a certificate, or no name at all, is answered with the alert
//! `unrecognized_name` (RFC 6066, 3), unless the default certificate does for the latter two; a zone that is turned away with
//! `access_denied`.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring::Ticketer,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use weir_config::TlsVersion;

use crate::{
    accounting::books::{Books, Turned},
    downstream::{certificates::provider, stream::NamedStream},
    request::reason::Reason,
    server::{
        Shared,
        routes::{Named, Route, Snapshot},
    },
};

/// Fatal alerts as whole plaintext records: content type alert, legacy version TLS 1.2, two bytes, fatal (RFC 8446, 5.1).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Protocols by their names in ALPN (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("not finished in time")]
    Timeout,
    #[error("there is no certificate for what the client asked for")]
    UnknownName,
    #[error("refused: {}", .0.label())]
    Refused(Reason),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The configurations for all zones, by the lowest version that is spoken.
pub(crate) struct ServerConfigs {
    from_12: Arc<ServerConfig>,
    from_13: Arc<ServerConfig>,
}

impl ServerConfigs {
    pub fn new(routes: Arc<ArcSwap<Snapshot>>) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(BySni { routes });
        let ticketer = Ticketer::new()?;
        let build = |versions: &[&'static SupportedProtocolVersion]| {
            let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_cert_resolver(resolver.clone());
            config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
            config.ticketer = ticketer.clone();
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        Ok(Self { from_12: build(&[&TLS13, &TLS12])?, from_13: build(&[&TLS13])? })
    }

    fn from(&self, lowest: TlsVersion) -> Arc<ServerConfig> {
        match lowest {
            TlsVersion::Tls12 => self.from_12.clone(),
            TlsVersion::Tls13 => self.from_13.clone(),
        }
    }
}

/// The configuration for a client that may choose HTTP/2, or may not.
fn speaking(config: Arc<ServerConfig>, http2: bool) -> Arc<ServerConfig> {
    if http2 {
        return config;
    }
    // Its parts are shared: sessions and tickets are the same.
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    Arc::new(config)
}

/// What the client has chosen.
pub(crate) fn is_http2(stream: &TlsStream<NamedStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

struct BySni {
    routes: Arc<ArcSwap<Snapshot>>,
}

impl std::fmt::Debug for BySni {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BySni")
    }
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.routes.load().certified_key(hello.server_name())
    }
}

/// A client that has done its handshake.
pub(crate) struct Accepted {
    pub stream: TlsStream<NamedStream>,
    /// The zone of the name that it asked for.
    pub route: Option<Arc<Route>>,
}

/// Attributes the socket to the zone of the ClientHello and does the handshake. The time for it is the host's until the zone
/// is known, and the zone's, from the accept, from there on.
pub(crate) async fn accept(
    client: NamedStream,
    books: &Books,
    shared: &Shared,
) -> Result<Accepted, HandshakeError> {
    let begun = Instant::now();
    let limit = shared.routes.load().settings.timeouts.tls_handshake;
    let hello = timeout_at(begun + limit, LazyConfigAcceptor::new(Acceptor::default(), client)).await;
    let mut start = hello.map_err(|_| HandshakeError::Timeout)??;
    let snapshot = shared.routes.load_full();
    let route = match snapshot.named(start.client_hello().server_name()) {
        Some(Named::Zone(route)) => Some(route.clone()),
        Some(Named::Nobody) => None,
        None => {
            send_alert(&mut start.io, UNRECOGNIZED_NAME).await?;
            return Err(HandshakeError::UnknownName);
        }
    };
    if let Some(route) = &route {
        match books.attribute(route.key, snapshot.settings.accounting) {
            // Without books the handshake goes on, so that the request gets a 503 that says so.
            Ok(()) | Err(Turned::Uncounted) => {}
            Err(Turned::Away(refusal)) => {
                let reason = Reason::of_kernel(refusal);
                shared.counters.refuse(reason);
                send_alert(&mut start.io, ACCESS_DENIED).await?;
                return Err(HandshakeError::Refused(reason));
            }
            Err(Turned::Gone) => return Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }
    let limit = route.as_ref().map_or(limit, |route| route.zone.timeouts.tls_handshake);
    let config = speaking(shared.tls.from(snapshot.settings.tls_min_version), snapshot.settings.http2);
    drop(snapshot);
    let stream = timeout_at(begun + limit, start.into_stream(config)).await;
    Ok(Accepted { stream: stream.map_err(|_| HandshakeError::Timeout)??, route })
}

async fn send_alert(client: &mut NamedStream, alert: [u8; 7]) -> io::Result<()> {
    client.write_all(&alert).await?;
    client.shutdown().await
}
