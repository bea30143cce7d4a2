//! The gate on network interfaces: links that are pinned, replaced in place by a later agent, and detached when their pin goes.
//!
//! A pin's name says where the link is and how: `xdp_<index>_<mode>`. (Names of interfaces may have characters that bpffs does not
//! take.) A link whose interface is gone stays pinned and does nothing, until it is looked at.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
};

use super::{
    pins::{InstanceDir, XDP_PIN},
    sys::{self, XdpMode},
};

/// A link of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLink {
    pub interface: u32,
    pub mode: XdpMode,
}

impl GateLink {
    fn pin(self, dir: &InstanceDir) -> PathBuf {
        dir.link(&format!("{XDP_PIN}{}_{}", self.interface, self.mode.name()))
    }

    fn of_pin(name: &str) -> Option<Self> {
        let (interface, mode) = name.strip_prefix(XDP_PIN)?.split_once('_')?;
        Some(Self { interface: interface.parse().ok()?, mode: XdpMode::from_name(mode)? })
    }
}

/// Links that are pinned and whose interface lives. Those of interfaces that are gone are removed.
pub(super) fn pinned(dir: &InstanceDir) -> io::Result<Vec<GateLink>> {
    let mut links = Vec::new();
    for pin in dir.xdp_pins()? {
        let link = pin.file_name().and_then(|name| name.to_str()).and_then(GateLink::of_pin);
        let attached_to = sys::get_pinned(&pin).and_then(|link| sys::xdp_link_interface(link.as_fd()));
        match (link, attached_to) {
            (Some(link), Ok(interface)) if interface == link.interface => links.push(link),
            _ => fs::remove_file(&pin)?,
        }
    }
    Ok(links)
}

/// Attaches the program. No other XDP program may be there.
pub(super) fn attach(dir: &InstanceDir, link: GateLink, program: BorrowedFd<'_>) -> io::Result<()> {
    let created = sys::create_xdp_link(program, link.interface, link.mode)?;
    sys::pin(created.as_fd(), &link.pin(dir))
}

/// Puts the program in place of the one that runs, in one step.
pub(super) fn replace(dir: &InstanceDir, link: GateLink, program: BorrowedFd<'_>) -> io::Result<()> {
    sys::update_link(sys::get_pinned(&link.pin(dir))?.as_fd(), program)
}

/// Detaches.
pub(super) fn detach(dir: &InstanceDir, link: GateLink) -> io::Result<()> {
    match fs::remove_file(link.pin(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pins_name_says_where_and_how() {
        let link = |interface, mode| Some(GateLink { interface, mode });
        assert_eq!(GateLink::of_pin("xdp_7_native"), link(7, XdpMode::Native));
        assert_eq!(GateLink::of_pin("xdp_12_generic"), link(12, XdpMode::Generic));
        for name in ["xdp_7", "xdp__native", "xdp_7_off", "weir_sock_ops", "xdp_x_native"] {
            assert_eq!(GateLink::of_pin(name), None, "{name}");
        }
    }
}
