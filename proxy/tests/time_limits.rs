//! Time limits: each zone has its own, and a connection has those of the zone that it speaks to.

mod support;

use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use support::{
    Setup, free_port,
    http2::Client,
    origin::{SWITCH, mirror, origin, reflect, told},
    raw::{Raw, status, tls_config},
    soon, until,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, client_async, client_async_tls_with_config,
    tungstenite::{Error, Message, protocol::frame::coding::CloseCode},
};

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// An origin that never answers.
async fn silent() -> std::net::SocketAddr {
    origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await
    .0
}

#[tokio::test]
async fn a_zone_has_its_own_limits_and_the_others_those_of_the_host() {
    let (answers, _) = reflect().await;
    let setup = Setup::new()
        .setting("response_timeout = \"1h\"")
        .setting("keep_alive_timeout = \"1h\"")
        .setting("header_timeout = \"1h\"")
        .zone("patient.test", silent().await)
        .zone("hasty.test", silent().await)
        .line("timeouts = { response_timeout = \"50ms\" }")
        .zone("idle.test", answers)
        .line("timeouts = { keep_alive_timeout = \"50ms\" }")
        .zone("head.test", answers)
        .line("timeouts = { header_timeout = \"50ms\" }");
    let proxy = setup.start();

    let mut patient = Raw::connect(setup.http).await;
    patient.send(get("patient.test")).await;
    assert_eq!(status(&Raw::connect(setup.http).await.ask(&get("hasty.test")).await.0), 504);

    let mut idle = Raw::connect(setup.http).await;
    assert_eq!(status(&idle.ask(&get("idle.test")).await.0), 200);
    assert_eq!(idle.rest().await.expect("a clean end"), b"");

    // The first head of a cleartext connection has the host's time, those after it the zone's.
    let mut head = Raw::connect(setup.http).await;
    head.send("GET / HT").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(&head.ask("TP/1.1\r\nHost: head.test\r\n\r\n").await.0), 200);
    head.send("GET / HT").await;
    assert!(matches!(head.rest().await.as_deref(), Ok(b"") | Err(_)));
    assert_eq!(proxy.counters().timed_out.get(), 2);
    assert_eq!(proxy.counters().refused_for("origin_response_timeout"), 1, "the patient one still waits");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends_and_one_that_moves_lives() {
    let setup = Setup::new()
        .zone("idle.test", mirror().await)
        .line("timeouts = { tunnel_idle_timeout = \"400ms\" }")
        .zone("any.test", mirror().await);
    let proxy = setup.start();
    let mut other = Raw::connect(setup.http).await;
    other.upgrade("any.test").await;
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("idle.test").await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        client.send("x").await;
        client.expect("x").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let idle = Instant::now();
    assert!(matches!(client.rest().await.as_deref(), Ok(b"") | Err(_)));
    assert!(idle.elapsed() >= Duration::from_millis(300), "{:?}", idle.elapsed());
    until("it is counted", || proxy.counters().tunnels_ended_by("timeout") == 1).await;
    assert_eq!(proxy.counters().tunnels_live.get(), 1);
    other.send("still here").await;
    other.expect("still here").await;
}

#[tokio::test]
async fn a_tunnel_has_a_longest_life_if_its_zone_says_so_however_much_moves() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        while raw.some().await.is_some() {}
    })
    .await;
    let setup =
        Setup::new().zone("a.test", address).setting("tunnel_max_life = \"300ms\"").zone("b.test", address);
    let setup = setup.line("timeouts = { tunnel_max_life = \"none\" }");
    let proxy = setup.start();
    let mut lasting = Raw::connect(setup.http).await;
    lasting.upgrade("b.test").await;
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    let counters = proxy.counters().clone();
    let talk = async {
        loop {
            client.send("x").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = talk => {}
        () = until("it has ended", || counters.tunnels_ended_by("timeout") == 1) => {}
    }
    assert_eq!(counters.tunnels_live.get(), 1, "the other zone has no such limit");
}

