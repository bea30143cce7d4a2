//! Origins over TLS, with an authority of their own.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{HandshakeKind, ServerConfig};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

use super::{
    origin::SWITCH,
    raw::{Raw, header},
};

/// What an origin over TLS saw of a handshake.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    pub resumed: bool,
}

/// An origin over TLS for `name` that answers 101 to upgrades and the head it got to everything else, and its authority's file.
pub async fn secure(name: &str) -> (SocketAddr, TempDir, PathBuf, mpsc::UnboundedReceiver<Seen>) {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new([name.to_owned()]).expect("parameters").signed_by(&key, &issuer);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    fs::write(&file, root.pem()).expect("written");

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.expect("signed").der().clone()],
            key.serialize_der().try_into().expect("a key"),
        )
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let session = stream.get_ref().1;
                let _ = tell.send(Seen {
                    name: session.server_name().map(str::to_owned),
                    alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                    resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                });
                let mut raw = Raw::new(stream);
                while let Some(head) = raw.try_head().await {
                    if header(&head, "upgrade").is_some() {
                        raw.send(SWITCH).await;
                        while let Some(bytes) = raw.some().await {
                            raw.send(bytes).await;
                        }
                        return;
                    }
                    raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()))
                        .await;
                }
            });
        }
    });
    (address, folder, file, told)
}
