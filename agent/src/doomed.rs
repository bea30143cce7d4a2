//! The end of sockets that are above a cap and whose server cannot be told so: those of dedicated listeners and of proxies that
//! mark theirs.
//!
//! The kernel has counted them nowhere but among the unattributed, and keeps the number of those that live. While it is not 0 the
//! agent walks the socket list and ends each one by `SOCK_DESTROY`: its client and its server see a reset.

use std::sync::atomic::Ordering::Relaxed;

use weir_common::socket::{DEAD, DOOMED};

use crate::{
    kernel::{SocketId, destroy_sockets, list_sockets},
    state::State,
};

/// Ends all that there are now.
pub fn end(state: &State) {
    let mut doomed: Vec<SocketId> = Vec::new();
    let listed = list_sockets(&state.tags, |socket| {
        if socket.tag.is_some_and(|tag| tag.flags & DOOMED != 0 && tag.flags & DEAD == 0) {
            doomed.push(socket.id);
        }
    });
    if let Err(error) = listed {
        tracing::error!(%error, "sockets above a cap live on: the socket list cannot be read");
        return;
    }
    match destroy_sockets(&doomed) {
        Ok(ended) => {
            state.ended_total.fetch_add(ended, Relaxed);
        }
        Err(error) => {
            tracing::error!(%error, "sockets above a cap live on: this kernel cannot end them (CONFIG_INET_DIAG_DESTROY)");
        }
    }
}
