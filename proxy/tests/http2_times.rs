//! What time does to connections of HTTP/2 and to their streams: drains, idle times, stalls, clients that are gone.

mod support;

use std::time::{Duration, Instant};

use h2::{Reason, client::Builder};
use http::Request;
use support::{
    Setup,
    frames::{END_HEADERS, HEADERS, Hostile, PING, Verdict, block, frame},
    http2::Client,
    origin::{mirror, origin, switch_for, when_told},
    raw::Raw,
    soon, until,
};
use tokio::{net::TcpStream, sync::mpsc};

const CLEAR: &str = "http://a.test/path?x=1";

fn h2c(setup: Setup) -> Setup {
    setup.setting("h2c = true")
}

#[tokio::test]
async fn a_drain_says_goaway_and_lets_streams_finish() {
    let (slow, mut was_asked, go) = when_told().await;
    let setup = h2c(Setup::new().zone("a.test", slow).zone("ws.test", mirror().await));
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut idle = Client::cleartext(setup.http).await;
    assert_eq!(idle.get("http://none.test/").await.0.status(), 421);
    let mut client = Client::cleartext(setup.http).await;
    let mut socket = client.open("http://ws.test/").await;
    let request = Request::get(CLEAR).body(()).expect("a request");
    let mut requests = soon(client.requests.clone().ready()).await.expect("ready");
    let (response, _) = requests.send_request(request, true).expect("sent");
    soon(was_asked.recv()).await.expect("asked");

    let drained = tokio::spawn(proxy.drain());
    soon(idle.end).await.expect("joined").expect("GOAWAY with no error");
    while soon(TcpStream::connect(setup.http)).await.is_ok() {}
    socket.say("still here");
    socket.expect(b"still here").await;
    go.send(()).expect("taken");
    assert_eq!(soon(response).await.expect("an answer").status(), 200);
    assert!(!drained.is_finished());
    socket.finish();
    assert!(socket.some().await.is_none());
    soon(client.end).await.expect("joined").expect("GOAWAY with no error");
    assert_eq!(soon(drained).await.expect("joined").closed, 0);
    assert_eq!(counters.tunnels_live.get(), 0);
}

#[tokio::test]
async fn a_connection_without_streams_ends_in_time_and_one_with_a_websocket_does_not() {
    let setup = h2c(Setup::new().zone("ws.test", mirror().await))
        .setting("header_timeout = \"150ms\"")
        .setting("keep_alive_timeout = \"300ms\"");
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let mut kept = Client::cleartext(setup.http).await;
    let mut socket = kept.open("http://ws.test/").await;

    // Nothing, half a preface, a preface, and a request.
    let mut silent = Raw::connect(setup.http).await;
    let mut half = Raw::connect(setup.http).await;
    half.send("PRI * HTTP/2.0\r\n").await;
    let prefaced = Client::cleartext(setup.http).await;
    let mut idle = Client::cleartext(setup.http).await;
    assert_eq!(idle.get("http://none.test/").await.0.status(), 421);
    assert_eq!(silent.rest().await.unwrap_or_default(), b"");
    assert_eq!(half.rest().await.unwrap_or_default(), b"");
    soon(prefaced.end).await.expect("joined").expect("GOAWAY with no error");
    soon(idle.end).await.expect("joined").expect("GOAWAY with no error");
    until("all are counted", || counters.timed_out.get() == 4).await;

    socket.say("still here");
    socket.expect(b"still here").await;
    socket.finish();
    assert!(socket.some().await.is_none());
    soon(kept.end).await.expect("joined").expect("GOAWAY with no error");
}

#[tokio::test]
async fn a_connection_in_cleartext_is_idle_as_long_as_its_zone_has_it() {
    let (address, _) = support::origin::reflect().await;
    let setup = h2c(Setup::new().zone("idle.test", address))
        .line("timeouts = { keep_alive_timeout = \"100ms\" }")
        .setting("keep_alive_timeout = \"1h\"")
        .zone("a.test", address);
    let proxy = setup.start();
    let mut patient = Client::cleartext(setup.http).await;
    assert_eq!(patient.get(CLEAR).await.0.status(), 200);
    let mut hasty = Client::cleartext(setup.http).await;
    assert_eq!(hasty.get("http://idle.test/").await.0.status(), 200);
    soon(hasty.end).await.expect("joined").expect("GOAWAY with no error");
    until("it is counted", || proxy.counters().timed_out.get() == 1).await;
    assert_eq!(patient.get(CLEAR).await.0.status(), 200);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_reset_and_the_connection_goes_on() {
    let (address, _) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let length = if head.contains("/long") { 10_000_000 } else { 2 };
            raw.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")).await;
            raw.send(vec![b'x'; length]).await;
        }
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", address)).setting("stall_timeout = \"200ms\"");
    let proxy = setup.start();
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let stream = soon(TcpStream::connect(setup.http)).await.expect("connected");
    let mut client = Client::on(stream, &builder).await;
    for path in ["/long", "/short"] {
        let request = Request::get(format!("http://a.test{path}")).body(()).expect("a request");
        let mut answer = client.begin(request, true).await.expect("a head");
        assert_eq!(answer.reset().await, Reason::CANCEL, "{path}");
    }
    assert_eq!(proxy.counters().timed_out.get(), 2);
    let request = Request::get("http://none.test/").body(()).expect("a request");
    assert_eq!(client.begin(request, true).await.expect("a head").head.status(), 421);
}

