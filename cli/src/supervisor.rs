//! An agent and a proxy as two child processes of this one.
//!
//! The agent first; the proxy when the agent's programs are in force; the other way round at the end, so that the proxy drains
//! while it is still counted *and* exported. The children are in process groups of their own: a Ctrl-C at the terminal
//! reaches only this process, which passes it on in order. They cannot outlive it: each holds the other end of a
//! pipe as its stdin (see [`signals`](crate::signals)).

use std::{
    fmt,
    fs::File,
    future::pending,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, interval, timeout_at},
};

use crate::{
    admin::Admin,
    logging::LogArgs,
    manager,
    signals::{READY, Stop},
};

/// How long a child may take until it serves. The agent compares its counts with all sockets of the host before.
const START_TIME: Duration = Duration::from_secs(120);
/// Between two questions to an agent that is not ready.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// How the children are started.
pub struct Launch {
    pub config: PathBuf,
    /// Where the agent will answer.
    pub admin: SocketAddr,
    pub log: LogArgs,
    /// A folder for the children's log lines; else they go where ours go.
    pub log_folder: Option<PathBuf>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Agent,
    Proxy,
}

impl Role {
    /// Where its log lines go, if they go to a folder.
    pub fn log_file(self, folder: &Path) -> PathBuf {
        folder.join(self.name()).with_extension("log")
    }

    /// The subcommand, and the name of the log file.
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weir {}", self.name())
    }
}

/// The two children, as far as they run. Dropped, they end by themselves.
#[derive(Default)]
pub struct Pair {
    agent: Option<Member>,
    proxy: Option<Member>,
}

struct Member {
    role: Role,
    child: Child,
    stdout: Option<ChildStdout>,
    /// Open as long as this process lives.
    _lifeline: ChildStdin,
}

impl Pair {
    /// Starts the agent, waits until its programs are in force, starts the proxy, waits until it serves.
    ///
    /// # Errors
    /// If one of them ends instead; what runs goes on until [`Pair::stop`]. Also when this future is dropped.
    pub async fn start(&mut self, launch: &Launch) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME;
        let agent = self.agent.insert(Member::spawn(Role::Agent, launch)?);
        agent.until_ready(deadline).await?;
        let admin = Admin::at(launch.admin);
        agent.unless_it_ends(deadline, in_force(&admin)).await?;
        let proxy = self.proxy.insert(Member::spawn(Role::Proxy, launch)?);
        proxy.until_ready(deadline).await?;
        proxy.pass_on_output(launch);
        Ok(())
    }

    /// Has both read their configuration again.
    pub fn reload(&self) {
        for member in [&self.agent, &self.proxy].into_iter().flatten() {
            member.signal(Signal::SIGHUP);
        }
    }

    /// Waits until one of them ends, which neither should.
    pub async fn failure(&mut self) -> anyhow::Error {
        let (role, status) = tokio::select! {
            status = ended(&mut self.agent) => (Role::Agent, status),
            status = ended(&mut self.proxy) => (Role::Proxy, status),
        };
        match status {
            Ok(status) => anyhow::anyhow!("{role} ended unexpectedly ({status})"),
            Err(error) => anyhow::Error::from(error).context(format!("cannot wait for {role}")),
        }
    }

    /// Ends the proxy, which drains, then the agent. Another request by `stop` makes short work of it.
    ///
    /// # Errors
    /// If one of them did not end well.
    pub async fn stop(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        let mut result = Ok(());
        for mut member in [self.proxy.take(), self.agent.take()].into_iter().flatten() {
            result = result.and(member.stop(stop).await);
        }
        result
    }
}

async fn ended(member: &mut Option<Member>) -> io::Result<ExitStatus> {
    match member {
        Some(member) => member.child.wait().await,
        None => pending().await,
    }
}

/// Waits until the agent's programs are in force and its counts are audited.
async fn in_force(admin: &Admin) -> anyhow::Result<()> {
    let mut ticks = interval(ASK_INTERVAL);
    loop {
        ticks.tick().await;
        if admin.is_ready().await {
            return Ok(());
        }
    }
}

impl Member {
    fn spawn(role: Role, launch: &Launch) -> anyhow::Result<Self> {
        // Not the path of the executable: another version may stand there by now.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("weir").args([role.name(), "--supervised"]).args(launch.log.to_arguments());
        command.arg("--config").arg(&launch.config);
        manager::hide_from(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        if let Some(folder) = &launch.log_folder {
            let path = role.log_file(folder);
            let log = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            command.stderr(log);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {role}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (lifeline, stdout) = pipes.with_context(|| format!("{role} has no pipes"))?;
        Ok(Self { role, child, stdout: Some(stdout), _lifeline: lifeline })
    }

    /// Waits until it says that it serves.
    async fn until_ready(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let mut said = [0; READY.len()];
        let Some(stdout) = &mut self.stdout else { bail!("{} has no pipes", self.role) };
        let read = timeout_at(deadline, stdout.read_exact(&mut said)).await;
        match read {
            Ok(Ok(_)) if said == READY.as_bytes() => Ok(()),
            Ok(Ok(_)) => bail!("{} says something else than that it is ready", self.role),
            Err(_) => bail!("{} is not ready after {} s", self.role, START_TIME.as_secs()),
            // It is gone, or about to.
            Ok(Err(_)) => Err(self.ended_early().await),
        }
    }

    /// What it writes to its stdout once it is ready goes to ours: the access log, if it is to go there. Where its log lines go to a
    /// folder, nothing is shown.
    fn pass_on_output(&mut self, launch: &Launch) {
        let Some(mut output) = self.stdout.take() else { return };
        let shown = launch.log_folder.is_none();
        tokio::spawn(async move {
            // Ends with the child. If our own stdout is closed there is nobody to read it.
            let _ = if shown {
                tokio::io::copy(&mut output, &mut tokio::io::stdout()).await
            } else {
                tokio::io::copy(&mut output, &mut tokio::io::sink()).await
            };
        });
    }

    /// Waits for `work`, but not longer than the child lives.
    async fn unless_it_ends(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.child.wait() => Err(self.ended_early().await),
            done = timeout_at(deadline, work) => match done {
                Ok(result) => result,
                Err(_) => bail!("{} is not ready after {} s", self.role, START_TIME.as_secs()),
            },
        }
    }

    async fn ended_early(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow::anyhow!("{} ended before it was ready ({status})", self.role),
            Err(error) => anyhow::Error::from(error).context(format!("cannot wait for {}", self.role)),
        }
    }

    fn signal(&self, signal: Signal) {
        // A child that has been waited for has no id; one that has not cannot have lost it to another process.
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    async fn stop(&mut self, stop: &mut Stop) -> anyhow::Result<()> {
        // How it ended before it was asked to has been told.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        self.signal(Signal::SIGTERM);
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = stop.requested() => {
                tracing::warn!("asked again: {} is killed", self.role);
                self.signal(Signal::SIGKILL);
                self.child.wait().await
            }
        };
        let status = status.with_context(|| format!("cannot wait for {}", self.role))?;
        if !status.success() {
            bail!("{} did not end well ({status})", self.role);
        }
        Ok(())
    }
}
