//! Ending established sockets: found in the kernel's own list by weir's tag, ended by `SOCK_DESTROY`.
//!
//! Only sockets that weir counts in this network namespace, and only the clients' side: a tunnel's other side ends with it.
//! The client gets a RST; the proxy reads ECONNABORTED. Sockets that come while the list is walked may be missed.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use weir_common::{
    listener::{Address, is_mapped},
    socket::{COUNTED, ORIGIN_SIDE},
};

use super::asked::Target;
use crate::{
    kernel::{KernelError, SocketId, SocketSeen, can_destroy, destroy_sockets, list_sockets},
    state::State,
};

/// Which sockets are meant.
#[derive(Clone, Copy, Debug)]
pub enum Chosen {
    Slot(u32),
    Source(IpNet),
}

impl Chosen {
    pub fn new(slot: Option<u32>, target: &Target) -> Self {
        match (slot, target) {
            (_, Target::Source(prefix)) => Self::Source(*prefix),
            // Slot 0 is no zone's.
            (slot, Target::Zone(_)) => Self::Slot(slot.unwrap_or(u32::MAX)),
        }
    }

    fn means(&self, socket: &SocketSeen) -> bool {
        let Some(tag) = socket.tag.filter(|tag| tag.flags & COUNTED != 0 && tag.flags & ORIGIN_SIDE == 0)
        else {
            return false;
        };
        match self {
            Self::Slot(slot) => tag.slot == *slot,
            Self::Source(prefix) => prefix.contains(&ip(&socket.id.remote())),
        }
    }
}

/// The sockets that are meant and live now.
pub async fn find(state: &Arc<State>, chosen: Chosen) -> Result<Vec<SocketId>, KernelError> {
    let tags = Arc::clone(&state.tags);
    blocking(move || {
        let mut found = Vec::new();
        list_sockets(&tags, |socket| {
            if chosen.means(&socket) {
                found.push(socket.id);
            }
        })?;
        Ok(found)
    })
    .await
}

/// Ends them. Returns how many; the others had ended by themselves.
pub async fn end(found: Vec<SocketId>) -> Result<u64, KernelError> {
    blocking(move || destroy_sockets(&found)).await
}

pub async fn is_possible() -> Result<bool, KernelError> {
    blocking(can_destroy).await
}

/// System calls without end: not on the threads that serve others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, KernelError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(KernelError::SockDiag)
}

fn ip(address: &Address) -> IpAddr {
    let octets: Vec<u8> = address.iter().flat_map(|word| word.to_ne_bytes()).collect();
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) if is_mapped(address) => IpAddr::from([octets[12], octets[13], octets[14], octets[15]]),
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from([0; 4]),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use weir_common::{
        socket::{ADMITTED, DEAD, SocketTag},
        source::SourceKey,
    };

    use super::*;
    use crate::kernel::listener_key;

    fn seen(remote: &str, tag: Option<SocketTag>) -> SocketSeen {
        let local = listener_key(&"192.0.2.1:443".parse::<SocketAddr>().unwrap());
        let remote = listener_key(&format!("{remote}:50000").parse::<SocketAddr>().unwrap());
        SocketSeen { local, state: 1, tag, id: SocketId::of(local, remote), holds: None }
    }

    fn tag(slot: u32, flags: u32) -> Option<SocketTag> {
        Some(SocketTag {
            slot,
            flags,
            source: SourceKey { address: [0; 4], prefix_len: 0 },
            source_ordinal: 0,
            rx_counted: 0,
            tx_counted: 0,
            born_boot_ns: 0,
        })
    }

    #[test]
    fn a_zones_counted_clients_are_meant_and_nobody_else() {
        let zone = Chosen::Slot(3);
        assert!(zone.means(&seen("198.51.100.7", tag(3, COUNTED))));
        assert!(zone.means(&seen("198.51.100.7", tag(3, COUNTED | ADMITTED))));
        assert!(!zone.means(&seen("198.51.100.7", tag(4, COUNTED))));
        assert!(!zone.means(&seen("198.51.100.7", tag(3, DEAD))));
        assert!(!zone.means(&seen("198.51.100.7", tag(3, COUNTED | ADMITTED | ORIGIN_SIDE))));
        assert!(!zone.means(&seen("198.51.100.7", None)));
    }

    #[test]
    fn a_sources_sockets_are_meant_in_whatever_zone() {
        let source = Chosen::Source("198.51.100.0/24".parse().unwrap());
        assert!(source.means(&seen("198.51.100.7", tag(0, COUNTED))));
        assert!(source.means(&seen("[::ffff:198.51.100.7]", tag(9, COUNTED))));
        assert!(!source.means(&seen("198.51.101.7", tag(9, COUNTED))));
        assert!(!source.means(&seen("[2001:db8::1]", tag(9, COUNTED))));
        let source = Chosen::Source("2001:db8::/48".parse().unwrap());
        assert!(source.means(&seen("[2001:db8::1]", tag(9, COUNTED))));
    }
}