/// A connection whose windows are as small as these.
async fn narrow(setup: &Setup, window: u32) -> Client {
    let mut builder = Builder::new();
    builder.initial_window_size(window);
    let stream = soon(TcpStream::connect(setup.http)).await.expect("connected");
    Client::on(stream, &builder).await
}

#[tokio::test]
async fn a_client_that_takes_an_answer_by_drops_is_cut_off_and_one_that_takes_it_is_not() {
    let (address, _) = origin(|mut raw| async move {
        while raw.try_head().await.is_some() {
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
            raw.send(vec![b'x'; 100_000]).await;
        }
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", address))
        .setting("stall_timeout = \"1s\"")
        .setting("min_body_bytes_per_second = 1000");
    let proxy = setup.start();
    let request = || Request::get("http://a.test/").body(()).expect("a request");

    let mut slow = narrow(&setup, 100).await;
    let mut answer = slow.begin(request(), true).await.expect("a head");
    let drops = async {
        loop {
            match answer.some().await {
                // 500 bytes a second.
                Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(200)).await,
                Some(Err(error)) => break error.reason(),
                None => panic!("it has all of it"),
            }
        }
    };
    assert_eq!(soon(drops).await, Some(Reason::CANCEL));
    assert_eq!(proxy.counters().timed_out.get(), 1);

    let mut quick = narrow(&setup, 100).await;
    let mut answer = quick.begin(request(), true).await.expect("a head");
    assert_eq!(answer.text().await.len(), 100_000);
}

#[tokio::test]
async fn content_that_drips_is_408_over_http_2_as_well() {
    let (address, _) = origin(|mut raw| async move { while raw.some().await.is_some() {} }).await;
    let setup = h2c(Setup::new().zone("a.test", address))
        .setting("stall_timeout = \"400ms\"")
        .setting("min_body_bytes_per_second = 1000");
    let _proxy = setup.start();
    let client = Client::cleartext(setup.http).await;
    let mut requests = soon(client.requests.clone().ready()).await.expect("a connection");
    let request = Request::post("http://a.test/").body(()).expect("a request");
    let (answer, mut send) = requests.send_request(request, false).expect("sent");
    let drip = async {
        while send.send_data("x".into(), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        () = drip => unreachable!("it ends never"),
        answer = soon(answer) => answer.expect("an answer"),
    };
    assert_eq!(answer.status(), 408);
}

#[tokio::test]
async fn an_answer_that_waits_for_its_requests_content_lives_as_long_as_that_comes() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
        while raw.some().await.is_some() {}
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", address))
        .setting("stall_timeout = \"1s\"")
        .setting("min_body_bytes_per_second = 0");
    let _proxy = setup.start();
    let mut client = Client::cleartext(setup.http).await;
    let request = Request::post("http://a.test/").body(()).expect("a request");
    let mut answer = client.begin(request, false).await.expect("a head");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        answer.say("x");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let uploading =
        std::future::poll_fn(|cx| std::task::Poll::Ready(answer.send.poll_reset(cx).is_pending()));
    assert!(uploading.await, "it goes on");
    assert_eq!(answer.reset().await, Reason::CANCEL, "until nothing comes any more");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_given_up_with_its_websockets() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let tell = tell.clone();
        async move {
            let head = raw.head().await;
            raw.send(switch_for(&head)).await;
            tell.send(raw.rest().await.is_err()).expect("taken");
        }
    })
    .await;
    let setup = h2c(Setup::new().zone("a.test", address)).setting("http2_ping_interval = \"300ms\"");
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    // `h2` answers a PING as long as its connection is polled.
    let mut lively = Client::cleartext(setup.http).await;
    let socket = lively.open("http://a.test/").await;
    let mut dying = Hostile::new(&setup).await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
        ("sec-websocket-version", "13"),
    ];
    dying.0.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    assert_eq!(dying.verdict(1).await, Verdict::Answered);
    until("both are open", || counters.tunnels_live.get() == 2).await;
    for _ in 0..3 {
        let ping = dying.until(PING).await.expect("a question");
        dying.0.send(frame(PING, 1, 0, &ping)).await;
    }
    assert!(dying.until(PING).await.is_some());
    assert_eq!(dying.until(PING).await, None, "it is given up, and not asked again");
    assert_eq!(soon(told.recv()).await, Some(true), "the origin sees a broken WebSocket");
    until("it is counted", || counters.timed_out.get() == 1).await;
    assert_eq!(counters.tunnels_live.get(), 1);
    drop(socket);
}
