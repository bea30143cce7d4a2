//! Where a run happens: a network namespace, a folder and a cgroup of its own, and one core for each side.
//!
//! All of it goes with the process: the namespace and its sockets with the last process in it, the rest when [`Stage`] is dropped.
//! Nothing outside of it is changed.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Pid, Uid},
};
use tempfile::TempDir;

/// Descriptors that 100,000 WebSockets take of a proxy, and then some.
const DESCRIPTORS: u64 = 300_000;
/// Descriptors that are not for WebSockets, besides one in eight (at most 4,096), which weir keeps back.
const OTHERS: u64 = 512;

/// The two cores: one for load and origin, one for the proxy that is measured.
#[derive(Clone, Copy)]
pub struct Cores {
    pub load: usize,
    pub proxy: usize,
}

pub struct Stage {
    folder: TempDir,
    cgroup: PathBuf,
    pub cores: Cores,
    /// As many as a proxy has descriptors for, two each.
    pub websockets: usize,
}

impl Stage {
    /// Has to be called before the process has a second thread.
    pub fn set() -> Result<Self> {
        if !Uid::effective().is_root() {
            bail!("the benchmark needs root, for a network namespace of its own and weir's kernel programs");
        }
        let cores = cores()?;
        let descriptors = raise_descriptors()?;
        unshare(CloneFlags::CLONE_NEWNET).context("no network namespace of its own")?;
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        if !up.context("cannot start `ip`")?.success() {
            bail!("the loopback interface of the new namespace does not come up");
        }
        // Of this namespace alone. Listeners are below these ports.
        for (name, value) in [("ipv4/ip_local_port_range", "10000 65000"), ("core/somaxconn", "65535")] {
            let path = Path::new("/proc/sys/net").join(name);
            fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))?;
        }
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        // Proxies read their files as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let cgroup = cgroup2()?.join(format!("weir-bench-{}", process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
        pin(cores.load)?;
        let reserve = (descriptors / 8).min(4096) + OTHERS;
        // And a few for those of a row that are on their way out.
        let websockets = (descriptors.saturating_sub(reserve) / 2) as usize * 15 / 16;
        Ok(Self { folder, cgroup, cores, websockets })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The one that weir counts in. Peers are not in it.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Empty, once its processes are; the kernel takes a moment to see it.
        for _ in 0..200 {
            match fs::remove_dir(&self.cgroup) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Ok(()) => return,
                Err(error) => return eprintln!("{} is left behind: {error}", self.cgroup.display()),
            }
        }
    }
}

/// Keeps the calling thread, and processes that it starts from now on, on one core.
pub fn pin(core: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("cannot keep to core {core}"))
}

fn cores() -> Result<Cores> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("which cores may be used is unknown")?;
    let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
    match (cores.next(), cores.next()) {
        (Some(load), Some(proxy)) => Ok(Cores { load, proxy }),
        _ => bail!("two cores are needed: one for the load and one for the proxy"),
    }
}

/// To as many as there may be; a container may not raise the hard limit.
fn raise_descriptors() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = hard.max(DESCRIPTORS);
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() {
        return Ok(most);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .with_context(|| format!("the limit of open files cannot be {hard}"))?;
    Ok(hard)
}

/// Where cgroup2 is mounted.
fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    });
    mount.context("cgroup2 is not mounted, and weir counts in one of its cgroups")
}
