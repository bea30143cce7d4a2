//! Who is measured: each on a core and ports of its own, one thread, no log, set as its documents advise for many WebSockets.
//!
//! All of them run for the time of a row, and one of them works. What every proxy does: it tells the origin who the client is
//! (`X-Forwarded-For`), and spreads connections over the origin's ports.

mod haproxy;
mod nginx;
mod sozu;
mod weir;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{process::Process, stage::Stage};

pub use weir::Agent;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// The origin's ports; with `+ 10` the same with TLS, for the row without a proxy.
const ORIGIN_PORTS: [u16; 4] = [9001, 9002, 9003, 9004];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No proxy: what the origin and the way to it cost.
    Direct,
    Weir,
    /// weir on a host without an agent.
    WeirUncounted,
    Haproxy,
    Nginx,
    Sozu,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weir => "weir",
            Self::WeirUncounted => "weir, not counting",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Sozu => "sozu",
        }
    }

    pub fn is_peer(self) -> bool {
        matches!(self, Self::Haproxy | Self::Nginx | Self::Sozu)
    }

    fn ports(self) -> Ports {
        let base = match self {
            Self::Direct => 0,
            Self::Weir => 8000,
            Self::WeirUncounted => 8100,
            Self::Haproxy => 8200,
            Self::Nginx => 8300,
            Self::Sozu => 8400,
        };
        Ports { http: base + 1, https: base + 2, admin: base + 3 }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a contender listens on.
#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    https: u16,
    admin: u16,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The origin's addresses in cleartext and in TLS.
pub fn origins() -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let cleartext = ORIGIN_PORTS.map(loopback).to_vec();
    (cleartext, ORIGIN_PORTS.map(|port| loopback(port + 10)).to_vec())
}

/// Where programs are.
pub struct Programs {
    pub weir: PathBuf,
    pub sozu: Option<PathBuf>,
}

impl Programs {
    /// The program of a peer, or what to do to have it.
    pub fn find(&self, kind: Kind) -> Result<PathBuf> {
        let (name, remedy) = match kind {
            Kind::Direct => return std::env::current_exe().context("the path of this program is unknown"),
            Kind::Weir | Kind::WeirUncounted => return Ok(self.weir.clone()),
            Kind::Sozu => {
                let sozu = self.sozu.clone();
                return sozu.context("there is no sozu: `cargo xtask bench proxy --vs sozu` builds it");
            }
            Kind::Haproxy => ("haproxy", "install Debian's `haproxy`"),
            Kind::Nginx => ("nginx", "install Debian's `nginx-light`"),
        };
        let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        found.with_context(|| format!("there is no {name}: {remedy}"))
    }
}

/// One that runs.
pub struct Contender {
    pub kind: Kind,
    /// Of the direct row it is the origin, which is somebody else's.
    process: Option<Process>,
}

impl Contender {
    pub fn start(kind: Kind, stage: &Stage, programs: &Programs) -> Result<Self> {
        if kind == Kind::Direct {
            return Ok(Self { kind, process: None });
        }
        let program = programs.find(kind)?;
        let program = program.to_str().context("a path that is not UTF-8")?;
        let process = match kind {
            Kind::Haproxy => haproxy::start(stage, program, kind.ports()),
            Kind::Nginx => nginx::start(stage, program, kind.ports()),
            Kind::Sozu => sozu::start(stage, program, kind.ports()),
            Kind::Weir => weir::start(stage, program, kind.ports(), true),
            Kind::WeirUncounted | Kind::Direct => weir::start(stage, program, kind.ports(), false),
        }?;
        let mut contender = Self { kind, process: Some(process) };
        contender.await_listening()?;
        Ok(contender)
    }

    fn await_listening(&mut self) -> Result<()> {
        let Ports { http, https, .. } = self.kind.ports();
        let begun = Instant::now();
        while TcpStream::connect(loopback(http)).and(TcpStream::connect(loopback(https))).is_err() {
            self.assert_running()?;
            if begun.elapsed() > READY_WITHIN {
                bail!("{} does not listen within {READY_WITHIN:?}", self.kind);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub fn assert_running(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::assert_running)
    }

    /// The process that the row is about.
    pub fn process<'a>(&'a self, origin: &'a Process) -> &'a Process {
        self.process.as_ref().unwrap_or(origin)
    }

    pub fn addresses(&self, tls: bool) -> Vec<SocketAddr> {
        let ports = self.kind.ports();
        match (self.kind, tls) {
            (Kind::Direct, false) => origins().0,
            (Kind::Direct, true) => origins().1,
            (_, false) => vec![loopback(ports.http)],
            (_, true) => vec![loopback(ports.https)],
        }
    }
}
