//! A process of a run: started on its core, read, ended.
//!
//! CPU is the process' own clock (`clock_getcpuclockid`): nanoseconds of user and system time of all its threads, those that have ended too.
//! Memory is PSS: pages that nobody shares, and its share of the others.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::stage;

const END_WITHIN: Duration = Duration::from_secs(5);

/// Ended when this is dropped. The kernel ends it should this program die without a word.
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts a program on a core, in a cgroup if one is named. What it says goes to a file in `folder`.
    pub fn start(
        folder: &Path,
        name: &str,
        core: usize,
        cgroup: Option<&Path>,
        command: &[&str],
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = prepared(folder, cgroup, command);
        child.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
        let before = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
        stage::pin(core)?;
        let started = child.spawn();
        nix::sched::sched_setaffinity(Pid::from_raw(0), &before)?;
        let child = started.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, log, name: name.to_owned() })
    }

    /// Starts this program in another role and waits for its first line.
    pub fn start_own(folder: &Path, core: usize, args: &[&str]) -> Result<Self> {
        let own = std::env::current_exe().context("the path of this program is unknown")?;
        let own = own.to_str().context("the path of this program is not UTF-8")?;
        let mut command = vec![own];
        command.extend(args);
        let log = folder.join("origin.log");
        let mut child = prepared(folder, None, &command);
        child.stdout(Stdio::piped()).stderr(File::create(&log)?).stdin(Stdio::null());
        stage::pin(core)?;
        let mut child = child.spawn().context("cannot start the origin")?;
        let said = child.stdout.take().context("the origin has no output")?;
        let own = Self { child, log, name: "origin".into() };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the origin did not start: {}", own.said());
        }
        Ok(own)
    }

    /// # Errors
    /// If it has ended, with what it said.
    pub fn assert_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, self.said()),
        }
    }

    fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// It and what it has started.
    fn pids(&self) -> Vec<Pid> {
        let mut pids = vec![self.pid()];
        let mut at = 0;
        while let Some(pid) = pids.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
            at += 1;
        }
        pids
    }

    /// CPU seconds so far, user and system.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in self.pids() {
            let used = clock_gettime(clock_getcpuclockid(pid)?)?;
            sum += used.tv_sec() as f64 + used.tv_nsec() as f64 / 1e9;
        }
        Ok(sum)
    }

    /// Bytes of memory.
    pub fn pss_bytes(&self) -> Result<f64> {
        let mut sum = 0.0;
        for pid in self.pids() {
            let path = format!("/proc/{pid}/smaps_rollup");
            let rollup = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            sum += kib(&rollup, "Pss:").with_context(|| format!("no PSS in {path}"))? * 1024.0;
        }
        Ok(sum)
    }
}

/// The number behind a word that begins a line, as `/proc` writes it.
fn kib(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// Bytes that the kernel has in slabs: sockets are there, and epoll's entries, and much of the rest of the host.
pub fn slab_bytes() -> Result<f64> {
    let info = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    Ok(kib(&info, "Slab:").context("/proc/meminfo has no slabs")? * 1024.0)
}

/// By way of two programs that become it: one enters the cgroup, one asks the kernel to end it with this process.
fn prepared(folder: &Path, cgroup: Option<&Path>, command: &[&str]) -> Command {
    let mut prepared = Command::new("setpriv");
    prepared.args(["--pdeathsig", "KILL", "--"]).current_dir(folder);
    if let Some(cgroup) = cgroup {
        prepared.args(["sh", "-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup);
    }
    prepared.args(command);
    prepared
}

impl Drop for Process {
    fn drop(&mut self) {
        let pids = self.pids();
        let _ = kill(self.pid(), Signal::SIGTERM);
        let begun = Instant::now();
        // A drain would wait for tunnels; what is measured is over.
        while begun.elapsed() < END_WITHIN && !matches!(self.child.try_wait(), Ok(Some(_))) {
            thread::sleep(Duration::from_millis(5));
        }
        for pid in pids.into_iter().skip(1) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
