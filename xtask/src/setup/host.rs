//! What the host itself has to offer: the BPF file system, and the programs that the tests call.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::exec;

/// Where maps and links are pinned.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Programs that the tests call, and the packages that have them.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("chromium", "chromium"),
    ("openssl", "openssl"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("promtool", "prometheus"),
    ("prometheus", "prometheus"),
    ("strip", "binutils"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
];

/// Files that the managed rules of the firewall are built and tested with, and the packages that have them.
const MODSECURITY: &[(&str, &str)] = &[
    ("/usr/include/modsecurity/modsecurity.h", "libmodsecurity-dev"),
    ("/usr/share/modsecurity-crs/rules", "modsecurity-crs"),
];

/// # Errors
/// If the kernel has no such file system to mount.
pub fn lacks_bpffs() -> Result<bool> {
    if !Path::new(BPFFS).is_dir() {
        bail!("{BPFFS} does not exist: this kernel has no BPF (CONFIG_BPF_SYSCALL), or /sys is not mounted");
    }
    let found = statfs(BPFFS).with_context(|| format!("cannot ask what is mounted at {BPFFS}"))?;
    Ok(found.filesystem_type() != BPF_FS_MAGIC)
}

pub fn mount_bpffs() -> Result<()> {
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).with_context(|| {
        format!("cannot mount the BPF file system at {BPFFS}; in a container, mount it from the host")
    })
}

/// Packages of the tests' programs that are not on `PATH`, and of what else tests need.
pub fn missing_packages() -> Vec<String> {
    let programs = TOOLS.iter().filter(|(program, _)| exec::on_path(program).is_none());
    let files = MODSECURITY.iter().filter(|(file, _)| !Path::new(file).exists());
    programs.chain(files).map(|(_, package)| (*package).to_owned()).collect()
}

/// Whether managed rules can be built and tested here.
pub fn has_modsecurity() -> bool {
    MODSECURITY.iter().all(|(file, _)| Path::new(file).exists())
}
