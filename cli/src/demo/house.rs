//! What the demo needs on disk and on the loopback address: a folder with a configuration and a certificate, and four ports.
//!
//! The folder goes with the value. It is readable for all, the key for the proxy's user: agent and proxy read the
//! configuration again when it is edited, the proxy without privileges by then.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use nix::unistd::User;
use rcgen::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::{
    client::Way,
    scenario::{PLANS, ROLES},
};
use crate::supervisor::Role;

/// The instance that the demo has to itself.
pub const INSTANCE: &str = "demo";
/// The user that the proxy becomes.
const USER: &str = "nobody";

/// The ports, as they are wished for.
#[derive(Clone, Copy)]
pub struct Wishes {
    pub http: Option<u16>,
    pub https: Option<u16>,
    pub admin: Option<u16>,
    pub proxy_admin: Option<u16>,
}

/// Where everything listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    pub proxy_admin: SocketAddr,
}

/// The demo's folder and addresses.
pub struct House {
    pub ports: Ports,
    folder: TempDir,
    tls: Arc<ClientConfig>,
}

impl Ports {
    /// Takes the wished or the default ports. `say` hears of a default that is taken.
    ///
    /// # Errors
    /// If a port that was asked for is taken.
    pub fn choose(wishes: Wishes, mut say: impl FnMut(String)) -> anyhow::Result<Self> {
        let mut port = |option, wish, default| choose(option, wish, default, &mut say);
        let (http, https, admin, proxy_admin) = (
            port("--http", wishes.http, 18080)?,
            port("--https", wishes.https, 18443)?,
            port("--admin", wishes.admin, 19464)?,
            port("--proxy-admin", wishes.proxy_admin, 19465)?,
        );
        let all = [http, https, admin, proxy_admin];
        if (1..all.len()).any(|n| all[..n].contains(&all[n])) {
            bail!("--http, --https, --admin and --proxy-admin have to be four different ports");
        }
        Ok(Self { http, https, admin, proxy_admin })
    }
}

fn choose(
    option: &str,
    wish: Option<u16>,
    default: u16,
    say: &mut impl FnMut(String),
) -> anyhow::Result<SocketAddr> {
    // Not listened on by anyone: the proxies of others share ports, so it is bound without sharing.
    let take = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|held| held.local_addr());
    match wish {
        Some(port) => take(port).with_context(|| format!("{option} {port}: the port is taken")),
        None => take(default).or_else(|_| {
            let free = take(0).context("no port is free")?;
            say(format!("port {default} is taken: {} instead ({option})", free.port()));
            Ok(free)
        }),
    }
}

impl House {
    /// Writes the folder. `origins` are those of [`ROLES`].
    pub fn build(ports: Ports, origins: &[SocketAddr]) -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("weir-demo-").tempdir().context("no temporary folder")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let house = Self { ports, tls: certificate(folder.path())?, folder };
        let config = house.config();
        fs::write(&config, configuration(ports, origins))
            .with_context(|| format!("cannot write {}", config.display()))?;
        fs::set_permissions(&config, Permissions::from_mode(0o644))?;
        Ok(house)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("weir.toml")
    }

    /// What agent and proxy have logged that is more than information.
    pub fn warnings(&self) -> Vec<String> {
        const LINES: usize = 10;
        let warnings = |role: Role| {
            let log = self.log(role);
            let serious = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
            serious.map(|line| format!("{role}: {line}")).take(LINES).collect::<Vec<_>>()
        };
        [Role::Agent, Role::Proxy].into_iter().flat_map(warnings).collect()
    }

    /// All that one of them has logged.
    pub fn log(&self, role: Role) -> String {
        fs::read_to_string(role.log_file(self.folder())).unwrap_or_default()
    }

    /// How clients reach the proxy.
    pub fn way(&self) -> Way {
        Way { http: self.ports.http, https: self.ports.https, tls: self.tls.clone() }
    }
}

