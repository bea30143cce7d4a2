//! Programs in force: attached to the cgroup by links that are pinned, replaced in place by a later agent.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::Ebpf;
use weir_common::names;

use super::{KernelError, sys};

/// How a program came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    Attached,
    /// It took the place of the one that ran, in one step.
    Replaced,
}

/// Puts every program in force, by links that are pinned in a folder.
pub fn all(object: &Ebpf, cgroup: &File, folder: &Path) -> Result<Vec<(&'static str, InForce)>, KernelError> {
    names::PROGRAMS.into_iter().map(|name| Ok((name, one(object, name, cgroup, folder)?))).collect()
}

fn one(object: &Ebpf, name: &'static str, cgroup: &File, folder: &Path) -> Result<InForce, KernelError> {
    let program = object.program(name).ok_or(KernelError::Missing { kind: "program", name })?;
    let fd = program.fd().map_err(|source| KernelError::Program { name, source: Box::new(source) })?;
    let pin = folder.join(name);
    let result = if pin.exists() {
        sys::get_pinned(&pin)
            .and_then(|link| sys::update_link(link.as_fd(), fd.as_fd()))
            .map(|()| InForce::Replaced)
    } else {
        attach(name, fd.as_fd(), cgroup, &pin).map(|()| InForce::Attached)
    };
    result.map_err(|source| KernelError::Attach { name, source })
}

/// The link's descriptor is closed at once: its pin alone keeps the program attached, and removing the pin detaches it.
/// Links of several instances and of other tools live side by side on one cgroup.
fn attach(name: &str, program: BorrowedFd<'_>, cgroup: &File, pin: &Path) -> io::Result<()> {
    let hook = match name {
        names::PROG_SOCK_OPS => sys::AttachType::SockOps,
        names::PROG_SETSOCKOPT | names::PROG_SET_MARK => sys::AttachType::SetSockopt,
        _ => sys::AttachType::SockRelease,
    };
    let link = sys::create_link(program, cgroup.as_fd(), hook)?;
    sys::pin(link.as_fd(), pin)
}
