//! Where the gate stands: the interfaces that there are, matched with those that the configuration asks for.
//!
//! [`Standing::settle`] looks at all interfaces and asks the kernel which of our links are attached, and sets right what differs, so it
//! does not matter which news was missed: that an interface went and another has its index, or that somebody has detached a link.
//! A gate that cannot be put up is told and tried again; it keeps nothing else from working.

use std::collections::{BTreeMap, HashMap};

use nix::net::if_::if_nameindex;
use weir_config::{XdpInterface, XdpMode as Wanted};

use crate::{
    api::XdpInterfaceReply,
    kernel::{GateLink, Kernel, XdpMode},
};

/// A gate on an interface, or why there is none although one is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    Yes(XdpMode),
    /// Wanted in this mode, and what the kernel answered.
    No(XdpMode, String),
}

/// All gates of this instance, by interface.
#[derive(Default)]
pub struct Standing {
    wanted: Vec<XdpInterface>,
    gates: BTreeMap<u32, (String, Stands)>,
}

impl Standing {
    /// Takes over the gates of an earlier agent, with this build's program, and puts up those that are missing.
    pub fn adopt(wanted: &[XdpInterface], kernel: &mut Kernel) -> Self {
        let mut standing = Self { wanted: wanted.to_vec(), gates: BTreeMap::new() };
        let earlier = kernel.gates().unwrap_or_else(|error| {
            tracing::error!(error = %text(&error), "gates of an earlier agent cannot be looked for");
            Vec::new()
        });
        let names = interfaces();
        for link in earlier {
            let name = names.get(&link.interface).cloned().unwrap_or_default();
            if standing.mode_of(&name) != Some(link.mode) {
                take_off(kernel, link, &name);
                continue;
            }
            let stands = match kernel.raise_gate(link, true) {
                Ok(()) => {
                    tracing::info!(interface = name, mode = link.mode.name(), "gate replaced");
                    Stands::Yes(link.mode)
                }
                // The earlier agent's program goes on there.
                Err(error) => {
                    tracing::error!(interface = name, error = %text(&error), "the gate could not be replaced");
                    Stands::Yes(link.mode)
                }
            };
            standing.gates.insert(link.interface, (name, stands));
        }
        standing.settle(kernel);
        standing
    }

    /// From now on gates are wanted here.
    pub fn want(&mut self, wanted: &[XdpInterface], kernel: &mut Kernel) {
        self.wanted = wanted.to_vec();
        self.settle(kernel);
    }

    /// Puts gates up where they are missing and takes them off where they are not wanted.
    pub fn settle(&mut self, kernel: &mut Kernel) {
        let names = interfaces();
        let attached = kernel.gates().inspect_err(|error| {
            tracing::error!(error = %text(error), "the gates cannot be looked at: taken for standing as they stood");
        });
        let known = std::mem::take(&mut self.gates);
        for (interface, (name, stands)) in known {
            if let (Stands::Yes(mode), Ok(attached)) = (&stands, &attached)
                && !attached.contains(&GateLink { interface, mode: *mode })
            {
                // Its pin is gone already.
                if names.contains_key(&interface) {
                    tracing::warn!(interface = name, mode = mode.name(), "the gate does not stand any more");
                }
                continue;
            }
            let mode = names.get(&interface).and_then(|now| self.mode_of(now));
            match (stands, names.get(&interface)) {
                (Stands::Yes(standing), Some(now)) if mode == Some(standing) => {
                    self.gates.insert(interface, (now.clone(), Stands::Yes(standing)));
                }
                (Stands::Yes(standing), _) => {
                    take_off(kernel, GateLink { interface, mode: standing }, &name);
                }
                (no @ Stands::No(..), Some(now)) if mode.is_some() => {
                    self.gates.insert(interface, (now.clone(), no));
                }
                (Stands::No(..), _) => {}
            }
        }
        for (interface, name) in names {
            if let Some(mode) = self.mode_of(&name) {
                self.put_up(kernel, interface, name, mode);
            }
        }
    }

    fn put_up(&mut self, kernel: &mut Kernel, interface: u32, name: String, mode: XdpMode) {
        let earlier = self.gates.get(&interface).map(|(_, stands)| stands);
        if matches!(earlier, Some(Stands::Yes(_))) {
            return;
        }
        let stands = match kernel.raise_gate(GateLink { interface, mode }, false) {
            Ok(()) => {
                tracing::info!(interface = name, mode = mode.name(), "gate up");
                Stands::Yes(mode)
            }
            Err(error) => Stands::No(mode, text(&error)),
        };
        if let Stands::No(_, why) = &stands
            && earlier != Some(&stands)
        {
            tracing::error!(interface = name, mode = mode.name(), why, "no gate: it is tried again");
        }
        self.gates.insert(interface, (name, stands));
    }

    /// The mode that the first pattern wants which the name matches.
    fn mode_of(&self, name: &str) -> Option<XdpMode> {
        match self.wanted.iter().find(|wanted| wanted.matches(name))?.mode {
            Wanted::Native => Some(XdpMode::Native),
            Wanted::Generic => Some(XdpMode::Generic),
            Wanted::Off => None,
        }
    }

    /// Where the gate stands, and where it should.
    pub fn reply(&self) -> Vec<XdpInterfaceReply> {
        let mut replies: Vec<_> = self
            .gates
            .values()
            .map(|(name, stands)| {
                let (wanted, in_force, error) = match stands {
                    Stands::Yes(mode) => (mode, mode.name(), None),
                    Stands::No(mode, why) => (mode, "failed", Some(why.clone())),
                };
                XdpInterfaceReply {
                    interface: name.clone(),
                    wanted: wanted.name().to_owned(),
                    mode: in_force.to_owned(),
                    error,
                }
            })
            .collect();
        replies.sort_unstable_by(|a, b| a.interface.cmp(&b.interface));
        replies
    }
}

fn take_off(kernel: &Kernel, link: GateLink, name: &str) {
    match kernel.remove_gate(link) {
        Ok(()) => tracing::info!(interface = name, mode = link.mode.name(), "gate taken off"),
        Err(error) => {
            tracing::error!(interface = name, error = %text(&error), "the gate could not be taken off");
        }
    }
}

/// The interfaces of this network namespace: index and name.
fn interfaces() -> HashMap<u32, String> {
    match if_nameindex() {
        Ok(all) => all
            .iter()
            .map(|interface| (interface.index(), interface.name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) => {
            tracing::error!(%error, "the interfaces cannot be listed");
            HashMap::new()
        }
    }
}

/// An error with its reasons.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        // A verifier's log is for the log of the one who asks for it.
        text.push_str(&format!(": {}", reason.to_string().lines().next().unwrap_or_default()));
        source = reason.source();
    }
    text
}
