//! weir itself: with an agent that counts in the run's cgroup, and outside of that cgroup without one.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{ORIGIN_PORTS, Ports, READY_WITHIN, loopback};
use crate::{HOST, process::Process, stage::Stage, tls};

const AGENT_ADMIN: u16 = 8999;

/// `weir agent` for the time of a run. It is no part of what is measured: its work is in the kernel, on the proxy's account.
pub struct Agent {
    // Before its programs are removed.
    process: Option<Process>,
    weir: PathBuf,
}

fn instance() -> String {
    format!("bench-{}", process::id())
}

fn conf(stage: &Stage, ports: Ports, counting: bool) -> String {
    let origins: Vec<String> =
        ORIGIN_PORTS.iter().map(|port| format!("\"ws://{}\"", loopback(*port))).collect();
    format!(
        "instance = \"{}\"\n[proxy]\nhttp = [\"{}\"]\nhttps = [\"{}\"]\nadmin = \"{}\"\nuser = \"root\"\naccounting = \"{}\"\n\
         [agent]\nadmin = \"{}\"\ncgroup = \"{}\"\nsocket = \"agent.sock\"\nledger = \"ledger.db\"\n\
         [plans.bench]\nguideline = 1000000\nabuse_cap = 10000000\n\
         [[zones]]\nname = \"{HOST}\"\nplan = \"bench\"\norigins = [{}]\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
        instance(),
        loopback(ports.http),
        loopback(ports.https),
        loopback(ports.admin),
        if counting { "required" } else { "optional" },
        loopback(AGENT_ADMIN),
        stage.cgroup().display(),
        origins.join(", "),
        tls::CERTIFICATE,
        tls::KEY,
    )
}

impl Agent {
    pub fn start(stage: &Stage, weir: &Path) -> Result<Self> {
        let conf = stage.write("agent.toml", &conf(stage, super::Kind::Weir.ports(), true))?;
        let (program, conf) = (weir.to_str().context("UTF-8")?, conf.to_str().context("UTF-8")?);
        let command = [program, "agent", "--config", conf];
        let process = Process::start(stage.folder(), "agent", stage.cores.load, None, &command)?;
        let mut agent = Self { process: Some(process), weir: weir.to_owned() };
        let begun = Instant::now();
        while !is_ready() {
            agent.process.as_mut().map_or(Ok(()), Process::assert_running)?;
            if begun.elapsed() > READY_WITHIN {
                bail!("the agent is not ready within {READY_WITHIN:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }
}

fn is_ready() -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(loopback(AGENT_ADMIN))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process = None;
        let unloaded =
            Command::new(&self.weir).args(["agent", "--unload", "--instance", &instance()]).output();
        match unloaded {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("left behind: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("instance {} is left behind: {error}", instance()),
        }
    }
}

pub fn start(stage: &Stage, program: &str, ports: Ports, counting: bool) -> Result<Process> {
    let name = if counting { "weir" } else { "weir-uncounted" };
    let conf = stage.write(&format!("{name}.toml"), &conf(stage, ports, counting))?;
    let conf = conf.to_str().context("a path that is not UTF-8")?;
    let cgroup = counting.then(|| stage.cgroup());
    let command = [program, "proxy", "--config", conf];
    Process::start(stage.folder(), name, stage.cores.proxy, cgroup, &command)
}