/// Its first message is a close that says 1001, and then the stream ends.
async fn is_told<S: Stream<Item = Result<Message, Error>> + Unpin>(mut socket: S) {
    let close = soon(socket.next()).await.expect("a message").expect("a sound stream");
    assert!(matches!(&close, Message::Close(Some(frame)) if frame.code == CloseCode::Away), "{close:?}");
    assert!(soon(socket.next()).await.is_none_or(|end| end.is_err()));
}

#[tokio::test]
async fn a_tunnel_that_has_had_its_time_tells_both_sides_so() {
    for limit in ["tunnel_idle_timeout = \"300ms\"", "tunnel_max_life = \"300ms\""] {
        let (origin, mut told) = told().await;
        let setup = Setup::new().setting(limit).tls_zone("a.test", origin);
        let proxy = setup.start();
        let stream = TcpStream::connect(setup.http).await.expect("connected");
        let (plain, _) = soon(client_async("ws://a.test/", stream)).await.expect("upgraded");
        is_told(plain).await;
        let stream = TcpStream::connect(setup.https).await.expect("connected");
        let connector = Connector::Rustls(tls_config(&setup.roots));
        let connect = client_async_tls_with_config("wss://a.test/", stream, None, Some(connector));
        is_told(soon(connect).await.expect("upgraded").0).await;
        // Over HTTP/2: the frame, then the end of the stream and not a reset.
        let mut client = Client::tls(&setup, "a.test").await;
        let mut socket = client.open("https://a.test/").await;
        socket.expect(b"\x88\x02\x03\xe9").await;
        socket.say(&b"\x88\x80aaaa"[..]);
        assert!(socket.some().await.is_none(), "a clean end");
        for _ in 0..3 {
            assert_eq!(soon(told.recv()).await, Some(Some(CloseCode::Away)), "{limit}");
        }
        until("all are counted", || proxy.counters().tunnels_ended_by("timeout") == 3).await;
        assert_eq!(proxy.counters().tunnels_live.get(), 0);
    }
}

#[tokio::test]
async fn connecting_stalling_and_half_closed_have_times_of_their_zone_too() {
    // A full backlog: further SYNs are dropped.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(free_port()).expect("bound");
    let full = socket.listen(0).expect("listens");
    let deaf = full.local_addr().expect("bound");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(deaf)).await
    {
        held.push(stream);
        assert!(held.len() < 64, "the backlog has no end");
    }
    let (halting, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        raw.rest().await.ok();
    })
    .await;
    let (endless, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        let _still = raw.rest().await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut setup = Setup::new()
        .setting("connect_timeout = \"1h\"")
        .setting("stall_timeout = \"1h\"")
        .setting("half_closed_timeout = \"1h\"");
    for (name, origin) in [("deaf", deaf), ("halting", halting), ("endless", endless)] {
        setup = setup.zone(&format!("{name}-patient.test"), origin).zone(&format!("{name}.test"), origin).line(
            "timeouts = { connect_timeout = \"100ms\", stall_timeout = \"100ms\", half_closed_timeout = \"100ms\" }",
        );
    }
    let proxy = setup.start();
    let mut patient = Vec::new();
    for name in ["deaf", "halting", "endless"] {
        let mut client = Raw::connect(setup.http).await;
        if name == "endless" {
            client.upgrade("endless-patient.test").await;
            client.half_close().await;
        } else {
            client.send(get(&format!("{name}-patient.test"))).await;
        }
        patient.push(client);
    }
    assert_eq!(status(&Raw::connect(setup.http).await.ask(&get("deaf.test")).await.0), 504);
    let mut client = Raw::connect(setup.http).await;
    client.send(get("halting.test")).await;
    assert_eq!(status(&client.head().await), 200);
    assert!(client.rest().await.is_err(), "half an answer is not taken for one");
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("endless.test").await;
    client.half_close().await;
    assert!(client.rest().await.is_err(), "a broken WebSocket is not taken for one that ended");

    let counters = proxy.counters();
    assert_eq!((counters.refused_for("origin_connect_timeout"), counters.timed_out.get()), (1, 1));
    until("it has ended", || counters.tunnels_ended_by("timeout") == 1).await;
    assert_eq!(counters.tunnels_live.get(), 1);
    assert_eq!(status(&patient[1].head().await), 200, "the patient ones still wait");
    drop(patient);
}
