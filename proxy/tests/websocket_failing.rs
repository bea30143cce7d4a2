//! Tunnels whose ends fail, stall, or go away without a word.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use support::{
    Setup,
    origin::{SWITCH, mirror, origin},
    raw::{Raw, tls_config},
    soon, until,
};
use tokio::{
    net::TcpSocket,
    sync::{Semaphore, mpsc},
};

#[tokio::test]
async fn an_origin_that_resets_is_seen_as_a_reset_and_so_is_a_client() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            raw.head().await;
            raw.send(SWITCH).await;
            if raw.exactly(1).await == b"r" {
                raw.stream().set_zero_linger().expect("set");
            } else {
                sender.send(raw.rest().await.map_err(|error| error.kind())).expect("taken");
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();

    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.send("r").await;
    assert_eq!(client.rest().await.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);

    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.send("x").await;
    client.stream().set_zero_linger().expect("set");
    drop(client);
    assert_eq!(soon(ends.recv()).await.expect("an end"), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_its_client_back_and_not_others() {
    let reading = Arc::new(Semaphore::new(0));
    let taken = Arc::new(AtomicUsize::new(0));
    let (address, _) = origin({
        let (reading, taken) = (reading.clone(), taken.clone());
        move |mut raw| {
            let (reading, taken) = (reading.clone(), taken.clone());
            async move {
                raw.head().await;
                raw.send(SWITCH).await;
                let _permit = reading.acquire().await.expect("open");
                while let Some(bytes) = raw.some().await {
                    taken.fetch_add(bytes.len(), Relaxed);
                }
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address).zone("b.test", mirror().await);
    let _proxy = setup.start();

    // The smallest buffers that the kernel gives, so that most of what is stuck is stuck in the client.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(4096).expect("set");
    let mut client = Raw::new(socket.connect(setup.http).await.expect("connected"));
    client.upgrade("a.test").await;

    let mut client = client.into_inner();
    let mut pushed = 0;
    let chunk = [3; 64 * 1024];
    // Until nothing has moved for a while.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), tokio::io::AsyncWriteExt::write(&mut client, &chunk))
            .await
    {
        pushed += written.expect("open");
        assert!(pushed < 64 << 20, "it takes everything");
    }
    let mut other = Raw::connect(setup.http).await;
    other.upgrade("b.test").await;
    other.send("hello").await;
    other.expect("hello").await;

    reading.add_permits(1);
    tokio::io::AsyncWriteExt::shutdown(&mut client).await.expect("closed");
    until("every byte has arrived", || taken.load(Relaxed) == pushed).await;
}

/// An origin that answers 101 and then keeps its connection without reading or closing it.
async fn stalling() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_dead_client_ends_its_tunnel_although_the_origin_keeps_it() {
    const TUNNELS: u64 = 100;
    let (address, _) = stalling().await;
    let setup = Setup::new().tls_zone("a.test", address);
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let half_closed = |live| {
        let counters = counters.clone();
        async move { until("the tunnels are open", || counters.tunnels_live.get() == live).await }
    };
    let mut clients = Vec::new();
    for _ in 0..TUNNELS {
        let mut client = Raw::connect(setup.http).await;
        client.upgrade("a.test").await;
        client.half_close().await;
        clients.push(client.into_inner());
    }
    half_closed(TUNNELS).await;
    // The proxy has passed the ends on and reads these clients no more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for client in clients.drain(..) {
        client.set_zero_linger().expect("set");
    }
    until("the tunnels are gone", || counters.tunnels_live.get() == 0).await;

    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    client.upgrade("a.test").await;
    client.half_close().await;
    half_closed(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.tcp().set_zero_linger().expect("set");
    drop(client);
    until("the tunnel by TLS is gone", || counters.tunnels_live.get() == 0).await;
}

#[tokio::test]
async fn a_client_that_dies_behind_a_stalled_origin_ends_its_tunnel() {
    let (address, _) = stalling().await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    let mut client = client.into_inner();
    let chunk = [3; 64 * 1024];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), tokio::io::AsyncWriteExt::write(&mut client, &chunk))
            .await
    {
        written.expect("open");
    }
    assert_eq!(proxy.counters().tunnels_live.get(), 1);
    client.set_zero_linger().expect("set");
    drop(client);
    until("the tunnel is gone", || proxy.counters().tunnels_live.get() == 0).await;
}

#[tokio::test]
async fn a_half_closed_tunnel_in_which_nothing_moves_has_its_time() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            raw.send("x").await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let setup = Setup::new().zone("a.test", address).setting("half_closed_timeout = \"300ms\"");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.half_close().await;
    assert_eq!(client.exactly(8).await, b"xxxxxxxx", "it lives while something moves");
    assert!(client.rest().await.is_err(), "cut off, not ended");
    until("the tunnel is gone", || proxy.counters().tunnels_live.get() == 0).await;
}
