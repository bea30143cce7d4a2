//! System calls that aya and nix do not offer: `bpf` commands for pinned links (aya's `CgroupSockoptLink` cannot be pinned, its
//! links cannot be updated, and do not say where they are), and the RCU grace period.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType};
use weir_common::{
    ABI_VERSION,
    sockopt::{LEVEL, Op, SourceCorrection},
};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `enum bpf_attach_type`, those that weir has programs for.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum AttachType {
    SockOps = 3,
    SetSockopt = 22,
    SockRelease = 34,
}

/// How XDP is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum XdpMode {
    /// `XDP_FLAGS_SKB_MODE`.
    Generic = 1 << 1,
    /// `XDP_FLAGS_DRV_MODE`.
    Native = 1 << 2,
}

impl XdpMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Native => "native",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Generic, Self::Native].into_iter().find(|mode| mode.name() == name)
    }
}

/// `union bpf_attr`, its `link_create` part.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    /// A descriptor, or an interface's index.
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// `union bpf_attr`, its `BPF_OBJ_*` part.
#[repr(C)]
struct Obj {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Opens what is pinned at a path. Linux 4.4.
pub fn get_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Obj { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &attr)?;
    // SAFETY: the kernel has just made the descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins what a descriptor is open on at a path. Linux 4.4.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Obj { pathname: path.as_ptr() as u64, bpf_fd: object.as_raw_fd() as u32, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &attr).map(drop)
}

/// Attaches a program to a cgroup. Linux 5.7.
pub fn create_link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: AttachType) -> io::Result<OwnedFd> {
    link(&LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target: cgroup.as_raw_fd() as u32,
        attach_type: hook as u32,
        flags: 0,
    })
}

/// Attaches a program to an interface, given by its index. Linux 5.9.
pub fn create_xdp_link(program: BorrowedFd<'_>, interface: u32, mode: XdpMode) -> io::Result<OwnedFd> {
    const BPF_XDP: u32 = 37;
    link(&LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target: interface,
        attach_type: BPF_XDP,
        flags: mode as u32,
    })
}

fn link(attr: &LinkCreate) -> io::Result<OwnedFd> {
    let fd = bpf(BPF_LINK_CREATE, attr)?;
    // SAFETY: the kernel has just made the descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The index of the interface that an XDP link is attached to; 0 if the interface is gone. Linux 5.9.
pub fn xdp_link_interface(link: BorrowedFd<'_>) -> io::Result<u32> {
    /// `struct bpf_link_info` as far as it concerns XDP.
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        kind: u32,
        id: u32,
        prog_id: u32,
        padding: u32,
        interface: u32,
        reserved: u32,
    }
    /// `union bpf_attr`, its `info` part.
    #[repr(C)]
    struct Info {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    const BPF_LINK_TYPE_XDP: u32 = 6;
    let mut info = LinkInfo::default();
    let attr = Info {
        bpf_fd: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // The kernel writes to `info`, which lives during the call and is as long as it says.
    bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)?;
    // SAFETY: `info` is plain numbers, written by the kernel behind the compiler's back.
    let info = unsafe { std::ptr::read_volatile(&raw const info) };
    if info.kind == BPF_LINK_TYPE_XDP {
        Ok(info.interface)
    } else {
        Err(io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// The link keeps its place and runs another program from now on, in one step. Linux 5.7.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    /// `union bpf_attr`, its `link_update` part.
    #[repr(C)]
    struct LinkUpdate {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    let attr = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &attr).map(drop)
}

/// Takes a link's program out of force, at once: to close the link's last descriptor does it a little later. Linux 5.9.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &(link.as_raw_fd() as u32)).map(drop)
}

/// Runs a classifier once, on a packet of these bytes, in the calling thread's network namespace. Returns what it returned.
/// Linux 4.12.
pub fn run_once(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    /// `union bpf_attr`, its `test` part.
    #[repr(C)]
    #[derive(Default)]
    struct Test {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx: [u64; 3],
    }
    let mut test = Test {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: packet.as_ptr() as u64,
        repeat: 1,
        ..Test::default()
    };
    // SAFETY: `test` is initialised, live and of the stated size, as is the packet, which is only read; the kernel writes `retval` and
    // `duration`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut test, size_of::<Test>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(test.retval) }
}

/// Copies the rows of a map's next buckets. `from` is where the last call ended, `to` becomes where this one did. Returns how many
/// rows there are, and whether they were the last. Linux 5.6.
///
/// # Panics
/// If keys or values have no room for `most` rows of the map.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<&[u8]>,
    to: &mut [u8],
    keys: &mut [u8],
    values: &mut [u8],
    most: usize,
) -> io::Result<(usize, bool)> {
    /// `union bpf_attr`, its `batch` part.
    #[repr(C)]
    struct Batch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
    assert!(
        most > 0 && keys.len().is_multiple_of(most) && values.len().is_multiple_of(most),
        "room for {most} rows"
    );
    let mut attr = Batch {
        in_batch: from.map_or(0, |from| from.as_ptr() as u64),
        out_batch: to.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: most as u32,
        map_fd: map.as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: `attr` is initialised, live and of the stated size; the kernel writes `count`, and at most `count` rows into buffers
    // that have room for as many by the caller's promise on their row sizes, and a hash map's position (4 bytes) into `to`.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attr, size_of::<Batch>()) };
    if result == 0 {
        return Ok((attr.count as usize, false));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count as usize, true)),
        error => Err(error),
    }
}

/// Asks weir's own programs to set a source's row right.
pub fn correct_source(correction: &SourceCorrection) -> io::Result<()> {
    let socket =
        nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the descriptor is open, the value (plain numbers without padding) live and of the stated size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            LEVEL,
            Op::CorrectSource as libc::c_int,
            std::ptr::from_ref(correction).cast(),
            size_of::<SourceCorrection>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until every BPF program that ran at the time of the call has ended: `membarrier(MEMBARRIER_CMD_GLOBAL)` is
/// `synchronize_rcu()` (Linux 4.3; refused on hosts with `nohz_full` CPUs).
pub fn rcu_grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: the call reads and writes no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// True if kernel programs of weir already answer for sockets of this process: those of some instance that is attached to its
/// cgroup and counts its network namespace.
pub fn is_counted_here() -> io::Result<bool> {
    let socket =
        nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let value = u64::from(ABI_VERSION).to_ne_bytes();
    // SAFETY: the descriptor is open, the value live and of the stated size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            LEVEL,
            Op::Probe as libc::c_int,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    // Every other errno is an answer of somebody's programs.
    Ok(result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOPROTOOPT))
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is initialised, live during the call (with the path that it points to) and of the stated size; the commands only read it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
