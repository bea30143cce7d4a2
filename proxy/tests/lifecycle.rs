//! Start, reload and drain.

mod support;

use std::{fs, time::Duration};

use support::{
    Setup,
    origin::{mirror, reflect, when_told},
    raw::{Raw, header, status, tls_config},
    soon, until,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn a_reload_swaps_routes_and_leaves_tunnels_alone() {
    let (first, _) = reflect().await;
    let (second, _) = reflect().await;
    let setup = Setup::new().zone("a.test", first).zone("ws.test", mirror().await);
    let proxy = setup.start();
    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;
    let mut kept = Raw::connect(setup.http).await;
    assert_eq!(status(&kept.ask(GET).await.0), 200);

    let setup = setup.no_zones().zone("b.test", second);
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&kept.ask(GET).await.0), 421, "the zone is gone for new requests");
    let (head, _) = kept.ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(status(&head), 200);
    tunnel.send("still here").await;
    tunnel.expect("still here").await;
}

#[tokio::test]
async fn a_reload_with_a_faulty_certificate_changes_nothing() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let setup = setup.tls_zone("b.test", origin);
    let config = setup.config();
    let key = config
        .zones
        .iter()
        .find_map(|zone| Some(zone.tls.as_ref()?.key.clone()).filter(|_| zone.name.as_str() == "b.test"));
    let key = key.expect("a key");
    let good = fs::read(&key).expect("read");
    fs::write(&key, "nonsense").expect("written");
    let error = proxy.reload(config.clone()).await.expect_err("a fault").to_string();
    assert_eq!(weir_proxy::check(&config).expect_err("the same fault").to_string(), error);
    assert!(error.contains("b.test") && error.contains("b.test.key"), "{error}");

    assert!(Raw::tls(setup.https, "b.test", tls_config(&setup.roots)).await.is_err());
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    assert_eq!(status(&client.ask(GET).await.0), 200);

    fs::write(&key, good).expect("written");
    weir_proxy::check(&config).expect("no fault");
    proxy.reload(config).await.expect("reloaded");
    let mut client = Raw::tls(setup.https, "b.test", tls_config(&setup.roots)).await.expect("connected");
    assert_eq!(status(&client.ask("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await.0), 200);
}

#[tokio::test]
async fn a_drain_lets_tunnels_and_requests_finish() {
    let (slow, mut was_asked, go) = when_told().await;
    let (fast, _) = reflect().await;
    let setup = Setup::new().zone("a.test", slow).zone("fast.test", fast).zone("ws.test", mirror().await);
    let proxy = setup.start();
    let counters = proxy.counters().clone();

    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;
    let mut idle = Raw::connect(setup.http).await;
    assert_eq!(status(&idle.ask("GET / HTTP/1.1\r\nHost: fast.test\r\n\r\n").await.0), 200);
    let mut busy = Raw::connect(setup.http).await;
    busy.send(GET).await;
    soon(was_asked.recv()).await.expect("asked");

    let drained = tokio::spawn(proxy.drain());
    assert_eq!(idle.rest().await.expect("a clean end"), b"", "an idle connection ends at once");
    // Nobody listens any more, if not at this very moment.
    while soon(TcpStream::connect(setup.http)).await.is_ok() {}
    tunnel.send("still here").await;
    tunnel.expect("still here").await;

    go.send(()).expect("taken");
    let head = busy.head().await;
    assert_eq!(header(&head, "connection"), Some("close"), "{head}");
    assert_eq!(busy.body_of(&head).await, "ok");
    assert!(!drained.is_finished());
    tunnel.half_close().await;
    assert_eq!(tunnel.rest().await.expect("a clean end"), b"");
    assert_eq!(soon(drained).await.expect("joined").closed, 0);
    assert_eq!(counters.tunnels_live.get(), 0);
}

#[tokio::test]
async fn a_drain_closes_what_is_left_after_its_time() {
    let setup = Setup::new().zone("ws.test", mirror().await).setting("drain_timeout = \"200ms\"");
    let setup = setup.setting("close_spread = \"100ms\"");
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        let mut tunnel = Raw::connect(setup.http).await;
        tunnel.upgrade("ws.test").await;
        tunnels.push(tunnel);
    }
    until("all tunnels are open", || counters.tunnels_live.get() == 20).await;
    assert_eq!(soon(proxy.drain()).await.closed, 20);
    assert_eq!(counters.tunnels_live.get(), 0);
    for mut tunnel in tunnels {
        assert_eq!(tunnel.rest().await.expect("a clean end"), b"\x88\x02\x03\xe9", "told, and 1001");
    }
}

#[tokio::test]
async fn a_drain_still_answers_a_connection_that_was_just_made() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut fresh = Raw::connect(setup.http).await;
    until("it is accepted", || counters.accepted.get() == 1).await;
    let mut silent = Raw::connect(setup.http).await;
    let drained = tokio::spawn(proxy.drain());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (head, _) = fresh.ask(GET).await;
    assert_eq!((status(&head), header(&head, "connection")), (200, Some("close")), "{head}");
    assert_eq!(
        silent.rest().await.expect("a clean end"),
        b"",
        "what never speaks does not hold up the drain"
    );
    assert_eq!(soon(drained).await.expect("joined").closed, 0);
}

#[tokio::test]
async fn serve_reloads_and_ends_as_it_is_told() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("b.test", origin).setting("drain_timeout = \"1s\"");
    let bound = weir_proxy::bind(&setup.config()).expect("bound");
    let (reload, reloads) = mpsc::channel(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve(reloads, async move {
        let _ = stopped.await;
    }));
    assert_eq!(status(&Raw::connect(setup.http).await.ask(GET).await.0), 421);
    let setup = setup.zone("a.test", origin);
    reload.send(setup.config()).await.expect("taken");
    drop(reload);
    let mut code = 421;
    while code == 421 {
        code = status(&Raw::connect(setup.http).await.ask(GET).await.0);
    }
    assert_eq!(code, 200);
    stop.send(()).expect("taken");
    soon(serving).await.expect("joined").expect("served");
}
