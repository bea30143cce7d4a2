//! TLS towards clients: the zone is known from the ClientHello, before the handshake costs anything.
//!
//! One `ServerConfig` for all zones; the certificate comes from the current snapshot, so a reload needs no new one and
//! session tickets stay valid (rustls resumes a session only for the SNI that it was made for). A name that no zone with a
//! certificate has, or none at all, is answered with the alert `unrecognized_name` (RFC 6066, 3); a zone that is turned away
//! with `access_denied`.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    accounting::books::{Books, Turned},
    downstream::{certificates::provider, stream::ClientStream},
    request::reason::Reason,
    server::{
        Shared,
        routes::{Route, Snapshot},
    },
};

/// Fatal alerts as whole plaintext records: content type alert, legacy version TLS 1.2, two bytes, fatal (RFC 8446, 5.1).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("not finished in time")]
    Timeout,
    #[error("no zone with a certificate has the name that the client asked for")]
    UnknownName,
    #[error("refused: {}", .0.label())]
    Refused(Reason),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Builds the one configuration for all zones.
pub(crate) fn server_config(routes: Arc<ArcSwap<Snapshot>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni { routes }));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
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
        self.routes.load().find(hello.server_name()?)?.certified_key().cloned()
    }
}

/// Attributes the socket to the zone of the ClientHello and does the handshake.
pub(crate) async fn accept(
    client: ClientStream,
    books: &Books,
    shared: &Shared,
) -> Result<(TlsStream<ClientStream>, Arc<Route>), HandshakeError> {
    let limit = shared.routes.load().settings.tls_handshake_timeout;
    match timeout(limit, handshake(client, books, shared)).await {
        Ok(done) => done,
        Err(_) => Err(HandshakeError::Timeout),
    }
}

async fn handshake(
    client: ClientStream,
    books: &Books,
    shared: &Shared,
) -> Result<(TlsStream<ClientStream>, Arc<Route>), HandshakeError> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
    let snapshot = shared.routes.load_full();
    let found = start.client_hello().server_name().and_then(|name| snapshot.find(name));
    let Some(route) = found.filter(|route| route.certified_key().is_some()).cloned() else {
        send_alert(&mut start.io, UNRECOGNIZED_NAME).await?;
        return Err(HandshakeError::UnknownName);
    };
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
    drop(snapshot);
    Ok((start.into_stream(shared.tls.clone()).await?, route))
}

async fn send_alert(client: &mut ClientStream, alert: [u8; 7]) -> io::Result<()> {
    client.write_all(&alert).await?;
    client.shutdown().await
}
