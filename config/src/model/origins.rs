//! Where a zone's requests go, and how a connection there is made.

use std::path::PathBuf;

/// A zone's origins: requests take them in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origins {
    /// At least one, each once.
    pub list: Vec<Origin>,
    /// The Host header for the origin; default the client's own.
    pub host: Option<String>,
    /// For those of the list that are reached over TLS.
    pub tls: OriginTls,
    /// Begin each connection with a PROXY protocol header, version 2, that names the client; default off.
    pub send_proxy_protocol: bool,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub scheme: OriginScheme,
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
}

/// `http` is the same as `ws`, and `https` as `wss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginScheme {
    Ws,
    Wss,
}

/// `origin_tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginTls {
    /// A PEM file with the certificates that an origin's has to lead to; default those that the system trusts. It exists when
    /// the configuration is checked; what is in it is the proxy's to read.
    pub ca: Option<PathBuf>,
    /// What SNI names and the certificate has to be for, a DNS name or an IP address; default the origin's own host.
    pub server_name: Option<String>,
}
