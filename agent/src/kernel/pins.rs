//! Where an instance's maps and links are pinned, who holds it, and how it is removed.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
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

use super::{KernelError, sys};

const ROOT: &str = "/sys/fs/bpf";
/// Folder of pins that are to take the place of another ABI version's.
const NEXT: &str = "next";
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
        self.drop_next()?;
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

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the pins wait that are to take the place of another ABI version's.
    pub fn next(&self) -> PathBuf {
        self.path.join(NEXT)
    }

    /// Makes that folder.
    pub fn begin_next(&self) -> Result<PathBuf, KernelError> {
        self.drop_next()?;
        let next = self.next();
        fs::create_dir(&next).map_err(pin("make", &next))?;
        Ok(next)
    }

    /// Removes that folder with all that is pinned there, if there is one: its programs are detached.
    pub fn drop_next(&self) -> Result<(), KernelError> {
        let next = self.next();
        let drop = || -> io::Result<()> {
            // Links first: no program may run on maps that are half gone.
            for name in names::PROGRAMS.into_iter().chain(names::PINNED_MAPS) {
                remove(&next.join(name))?;
            }
            for entry in fs::read_dir(&next)? {
                remove(&entry?.path())?;
            }
            fs::remove_dir(&next)
        };
        match drop() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin("remove", &next)(error)),
            _ => Ok(()),
        }
    }

    /// Everything in that folder takes the place of what is pinned beside it; what has no successor goes. Gates stay: they get this
    /// version's program when they are adopted. Called again after an interruption, it does what is left.
    pub fn take_next(&self) -> Result<(), KernelError> {
        let next = self.next();
        let take = || -> io::Result<()> {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let (name, path) = (entry.file_name(), entry.path());
                let is_ours = |known: &&str| name.as_encoded_bytes() == known.as_bytes();
                let stays = names::PROGRAMS.iter().chain(&names::PINNED_MAPS).any(is_ours)
                    || name.as_encoded_bytes().starts_with(XDP_PIN.as_bytes())
                    || name.as_encoded_bytes() == NEXT.as_bytes();
                if !stays {
                    detach(&path)?;
                    remove(&path)?;
                }
            }
            // All of the other version's programs end before any of its maps goes.
            let waiting = |names: &[&'static str]| -> Vec<&'static str> {
                names.iter().copied().filter(|name| next.join(name).exists()).collect()
            };
            let programs = waiting(&names::PROGRAMS);
            for name in &programs {
                detach(&self.link(name))?;
            }
            let maps = waiting(&names::PINNED_MAPS);
            let host_last = maps.iter().filter(|name| **name != names::MAP_HOST);
            let host = maps.iter().filter(|name| **name == names::MAP_HOST);
            for name in programs.iter().chain(host_last).chain(host) {
                fs::rename(next.join(name), self.path.join(name))?;
            }
            fs::remove_dir(&next)
        };
        take().map_err(pin("put in place", &next))
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Detaches a pinned link's program, if it is one and is there.
fn detach(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    match sys::detach_link(sys::get_pinned(path)?.as_fd()) {
        // No link; or one whose cgroup is gone.
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Err(error),
        _ => Ok(()),
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
