//! A test's own world: network namespace, folder, instance, runtime.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    Agent, Conf, Process, SOON, host,
    instance::{FOLDER, Instance},
};

/// The addresses that tests use; every namespace has all ports for itself.
pub const HTTP: SocketAddr = loopback(8080);
pub const HTTPS: SocketAddr = loopback(8443);
pub const ADMIN: SocketAddr = loopback(9464);
pub const ORIGIN: SocketAddr = loopback(9001);

/// Tests of a process that have programs attached at the same time. The kernel takes 64 on one cgroup and hook.
const AT_ONCE: usize = 4;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Runs a test in a world of its own, and fails as it fails.
pub fn world(test: impl FnOnce(&World) + Send + 'static) {
    host::prepare();
    let _permit = Permit::take();
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own");
        ip("link set lo up");
        let world = World::new();
        test(&world);
    };
    let thread = thread::Builder::new().name(thread::current().name().unwrap_or("test").to_owned());
    if let Err(panic) = thread.spawn(run).expect("a thread").join() {
        resume_unwind(panic);
    }
}

/// What a test has. It lives on the thread that is in the namespace, as do the threads that are started from there.
pub struct World {
    /// Before the folder and the instance: its tasks end first.
    runtime: Runtime,
    folder: TempDir,
    instance: Instance,
}

impl World {
    fn new() -> Self {
        let instance = Instance::new();
        let prefix = format!("{FOLDER}{}-", instance.name());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a folder");
        // The proxy reads its configuration again as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("permissions of the folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        Self { runtime, folder, instance }
    }

    pub fn instance(&self) -> &str {
        self.instance.name()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where `weir agent` of this world has its pins.
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/weir").join(self.instance())
    }

    /// Runs a future to its end in this world.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a task beside the test, until the test is through.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(&self, task: F) {
        drop(self.runtime.spawn(task));
    }

    /// An empty configuration of this world's instance.
    pub fn conf(&self) -> Conf {
        Conf::new(self.instance())
    }

    /// Writes a file of this world in one step, as an operator's tool should.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, hidden) = (self.folder().join(name), self.folder().join(format!(".{name}.new")));
        fs::write(&hidden, content).expect("a file");
        fs::rename(&hidden, &path).expect("a file in place");
        path
    }

    /// Starts `weir agent` with the configuration, and waits until it is ready.
    pub fn agent(&self, conf: &Conf) -> Agent {
        Agent::start(self, &self.write("weir.toml", &conf.to_string()))
    }

    /// The same, and it dies as soon as it comes to this point.
    pub fn agent_to_die(&self, conf: &Conf, point: &str) -> Agent {
        Agent::start_to_die(self, &self.write("weir.toml", &conf.to_string()), point)
    }

    /// Starts `weir agent` by the clock that this file is (`agent/src/reachout/clock.rs`).
    pub fn agent_by_clock(&self, conf: &Conf, clock: &Path) -> Agent {
        let variable = format!("WEIR_TEST_CLOCK={}", clock.display());
        Agent::start_with(self, &self.write("weir.toml", &conf.to_string()), &variable)
    }

    /// Starts `weir agent`, and waits until it has died at this point of its start.
    pub fn agent_dies_at(&self, conf: &Conf, point: &str) {
        let conf = self.write("weir.toml", &conf.to_string());
        let (fault, weir) = (format!("WEIR_FAULT={point}"), host::weir());
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let args = [fault, text(&weir), "agent".to_owned(), "--config".to_owned(), text(&conf)];
        let args = args.iter().map(String::as_str);
        let mut dying = Process::start(self.folder(), "dying", Path::new("/usr/bin/env"), args);
        assert!(!dying.wait(SOON).success());
        let log = dying.log();
        assert!(log.contains("dying, as a test wants it"), "{log}");
    }

    /// Starts `weir` with these arguments. `name` is for its log.
    pub fn weir<'a>(&self, name: &str, args: impl IntoIterator<Item = &'a str>) -> Process {
        Process::start(self.folder(), name, &host::weir(), args)
    }

    /// Starts the tests' helper with these arguments.
    pub fn helper<'a>(&self, name: &str, args: impl IntoIterator<Item = &'a str>) -> Process {
        Process::start(self.folder(), name, &host::helper(), args)
    }
}

/// Runs `ip` with blank-separated arguments in the calling thread's namespace.
pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().expect("`ip` starts");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`ip {args}` failed: {why}");
}

/// The right to have programs attached.
struct Permit;

static HELD: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Permit {
    fn take() -> Self {
        let held = FREED.wait_while(held(), |held| *held >= AT_ONCE);
        *held.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *held() -= 1;
        FREED.notify_one();
    }
}

fn held() -> MutexGuard<'static, usize> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
