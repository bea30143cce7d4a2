//! What a test run needs of the host, looked at once a process.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use nix::{
    mount::{MsFlags, mount},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::geteuid,
};

use crate::instance;

const BPFFS: &str = "/sys/fs/bpf";
/// Open files that one process of a test needs at most. Processes that are started inherit the limit.
const DESCRIPTORS: u64 = 16_000;

/// Makes sure of root, the BPF file system, descriptors and iproute2, and takes away what killed test processes left.
///
/// # Panics
/// With one sentence that says what is missing.
pub fn prepare() {
    static PREPARED: OnceLock<()> = OnceLock::new();
    PREPARED.get_or_init(|| {
        assert!(
            geteuid().is_root(),
            "the kernel tests need root: run them as root, or leave them out with `cargo xtask test --no-kernel`"
        );
        if statfs(BPFFS).map(|found| found.filesystem_type()) != Ok(BPF_FS_MAGIC) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                .unwrap_or_else(|error| panic!("the BPF file system cannot be mounted at {BPFFS}: {error}"));
        }
        let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard).max(DESCRIPTORS);
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap_or_else(|error| {
            panic!("the limit of open files cannot be {hard} ({error}): raise it with `ulimit -Hn {DESCRIPTORS}`")
        });
        for tool in ["ip", "ss"] {
            let path = env::var_os("PATH").unwrap_or_default();
            let found = env::split_paths(&path).any(|folder| folder.join(tool).is_file());
            assert!(found, "`{tool}` is not on PATH: install iproute2");
        }
        instance::remove_stale();
    });
}

/// The `weir` under test: `WEIR_BIN`, else the one that cargo built beside this test.
pub fn weir() -> PathBuf {
    let path = env::var_os("WEIR_BIN").map_or_else(|| built("weir"), PathBuf::from);
    assert!(
        path.is_file(),
        "there is no weir at {}: run `cargo build -p weir` first, or name one in WEIR_BIN",
        path.display()
    );
    path
}

/// The tests' helper program.
pub fn helper() -> PathBuf {
    let path = built("weir-test-helper");
    assert!(path.is_file(), "there is no {}: run `cargo build -p weir-tests --bins`", path.display());
    path
}

/// cargo's folder for the profile of this test, with what it builds for all.
pub fn profile_folder() -> PathBuf {
    let mut folder = env::current_exe().expect("the path of this program");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder
}

fn built(name: &str) -> PathBuf {
    profile_folder().join(name)
}

/// True if a process with this id exists and has not ended (as a zombie, which has no program any more, has).
pub fn is_alive(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Writes a setting of the calling thread's network namespace (or the host's).
pub fn set_sysctl(name: &str, value: &str) {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).unwrap_or_else(|error| panic!("{} cannot be {value}: {error}", path.display()));
}
