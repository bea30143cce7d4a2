//! How tunnels end when the proxy leaves.

mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use support::{
    Setup,
    http2::Client,
    origin::{SWITCH, echo, mirror, origin, told},
    raw::{Raw, tls_config},
    soon, until,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{
    Connector, client_async, client_async_tls_with_config,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

/// A proxy that closes at once when it is asked to leave.
fn hasty() -> Setup {
    Setup::new().setting("drain_timeout = \"1ms\"\nclose_spread = \"1ms\"")
}

#[tokio::test]
async fn client_and_origin_are_told_by_a_close_frame_over_ws_and_wss() {
    for (setting, code) in [("", CloseCode::Away), ("close_code = 1012", CloseCode::Restart)] {
        let (origin, mut told) = told().await;
        let setup = hasty().setting(setting).tls_zone("a.test", origin);
        let proxy = setup.start();
        let counters = proxy.counters().clone();
        let stream = TcpStream::connect(setup.http).await.expect("connected");
        let (mut plain, _) = soon(client_async("ws://a.test/", stream)).await.expect("upgraded");
        let stream = TcpStream::connect(setup.https).await.expect("connected");
        let connector = Connector::Rustls(tls_config(&setup.roots));
        let connect = client_async_tls_with_config("wss://a.test/", stream, None, Some(connector));
        let (mut secure, _) = soon(connect).await.expect("upgraded");
        soon(plain.send(Message::text("hello"))).await.expect("sent");
        assert_eq!(soon(plain.next()).await.expect("an echo").expect("sound"), Message::text("hello"));
        until("both tunnels are open", || counters.tunnels_live.get() == 2).await;

        let begun = Instant::now();
        let drained = tokio::spawn(proxy.drain());
        let first = soon(plain.next()).await.expect("a message").expect("a sound stream");
        assert!(matches!(&first, Message::Close(Some(frame)) if frame.code == code), "{first:?}");
        let first = soon(secure.next()).await.expect("a message").expect("a sound stream");
        assert!(matches!(&first, Message::Close(Some(frame)) if frame.code == code), "{first:?}");
        // tungstenite answers when it is polled on, and then sees a clean end.
        assert!(soon(plain.next()).await.is_none_or(|end| end.is_err()));
        assert!(soon(secure.next()).await.is_none_or(|end| end.is_err()));
        assert_eq!(soon(told.recv()).await, Some(Some(code)));
        assert_eq!(soon(told.recv()).await, Some(Some(code)));
        assert_eq!(soon(drained).await.expect("joined").closed, 2);
        assert!(begun.elapsed() < Duration::from_secs(2), "nobody waits for those that have answered");
        assert_eq!(counters.tunnels_ended_by("drain"), 2);
    }
}

/// An origin that sends what it is told to, and tells what it gets.
async fn puppet() -> (std::net::SocketAddr, mpsc::UnboundedSender<Vec<u8>>, mpsc::UnboundedReceiver<Vec<u8>>)
{
    let (send, orders) = mpsc::unbounded_channel::<Vec<u8>>();
    let (tell, got) = mpsc::unbounded_channel();
    let orders = std::sync::Arc::new(tokio::sync::Mutex::new(orders));
    let (address, _) = origin(move |mut raw| {
        let (orders, tell) = (orders.clone(), tell.clone());
        async move {
            raw.head().await;
            raw.send(SWITCH).await;
            let mut orders = orders.lock().await;
            loop {
                tokio::select! {
                    order = orders.recv() => match order {
                        Some(bytes) => raw.send(bytes).await,
                        None => break,
                    },
                    Some(bytes) = raw.some() => tell.send(bytes).expect("taken"),
                }
            }
        }
    })
    .await;
    (address, send, got)
}

#[tokio::test]
async fn a_frame_that_is_under_way_is_finished_first() {
    let (origin, send, mut got) = puppet().await;
    let setup = hasty().zone("a.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    send.send(b"\x82\x0a01234".to_vec()).expect("taken");
    assert_eq!(client.exactly(7).await, b"\x82\x0a01234");
    let drained = tokio::spawn(proxy.drain());
    // The other direction stands at a border, so its close is there at once: FIN, masked, two bytes of a code.
    let close = soon(got.recv()).await.expect("a close frame");
    assert!(close.len() == 8 && close.starts_with(b"\x88\x82"), "{close:?}");
    assert_eq!([close[6] ^ close[2], close[7] ^ close[3]], 1001_u16.to_be_bytes());
    // The rest of the frame in two parts; what begins behind it is not sent any more.
    send.send(b"56".to_vec()).expect("taken");
    assert_eq!(client.exactly(2).await, b"56");
    send.send(b"789\x82\x05not".to_vec()).expect("taken");
    assert_eq!(client.exactly(7).await, b"789\x88\x02\x03\xe9");
    client.half_close().await;
    assert_eq!(client.rest().await.expect("a clean end"), b"");
    soon(drained).await.expect("joined");
}

#[tokio::test]
async fn a_stream_that_never_reaches_a_border_gets_a_plain_end() {
    let (origin, send, _got) = puppet().await;
    let setup = hasty().zone("a.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    send.send(b"\x82\x0a01234".to_vec()).expect("taken");
    assert_eq!(client.exactly(7).await, b"\x82\x0a01234");
    let drained = tokio::spawn(proxy.drain());
    assert_eq!(client.rest().await.expect("a clean end"), b"");
    soon(drained).await.expect("joined");
}

#[tokio::test]
async fn closes_are_spread() {
    const SPREAD: Duration = Duration::from_millis(1500);
    let setup = Setup::new().zone("a.test", echo().await);
    let setup = setup.setting("drain_timeout = \"1ms\"\nclose_spread = \"1500ms\"");
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut clients = Vec::new();
    for _ in 0..30 {
        let stream = TcpStream::connect(setup.http).await.expect("connected");
        clients.push(soon(client_async("ws://a.test/", stream)).await.expect("upgraded").0);
    }
    until("all tunnels are open", || counters.tunnels_live.get() == 30).await;
    let ends: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let told = soon(client.next()).await.expect("a message").expect("a sound stream");
                assert!(told.is_close(), "{told:?}");
                let at = Instant::now();
                while soon(client.next()).await.is_some_and(|message| message.is_ok()) {}
                at
            })
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(soon(proxy.drain()).await.closed, 30);
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.expect("joined").duration_since(begun));
    }
    times.sort_unstable();
    // Each third of the clients is told after the third of the time before it has passed, however slow the host is.
    assert!(times[10] >= SPREAD / 4 && times[20] >= SPREAD / 2, "{times:?}");
    assert!(times[29] >= SPREAD * 9 / 10, "{times:?}");
}

