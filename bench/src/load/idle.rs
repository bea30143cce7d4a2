//! WebSockets that are there.

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::{Sample, Turn, settle};
use crate::{process::slab_bytes, rows::Figure, socket::Socket};

/// Connects under way at a time.
const AT_ONCE: usize = 64;

/// Opens so many.
pub async fn open(turn: &Turn<'_>, connections: usize) -> Result<Vec<Socket>> {
    let mut opening = JoinSet::new();
    let mut sockets = Vec::with_capacity(connections);
    for number in 0..connections {
        let target = turn.target.clone();
        opening.spawn_local(async move { target.open("/echo").await });
        if number + 1 >= AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            sockets.push(opened?.with_context(|| format!("WebSocket {} of {connections}", sockets.len()))?);
        }
    }
    while let Some(opened) = opening.join_next().await {
        sockets.push(opened?.with_context(|| format!("WebSocket {} of {connections}", sockets.len()))?);
    }
    Ok(sockets)
}

/// What a process and the kernel have more of, for each of so many.
pub async fn hold(turn: &Turn<'_>, connections: usize) -> Result<Sample> {
    // What the first ones bring along is not theirs.
    drop(open(turn, 64.min(connections)).await?);
    settle(turn.process).await?;
    let (process, kernel) = (turn.process.pss_bytes()?, slab_bytes()?);
    let sockets = open(turn, connections).await?;
    settle(turn.process).await?;
    let each = 1024.0 * connections as f64;
    let sample = vec![
        (Figure::ProcessKib, (turn.process.pss_bytes()? - process) / each),
        (Figure::KernelKib, (slab_bytes()? - kernel) / each),
    ];
    drop(sockets);
    Ok(sample)
}
