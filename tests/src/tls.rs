//! A certificate authority for one test, and the clients that trust it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::World;

/// The authority's certificate.
pub struct Authority {
    root: CertificateDer<'static>,
}

/// Makes an authority and a certificate of a host, and writes them to the world's folder: `ca.pem`, `HOST.pem`, `HOST.key`.
pub fn certify(world: &World, host: &str) -> Authority {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    authority.distinguished_name.push(DnType::CommonName, "an authority for one test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let root = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate().expect("a key");
    let mut leaf = CertificateParams::new([host.to_owned()]).expect("parameters");
    leaf.distinguished_name.push(DnType::CommonName, host);
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");

    world.write("ca.pem", &root.pem());
    world.write(&format!("{host}.pem"), &leaf.pem());
    world.write(&format!("{host}.key"), &key.serialize_pem());
    Authority { root: root.der().clone() }
}

impl Authority {
    /// A TLS client that trusts nobody else.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}