/// One certificate for all zones with TLS. Returns what its clients need.
fn certificate(folder: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let names: Vec<String> = ROLES.iter().filter(|role| role.tls).map(|role| role.zone.to_owned()).collect();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).context("no certificate")?;
    let (cert_file, key_file) = (folder.join("demo.pem"), folder.join("demo.key"));
    fs::write(&cert_file, cert.pem()).context("cannot write the certificate")?;
    fs::set_permissions(&cert_file, Permissions::from_mode(0o644))?;
    fs::write(&key_file, signing_key.serialize_pem()).context("cannot write the key")?;
    fs::set_permissions(&key_file, Permissions::from_mode(0o400))?;
    let user = User::from_name(USER)?.with_context(|| format!("no user is called `{USER}`: create it"))?;
    chown(&key_file, Some(user.uid.as_raw()), None).context("cannot give the key to the proxy")?;

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The configuration: nothing in it but what a reader would write as well.
fn configuration(ports: Ports, origins: &[SocketAddr]) -> String {
    let Ports { http, https, admin, proxy_admin } = ports;
    let mut text = format!(
        "# The configuration of `weir demo`. Save a change, and agent and proxy take it over.\n\
         instance = \"{INSTANCE}\"\n\n\
         [proxy]\nhttp  = [\"{http}\"]\nhttps = [\"{https}\"]\nadmin = \"{proxy_admin}\"\nuser  = \"{USER}\"\n\
         drain_timeout = \"1s\"\nclose_spread = \"1s\"\nretry_after = \"5s\"\n\n\
         [agent]\nadmin = \"{admin}\"\nsocket = \"agent.sock\"\nledger = \"ledger.db\"\nmax_zones = 64\naudit_interval = \"1s\"\n",
    );
    for plan in &PLANS {
        let (name, guideline, abuse_cap) = (plan.name, plan.guideline, plan.abuse_cap);
        text += &format!("\n[plans.{name}]\nguideline = {guideline}\nabuse_cap = {abuse_cap}\n");
    }
    for (role, origin) in ROLES.iter().zip(origins) {
        let (name, plan) = (role.zone, role.plan);
        text +=
            &format!("\n[[zones]]\nname   = \"{name}\"\nplan   = \"{plan}\"\norigin = \"ws://{origin}\"\n");
        if role.tls {
            text += "tls    = { cert = \"demo.pem\", key = \"demo.key\" }\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ports { http: at(1), https: at(2), admin: at(3), proxy_admin: at(4) }
    }

    #[test]
    fn the_configuration_is_valid_and_has_the_whole_cast() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["demo.pem", "demo.key"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let path = folder.path().join("weir.toml");
        let origins = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9000)); ROLES.len()];
        fs::write(&path, configuration(ports(), &origins)).unwrap();
        let config = weir_config::Config::load(&path).unwrap();
        assert_eq!((config.zones.len(), config.plans.len()), (ROLES.len(), PLANS.len()));
        assert_eq!((config.agent.admin, config.proxy.admin), (ports().admin, ports().proxy_admin));
        let with_tls = config.zones.iter().filter(|zone| zone.tls.is_some()).count();
        assert_eq!(with_tls, ROLES.iter().filter(|role| role.tls).count());
    }

    #[test]
    fn a_default_port_that_is_taken_gives_way_and_is_told() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = held.local_addr().unwrap().port();
        let mut said = Vec::new();
        let chosen = choose("--http", None, taken, &mut |text| said.push(text)).unwrap();
        assert_ne!(chosen.port(), taken);
        assert!(said.len() == 1 && said[0].contains(&taken.to_string()), "{said:?}");
    }

    #[test]
    fn a_port_that_was_asked_for_is_that_port_or_none() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = held.local_addr().unwrap().port();
        let error = choose("--http", Some(taken), 1, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("--http {taken}")), "{error}");
    }
}
