//! A proxy under test, in this process, on free ports of loopback, with accounting that is optional unless
//! a test says otherwise.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod dns;
pub mod frames;
pub mod http2;
pub mod log;
pub mod mmdb;
pub mod origin;
pub mod raw;
pub mod secure;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use weir_config::Config;
use weir_proxy::Running;

/// Longer than anything here takes; what exceeds it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a future that has to come to an end.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it hangs")
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not so: {what}"));
}

/// A configuration in the making.
pub struct Setup {
    dir: TempDir,
    settings: String,
    zones: String,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    pub roots: Vec<CertificateDer<'static>>,
}

/// An address that nobody listens on. The configuration refuses port 0, so one is looked for, on a loopback address that is
/// this process' own: another process, or a client's local port, cannot get in between.
pub fn free_port() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = std::net::Ipv4Addr::new(127, 77, high, low.clamp(1, 254));
    // The kernel may name a port again that nobody listens on yet.
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let free =
        || TcpListener::bind((own, 0)).and_then(|listener| listener.local_addr()).expect("a free port");
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1000).map(|_| free()).find(|address| given.insert(*address)).expect("a port that is new")
}

impl Setup {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            settings: String::new(),
            zones: String::new(),
            http: free_port(),
            https: free_port(),
            admin: free_port(),
            roots: Vec::new(),
        }
    }

    /// Adds a line to `[proxy]`.
    pub fn setting(mut self, line: &str) -> Self {
        writeln!(self.settings, "{line}").expect("written");
        self
    }

    pub fn zone(mut self, name: &str, origin: SocketAddr) -> Self {
        write!(self.zones, "[[zones]]\nname = \"{name}\"\nplan = \"free\"\norigin = \"ws://{origin}\"\n")
            .expect("written");
        self
    }

    /// Adds lines to the zone that was added last.
    pub fn zone_lines(mut self, lines: &str) -> Self {
        writeln!(self.zones, "{lines}").expect("written");
        self
    }

    /// A zone with these lines instead of an origin of its own.
    pub fn origins(mut self, name: &str, lines: &str) -> Self {
        write!(self.zones, "[[zones]]\nname = \"{name}\"\nplan = \"free\"\n{lines}\n").expect("written");
        self
    }

    /// Forgets the zones, not their certificates.
    pub fn no_zones(mut self) -> Self {
        self.zones.clear();
        self
    }

    /// A zone with a certificate of its own.
    pub fn tls_zone(mut self, name: &str, origin: SocketAddr) -> Self {
        let (cert, key) =
            (self.dir.path().join(format!("{name}.pem")), self.dir.path().join(format!("{name}.key")));
        if !cert.exists() {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            fs::write(&cert, made.cert.pem()).expect("written");
            fs::write(&key, made.signing_key.serialize_pem()).expect("written");
            self.roots.push(made.cert.der().clone());
        }
        self = self.zone(name, origin);
        writeln!(self.zones, "tls = {{ cert = {cert:?}, key = {key:?} }}").expect("written");
        self
    }

    /// Adds a line to the zone that was added last.
    pub fn line(mut self, line: &str) -> Self {
        writeln!(self.zones, "{line}").expect("written");
        self
    }

    /// A certificate of its own for zones without one.
    pub fn default_tls(mut self, names: &[&str]) -> Self {
        let (cert, key) = Self::pair(names);
        self.write("default.pem", &cert);
        self.write("default.key", &key);
        self.roots.push(CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate"));
        self.setting("default_tls = { cert = \"default.pem\", key = \"default.key\" }")
    }

    /// A certificate and its key, in PEM.
    pub fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Where relative paths begin.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("written");
    }

    /// A TLS client that trusts the zones' certificates.
    pub fn trusting(&self) -> Arc<rustls::ClientConfig> {
        raw::tls_config(&self.roots)
    }

    /// A TLS client that trusts the certificates of files.
    pub fn trusting_files(&self, names: &[&str]) -> Arc<rustls::ClientConfig> {
        let root = |name: &&str| CertificateDer::from_pem_file(self.dir.path().join(name)).expect("a file");
        raw::tls_config(&names.iter().map(root).collect::<Vec<_>>())
    }

    /// The configuration's text.
    pub fn text(&self) -> String {
        let https =
            if self.roots.is_empty() { String::new() } else { format!("https = [\"{}\"]", self.https) };
        let accounting = if self.settings.contains("accounting") { "" } else { "accounting = \"optional\"" };
        format!(
            "[proxy]\nhttp = [\"{}\"]\nadmin = \"{}\"\n{https}\n{accounting}\n{}\n[plans.free]\nguideline = 100\n{}",
            self.http, self.admin, self.settings, self.zones
        )
    }

    pub fn config(&self) -> Config {
        let text = self.text();
        Config::parse(&text, self.dir.path()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Starts a proxy of this configuration.
    pub fn start(&self) -> Running {
        weir_proxy::bind(&self.config()).expect("bound").start().expect("started")
    }
}
