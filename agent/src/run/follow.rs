//! What the kernel tells without being asked: refusals and ends of sockets, drops of the gate, interfaces that come and go.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::timeout;
use weir_common::zone::ZoneKey;

use super::AgentError;
use crate::{
    doomed,
    kernel::LinkNews,
    state::{State, lock},
};

/// Between two tries to put up a gate that could not be put up, and looks at interfaces without news of them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the gate where it is wanted, as interfaces come and go.
pub(super) async fn interfaces(state: Arc<State>) {
    let news = LinkNews::subscribe()
        .inspect_err(|error| tracing::error!(%error, "interfaces that come are seen late: no news of them"));
    loop {
        // A failure to wait is made up for by the next look.
        let _ = match &news {
            Ok(news) => timeout(SETTLE_INTERVAL, news.changed()).await.is_ok(),
            Err(_) => timeout(SETTLE_INTERVAL, pending::<()>()).await.is_ok(),
        };
        tokio::task::block_in_place(|| lock(&state.standing).settle(&mut lock(&state.kernel)));
    }
}

pub(super) async fn drops(state: Arc<State>) -> Result<(), AgentError> {
    let fd = lock(&state.kernel).gate.drops_ready().map_err(AgentError::Events)?;
    loop {
        let mut ready = fd.readable().await.map_err(AgentError::Events)?;
        ready.clear_ready();
        while let Some(event) = next_drop(&state) {
            let zone = (event.zone_key != 0).then(|| state.zone_name(ZoneKey::from_raw(event.zone_key)));
            lock(&state.events).dropped(&event, zone);
        }
    }
}

fn next_drop(state: &State) -> Option<weir_common::gate::DropEvent> {
    lock(&state.kernel).gate.next_drop()
}

pub(super) async fn events(state: Arc<State>) -> Result<(), AgentError> {
    let fd = lock(&state.kernel).events_ready().map_err(AgentError::Events)?;
    loop {
        let mut ready = fd.readable().await.map_err(AgentError::Events)?;
        ready.clear_ready();
        // Bound to the statement: `zone_name` takes another lock, which comes before this one in order.
        while let Some(event) = next_event(&state) {
            let zone = state.zone_name(ZoneKey::from_raw(event.zone_key));
            lock(&state.events).kernel(&event, zone);
        }
        if state.host.doomed() > 0 {
            let task = Arc::clone(&state);
            // Its own failure is told where it happens.
            let _ = tokio::task::spawn_blocking(move || doomed::end(&task)).await;
        }
    }
}

fn next_event(state: &State) -> Option<weir_common::event::Event> {
    lock(&state.kernel).next_event()
}
