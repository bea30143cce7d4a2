//! What the suite plays on: an echo server, a proxy in front of it, and a folder for both. All of it ends with the stage.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::verdicts::DIRECT;
use crate::{cache, exec};

/// How long the servers may take to listen.
const START: Duration = Duration::from_secs(30);

pub struct Stage {
    folder: PathBuf,
    ports: [u16; 3],
    _servers: Vec<Server>,
}

/// A process that is killed with its stage.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stage {
    /// Starts the servers and waits until they listen.
    pub fn set(weir: &Path, python: &Path) -> Result<Self> {
        let target = weir.parent().and_then(Path::parent).context("weir is not in a target directory")?;
        let folder = target.join("autobahn");
        cache::remove(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        certify(&folder)?;

        let ports = free_ports()?;
        let [echo, http, https] = ports;
        let admin = free_ports::<1>()?[0];
        let config = folder.join("weir.toml");
        fs::write(&config, configuration(ports, admin))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let script = exec::workspace().join("tests/python/echo.py");
        let origin = start(Command::new(python).arg(script).arg(echo.to_string()), &folder.join("echo.log"))?;
        let proxy =
            start(Command::new(weir).args(["proxy", "--config"]).arg(&config), &folder.join("proxy.log"))?;
        let mut stage = Self { folder, ports, _servers: vec![origin, proxy] };
        for port in [echo, http, https] {
            stage.await_port(port)?;
        }
        Ok(stage)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    /// What the proxy said.
    pub fn log(&self) -> PathBuf {
        self.folder.join("proxy.log")
    }

    /// Names and URLs of the ways to the echo server.
    pub fn ways(&self) -> [(&'static str, String); 3] {
        let [echo, http, https] = self.ports;
        ways(echo, http, https)
    }

    fn await_port(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + START;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(address).is_err() {
            for Server(child) in &mut self._servers {
                if let Some(status) = child.try_wait()? {
                    bail!("a server ended ({status}); the logs are in {}", self.folder.display());
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "nothing listens on {address} after {START:?}; the logs are in {}",
                    self.folder.display()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

pub(super) fn ways(echo: u16, http: u16, https: u16) -> [(&'static str, String); 3] {
    [
        (DIRECT, format!("ws://localhost:{echo}")),
        ("weir ws", format!("ws://localhost:{http}")),
        ("weir wss", format!("wss://localhost:{https}")),
    ]
}

/// The suite's client sends no SNI, so the certificate is the default one.
fn configuration([echo, http, https]: [u16; 3], admin: u16) -> String {
    format!(
        r#"[proxy]
http = ["127.0.0.1:{http}"]
https = ["127.0.0.1:{https}"]
admin = "127.0.0.1:{admin}"
accounting = "optional"
default_tls = {{ cert = "localhost.pem", key = "localhost.key" }}

[plans.all]
guideline = 1000

[[zones]]
name = "localhost"
plan = "all"
origin = "ws://127.0.0.1:{echo}"
"#
    )
}

fn certify(folder: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", "localhost.key", "-out", "localhost.pem"])
        .current_dir(folder);
    exec::answer(&mut openssl).map(drop)
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until all are found, so none is found twice.
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn start(command: &mut Command, log: &Path) -> Result<Server> {
    let line = exec::command_line(command);
    let file = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let output = file.try_clone()?;
    let child = command.stdin(Stdio::null()).stdout(output).stderr(file).spawn();
    child.map(Server).with_context(|| format!("cannot start `{line}`"))
}
