//! Where an instance's maps and links are pinned, who holds it, and how it is removed.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        socket::{AddressFamily, SockFlag, SockType},
        statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
    },
};
use weir_common::names;

use super::KernelError;

const ROOT: &str = "/sys/fs/bpf";
/// How names of pins begin that hold a gate on an interface.
pub(super) const XDP_PIN: &str = "xdp_";

/// The folder of one instance, locked: only one agent at a time may hold it.
pub struct InstanceDir {
    path: PathBuf,
    _lock: Flock<fs::File>,
}

impl InstanceDir {
    /// Makes the folder if need be, and takes its lock.
    pub fn claim(instance: &str) -> Result<Self, KernelError> {
        let root = Path::new(ROOT);
        if statfs(root).map(|fs| fs.filesystem_type()) != Ok(BPF_FS_MAGIC) {
            return Err(KernelError::NoBpffs { path: root.to_owned() });
        }
        let path = instance_path(instance);
        let running = || KernelError::Running { instance: instance.to_owned() };
        fs::create_dir_all(&path).map_err(pin("make", &path))?;
        let dir = fs::File::open(&path).map_err(pin("open", &path))?;
        let opened = dir.metadata().map_err(pin("open", &path))?.ino();
        let lock = Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|_| running())?;
        // An unload may have removed the folder between the two steps: then the lock is on nothing.
        if fs::metadata(&path).map(|now| now.ino()).ok() != Some(opened) {
            return Err(running());
        }
        Ok(Self { path, _lock: lock })
    }

    /// Removes every pin: programs are detached, maps go.
    pub fn clear(&self) -> Result<(), KernelError> {
        // Links first: no program may run on maps that are half gone.
        let links = names::PROGRAMS.iter().map(|name| self.link(name));
        let gates = self.xdp_pins().map_err(pin("read", &self.path))?;
        let maps = names::PINNED_MAPS.iter().map(|name| self.map(name));
        for pinned in gates.into_iter().chain(links).chain(maps) {
            match fs::remove_file(&pinned) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(pin("remove", &pinned)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Pins that hold a gate on an interface.
    pub fn xdp_pins(&self) -> io::Result<Vec<PathBuf>> {
        let mut pins = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(XDP_PIN.as_bytes()) {
                pins.push(entry.path());
            }
        }
        Ok(pins)
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where a program's link is pinned. (bpffs reserves names with dots.)
    pub fn link(&self, program: &str) -> PathBuf {
        self.path.join(program)
    }
}

impl Drop for InstanceDir {
    /// An agent that was refused leaves no empty folder behind. One that holds pins cannot be removed.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

fn instance_path(instance: &str) -> PathBuf {
    Path::new(ROOT).join("weir").join(instance)
}

fn pin(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KernelError {
    let path = path.to_owned();
    move |source| KernelError::Pin { action, path, source }
}

/// Detaches an instance's programs and removes its maps: counting and caps end at once. Returns false if there was none.
pub fn unload(instance: &str) -> Result<bool, KernelError> {
    let path = instance_path(instance);
    if !path.exists() {
        return Ok(false);
    }
    let dir = InstanceDir::claim(instance)?;
    dir.clear()?;
    fs::remove_dir(&path).map_err(pin("remove", &path))?;
    // The folder above is shared with other instances; it goes with the last of them.
    let _ = fs::remove_dir(Path::new(ROOT).join("weir"));
    Ok(true)
}

/// The cgroup that programs attach to: an open folder and its id.
pub struct Cgroup {
    pub file: fs::File,
    pub path: PathBuf,
    /// Inode number, which is the cgroup's id.
    pub id: u64,
}

impl Cgroup {
    /// Opens the named cgroup, or the root of cgroup2 wherever it is mounted.
    pub fn open(path: Option<&Path>) -> Result<Self, KernelError> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => cgroup2_mount().ok_or(KernelError::NoCgroup2)?,
        };
        let open = || -> io::Result<_> {
            let file = fs::File::open(&path)?;
            let id = file.metadata()?.ino();
            Ok((file, id))
        };
        let (file, id) = open().map_err(|source| KernelError::Cgroup { path: path.clone(), source })?;
        if nix::sys::statfs::fstatfs(&file).map(|fs| fs.filesystem_type()) != Ok(CGROUP2_SUPER_MAGIC) {
            return Err(KernelError::NotCgroup2 { path });
        }
        Ok(Self { file, path, id })
    }
}

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or elsewhere in the hybrid layout.
pub fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // Mount points write blanks as octal escapes.
        (kind == "cgroup2").then(|| PathBuf::from(path.replace("\\040", " ")))
    })
}

/// `SO_NETNS_COOKIE` of the calling thread's network namespace (Linux 5.14).
pub fn netns_cookie() -> io::Result<u64> {
    /// `include/uapi/asm-generic/socket.h`; not in `libc` for every architecture.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, value and length are live and of the stated size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