#[tokio::test]
async fn a_websocket_over_http2_is_told_as_well_and_has_its_two_lines_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let setup = hasty().zone("a.test", mirror().await).setting("h2c = true");
    let setup = setup.setting(&format!("access_log = {{ to = {log:?} }}"));
    let proxy = setup.start();
    let mut client = Client::cleartext(setup.http).await;
    let mut socket = client.open("http://a.test/").await;
    socket.say("\u{1}\u{2}hi");
    socket.expect(b"\x01\x02hi").await;
    let drained = tokio::spawn(proxy.drain());
    socket.expect(b"\x88\x02\x03\xe9").await;
    socket.finish();
    assert!(socket.some().await.is_none(), "END_STREAM, no RST_STREAM");
    soon(drained).await.expect("joined");
    let lines = std::fs::read_to_string(&log).expect("a log");
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<_> =
        lines.iter().map(|line| (&line["event"], &line["protocol"], &line["status"])).collect();
    let of = |event: &'static str| (event.into(), "HTTP/2.0".into(), 200.into());
    let (open, end): ((_, _, _), (_, _, _)) = (of("open"), of("end"));
    assert_eq!(events, [(&open.0, &open.1, &open.2), (&end.0, &end.1, &end.2)]);
    assert_eq!((&lines[1]["ended_by"], &lines[1]["received_bytes"]), (&"drain".into(), &4.into()));
}
