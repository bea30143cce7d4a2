//! What a WebSocket costs in memory: bytes that stay while it is idle, and allocations of an upgrade. Counted by the allocator, alone in this
//! process; what the test's own client and origin need is measured without a proxy and taken away.

mod support;

use std::net::SocketAddr;

use support::{
    Setup,
    origin::mirror,
    raw::{Raw, upgrade_request},
    soon, until,
};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const IDLE: usize = 100;
const UPGRADES: usize = 50;

/// What an idle tunnel may hold, all in all: the task, both sockets' registrations, its place in the roster. Bytes.
const MOST_OF_A_TUNNEL: usize = 1650;
/// Blocks that are asked for from the accept to the end, most of them for the two heads.
const MOST_OF_AN_UPGRADE: usize = 75;

async fn open(address: SocketAddr) -> Raw<TcpStream> {
    let mut client = Raw::connect(address).await;
    client.send(upgrade_request("a.test")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    // It is a tunnel when it carries something.
    client.send("there").await;
    client.expect("there").await;
    client
}

/// Bytes that so many WebSockets keep, for each.
async fn held(address: SocketAddr) -> usize {
    drop(open(address).await);
    let before = settled().await;
    let mut clients = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        clients.push(open(address).await);
    }
    let bytes = settled().await.saturating_sub(before);
    drop(clients);
    settled().await;
    bytes / IDLE
}

/// Live bytes, once they have stopped changing.
async fn settled() -> usize {
    let (mut last, mut same) = (usize::MAX, 0);
    while same < 20 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let now = dhat::HeapStats::get().curr_bytes;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

async fn blocks_of_an_upgrade(address: SocketAddr) -> usize {
    drop(open(address).await);
    settled().await;
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..UPGRADES {
        let mut client = open(address).await;
        client.half_close().await;
        soon(client.rest()).await.expect("the end");
    }
    settled().await;
    (dhat::HeapStats::get().total_blocks - before) as usize / UPGRADES
}

#[tokio::test]
async fn an_idle_tunnel_keeps_no_buffer_and_an_upgrade_asks_for_little_memory() {
    let _counting = dhat::Profiler::builder().testing().build();
    let origin = mirror().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let (alone, through) = (held(origin).await, held(setup.http).await);
    let bytes = through.saturating_sub(alone);
    eprintln!("an idle tunnel: {bytes} bytes (of client and origin: {alone})");
    assert!(bytes <= MOST_OF_A_TUNNEL, "an idle tunnel keeps {bytes} bytes");
    let (alone, through) = (blocks_of_an_upgrade(origin).await, blocks_of_an_upgrade(setup.http).await);
    let blocks = through.saturating_sub(alone);
    eprintln!("an upgrade: {blocks} blocks (of client and origin: {alone})");
    assert!(blocks <= MOST_OF_AN_UPGRADE, "an upgrade asks for {blocks} blocks");
    until("no tunnel", || proxy.counters().tunnels_live.get() == 0).await;
}
