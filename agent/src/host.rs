//! What the host must offer: one clear sentence for each thing, with its remedy.

use std::{fs, path::Path};

use nix::{
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        utsname::uname,
    },
    unistd::geteuid,
};

use crate::kernel::{can_destroy, cgroup2_mount};

/// One precondition and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    pub remedy: String,
}

/// Linux 5.18: `bpf_set_retval` in cgroup programs.
const OLDEST: (u32, u32) = (5, 18);
/// Linux 6.12: sockets that were connected before the agent came can be followed.
const COMFORTABLE: (u32, u32) = (6, 12);

/// Every precondition of the kernel side.
pub fn check_host() -> Vec<Finding> {
    vec![
        kernel_version(),
        architecture(),
        btf(),
        capabilities(),
        bpffs(),
        cgroup2(),
        sock_diag(),
        sock_destroy(),
        fast_open(),
    ]
}

fn finding(name: &'static str, ok: bool, found: impl Into<String>, remedy: &str) -> Finding {
    Finding { name, ok, found: found.into(), remedy: if ok { String::new() } else { remedy.to_owned() } }
}

fn kernel_version() -> Finding {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let version = parse_release(&release);
    let note = if version >= Some(OLDEST) && version < Some(COMFORTABLE) {
        format!("{release}; sockets that live when the agent first starts are not counted before Linux 6.12")
    } else {
        release
    };
    finding("kernel", version >= Some(OLDEST), note, "weir needs Linux 5.18 or later: boot a newer kernel")
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn architecture() -> Finding {
    let little = cfg!(target_endian = "little") && cfg!(target_pointer_width = "64");
    finding("architecture", little, std::env::consts::ARCH, "weir runs on 64-bit little-endian machines")
}

fn btf() -> Finding {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    let found = if path.exists() { "/sys/kernel/btf/vmlinux" } else { "none" };
    finding(
        "BTF",
        path.exists(),
        found,
        "socket storage needs a kernel built with CONFIG_DEBUG_INFO_BTF=y: use a distribution kernel",
    )
}

/// `CAP_NET_ADMIN` attaches and lists sockets, `CAP_BPF` loads and reads the sockets' tags.
fn capabilities() -> Finding {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_BPF: u32 = 39;
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0);
    let has = |cap: u32| effective & (1 << cap) != 0;
    let ok = has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN));
    let found = format!(
        "uid {}, CAP_BPF {}, CAP_NET_ADMIN {}",
        geteuid(),
        if has(CAP_BPF) || has(CAP_SYS_ADMIN) { "yes" } else { "no" },
        if has(CAP_NET_ADMIN) { "yes" } else { "no" },
    );
    finding("capabilities", ok, found, "run the agent as root, or with CAP_BPF and CAP_NET_ADMIN")
}

fn bpffs() -> Finding {
    let path = "/sys/fs/bpf";
    let ok = statfs(path).map(|fs| fs.filesystem_type()) == Ok(BPF_FS_MAGIC);
    finding("bpffs", ok, if ok { path } else { "not mounted" }, "mount it: mount -t bpf bpf /sys/fs/bpf")
}

fn cgroup2() -> Finding {
    let mount = cgroup2_mount();
    let found = mount.as_ref().map_or_else(|| "not mounted".to_owned(), |path| path.display().to_string());
    finding(
        "cgroup2",
        mount.is_some(),
        found,
        "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified (after mkdir -p)",
    )
}

/// Opening the socket loads the module; asking it needs no privilege, reading tags does.
fn sock_diag() -> Finding {
    let result = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Netlink,
        nix::sys::socket::SockType::Raw,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        nix::sys::socket::SockProtocol::NetlinkSockDiag,
    );
    let found = result.as_ref().map_or_else(ToString::to_string, |_| "available".to_owned());
    finding(
        "sock_diag",
        result.is_ok(),
        found,
        "the audit needs CONFIG_INET_DIAG: load the module inet_diag and tcp_diag",
    )
}

/// Ending sockets of others, for `weir kill`; nothing else needs it. Only who may do it is told whether the kernel can.
fn sock_destroy() -> Finding {
    let remedy = "`weir kill` needs a kernel with CONFIG_INET_DIAG_DESTROY=y: use a distribution kernel";
    match can_destroy() {
        Ok(can) => {
            let found = if can { "available" } else { "this kernel cannot end sockets of others" };
            finding("sock_destroy", can, found, remedy)
        }
        Err(error) => finding("sock_destroy", true, format!("not known: {error}"), remedy),
    }
}

/// TCP Fast Open without cookies: the kernel makes a socket of a SYN alone, which may come from a made-up address.
fn fast_open() -> Finding {
    let mode = fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").unwrap_or_default();
    let (ok, found) = judge_fast_open(mode.trim());
    let remedy = "SYNs with made-up addresses take places of zones and sources: clear the bit 0x200 (sysctl net.ipv4.tcp_fastopen=1)";
    finding("tcp_fastopen", ok, found, remedy)
}

fn judge_fast_open(mode: &str) -> (bool, String) {
    /// A server takes data in a SYN without a cookie.
    const WITHOUT_COOKIE: u32 = 0x200;
    match mode.parse::<u32>() {
        Ok(bits) if bits & WITHOUT_COOKIE != 0 => (false, format!("{bits:#x}: servers ask for no cookie")),
        Ok(bits) => (true, format!("{bits:#x}")),
        Err(_) => (true, "not there".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_open_without_cookies_is_told() {
        assert!(!judge_fast_open("519").0 && !judge_fast_open("512").0);
        assert!(judge_fast_open("1").0 && judge_fast_open("3").0 && judge_fast_open("").0);
    }

    #[test]
    fn releases_are_read_with_their_suffixes() {
        assert_eq!(parse_release("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(parse_release("5.18"), Some((5, 18)));
        assert_eq!(parse_release("6.1.0-25-amd64"), Some((6, 1)));
        assert_eq!(parse_release("x"), None);
        assert!(parse_release("5.4.0") < Some(OLDEST));
    }

    #[test]
    fn what_fails_has_a_remedy_and_what_holds_has_none() {
        for finding in check_host() {
            assert_eq!(finding.ok, finding.remedy.is_empty(), "{finding:?}");
        }
    }
}
