//! What can go wrong between the agent and the kernel, in words that an operator can act on.

use std::{io, path::PathBuf};

/// A failure of the kernel side. Programs that are attached already go on.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("{path} is not a mounted BPF file system: mount it with `mount -t bpf bpf /sys/fs/bpf`")]
    NoBpffs { path: PathBuf },
    #[error(
        "no cgroup2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`, or name one in agent.cgroup"
    )]
    NoCgroup2,
    #[error("cannot open the cgroup {path}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("{path} is not a cgroup2 folder: agent.cgroup must name one (see `weir check`)")]
    NotCgroup2 { path: PathBuf },
    #[error(
        "another agent of instance `{instance}` is running: stop it first, or give this one another `instance`"
    )]
    Running { instance: String },
    #[error(
        "instance `{instance}` counts the sockets of another network namespace: start the agent there, or give this one another `instance`"
    )]
    OtherNamespace { instance: String },
    #[error(
        "instance `{instance}` is attached to another cgroup than {path}: remove it with `weir agent --unload` first, or take agent.cgroup back"
    )]
    OtherCgroup { instance: String, path: PathBuf },
    #[error(
        "another instance of weir counts the sockets of this network namespace already, so `{instance}` cannot: \
         end it with `weir agent --unload --instance NAME` (its name is a folder in /sys/fs/bpf/weir), or take its name"
    )]
    OtherInstance { instance: String },
    #[error("cannot {action} {path}")]
    Pin { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the kernel refused weir's maps or programs")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("the kernel refused the program {name}")]
    Program { name: &'static str, source: Box<aya::programs::ProgramError> },
    #[error("the kernel object has no {kind} {name}: this build is broken")]
    Missing { kind: &'static str, name: &'static str },
    #[error("cannot put the program {name} in force")]
    Attach { name: &'static str, source: io::Error },
    #[error("map {name}")]
    Map { name: &'static str, source: Box<aya::maps::MapError> },
    #[error("cannot map {name} into memory")]
    Memory { name: &'static str, source: io::Error },
    #[error("the {name} table is full: it has room for {capacity} entries")]
    TableFull { name: &'static str, capacity: u32 },
    #[error("cannot read the kernel's socket list")]
    SockDiag(#[source] io::Error),
    #[error("{what}")]
    System { what: &'static str, source: io::Error },
}

impl KernelError {
    pub(super) fn map(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { name, source: Box::new(source) }
    }
}
