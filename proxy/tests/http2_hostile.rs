//! HTTP/2 from clients that mean no good: every frame is the test's own.

mod support;

use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering::Relaxed};

use support::{
    Setup,
    frames::*,
    http2::Client,
    origin::{origin, reflect},
    until,
};
use weir_proxy::Running;

async fn served(setup: Setup) -> (Setup, Running, Arc<AtomicUsize>) {
    let (address, connections) = reflect().await;
    let setup = setup.zone("a.test", address).setting("h2c = true");
    let proxy = setup.start();
    (setup, proxy, connections)
}

/// As [`served`], with a request to an origin that never answers, and the connections that this one gets.
async fn beside_a_silent_one() -> (Setup, Running, [(&'static str, &'static str); 4], Arc<AtomicUsize>) {
    let (silent, connections) = origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await;
    let (setup, proxy, _) = served(Setup::new().zone("silent.test", silent)).await;
    let mut fields = GET;
    fields[2].1 = "silent.test";
    (setup, proxy, fields, connections)
}

/// Others are served all the same.
async fn assert_serves(setup: &Setup) {
    assert_eq!(Client::cleartext(setup.http).await.get("http://a.test/").await.0.status(), 200);
}

#[tokio::test]
async fn a_malformed_request_is_reset_and_goes_nowhere() {
    let (setup, _proxy, connections) = served(Setup::new()).await;
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    let without = |name: &str| GET.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let regular_first = [&[("x-own", "1")][..], &GET].concat();
    for fields in [
        without(":method"),
        without(":scheme"),
        without(":path"),
        with(&[(":method", "GET")]),
        with(&[(":path", "/other")]),
        with(&[(":authority", "b.test")]),
        with(&[(":other", "1")]),
        with(&[(":status", "200")]),
        with(&[(":protocol", "websocket")]),
        with(&[("X-Upper", "1")]),
        with(&[("x own", "1")]),
        with(&[("x-own", "a\r\nb: c")]),
        with(&[("x-own", "a\0")]),
        with(&[("connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("te", "gzip")]),
        regular_first,
        [&without(":path")[..], &[(":path", "")]].concat(),
    ] {
        let mut hostile = Hostile::new(&setup).await;
        hostile.0.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))).await;
        let verdict = hostile.verdict(1).await;
        let refused = [Verdict::Reset(PROTOCOL_ERROR), Verdict::GoAway(PROTOCOL_ERROR)].contains(&verdict);
        assert!(refused, "{fields:?}: {verdict:?}");
        assert_eq!(connections.load(Relaxed), 0, "{fields:?}");
    }
    let mut sound = Hostile::new(&setup).await;
    sound.0.send(get(1)).await;
    assert_eq!(sound.verdict(1).await, Verdict::Answered);
    assert_eq!(connections.load(Relaxed), 1);
}

#[tokio::test]
async fn content_that_is_not_as_long_as_it_says_is_no_request() {
    let (setup, proxy, _) = served(Setup::new()).await;
    let fields = [&[(":method", "POST"), ("content-length", "5")][..], &GET[1..]].concat();
    let fields = [&fields[..1], &fields[2..], &fields[1..2]].concat();
    for (content, flags) in [(&b"toolong"[..], END_STREAM), (b"abc", END_STREAM), (b"toolong", 0)] {
        let mut hostile = Hostile::new(&setup).await;
        hostile.0.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        hostile.0.send(frame(DATA, flags, 1, content)).await;
        let verdict = hostile.verdict(1).await;
        assert!(
            matches!(verdict, Verdict::Reset(PROTOCOL_ERROR) | Verdict::GoAway(PROTOCOL_ERROR)),
            "{verdict:?}"
        );
    }
    assert_eq!(proxy.counters().tunnels.get(), 0);
    assert_serves(&setup).await;
}

#[tokio::test]
async fn what_http_1_refuses_is_refused_over_http_2() {
    let (setup, proxy, connections) = served(Setup::new()).await;
    // A length that is said twice, even if both are the same.
    let lengths = [&[(":method", "POST")][..], &GET[1..], &[("content-length", "5"); 2]].concat();
    let mut hostile = Hostile::new(&setup).await;
    hostile.0.send(frame(HEADERS, END_HEADERS, 1, &block(&lengths))).await;
    hostile.0.send(frame(DATA, END_STREAM, 1, b"hello")).await;
    assert_eq!(hostile.verdict(1).await, Verdict::Reset(PROTOCOL_ERROR));

    // A target that is not ASCII, and one that is no path.
    for (method, path) in [("GET", "/\u{e4}"), ("GET", "/?\u{e4}"), ("OPTIONS", "*")] {
        let before = proxy.counters().refused_for("bad_target");
        let fields = [&[(":method", method)][..], &GET[1..3], &[(":path", path)]].concat();
        let mut hostile = Hostile::new(&setup).await;
        hostile.0.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields))).await;
        assert_eq!(hostile.verdict(1).await, Verdict::Answered, "{path}");
        assert_eq!(proxy.counters().refused_for("bad_target"), before + 1, "{path}");
    }
    assert_eq!(connections.load(Relaxed), 0);
}

#[tokio::test]
async fn a_request_has_so_many_fields_and_its_cookies_are_one() {
    let (setup, _proxy, connections) = served(Setup::new()).await;
    let mut client = Client::cleartext(setup.http).await;
    // `Host` is one more.
    for (own, cookies, code) in [(99, 0, 200), (98, 50, 200), (100, 0, 431), (300, 0, 431)] {
        let mut request = http::Request::get("http://a.test/");
        for n in 0..own {
            request = request.header(format!("x-{n}"), "1");
        }
        for n in 0..cookies {
            request = request.header("cookie", format!("c{n}=1"));
        }
        let before = connections.load(Relaxed);
        let (head, _) = client.ask(request.body(()).expect("a request")).await;
        assert_eq!(head.status(), code, "{own} and {cookies}");
        assert!(code == 200 || connections.load(Relaxed) == before);
    }
}

#[tokio::test]
async fn connect_is_for_websockets_alone() {
    let (setup, proxy, connections) = served(Setup::new()).await;
    let connect = [(":method", "CONNECT"), (":authority", "a.test")];
    let extended = [&connect[..], &GET[1..2], &GET[3..]].concat();
    for (fields, label) in [
        (connect.to_vec(), "method_not_supported"),
        ([&extended[..], &[(":protocol", "connect-udp")]].concat(), "method_not_supported"),
        ([&extended[..], &[(":protocol", "WebSocket")]].concat(), "method_not_supported"),
        ([&extended[..], &[(":protocol", "websocket"), ("host", "b.test")]].concat(), "target_host_mismatch"),
    ] {
        let before = proxy.counters().refused_for(label);
        let mut hostile = Hostile::new(&setup).await;
        hostile.0.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        hostile.0.send(frame(DATA, 0, 1, b"for nobody")).await;
        assert_eq!(hostile.verdict(1).await, Verdict::Answered, "{fields:?}");
        assert_eq!(proxy.counters().refused_for(label), before + 1, "{fields:?}");
    }
    // Extended CONNECT needs all that a request needs.
    let mut hostile = Hostile::new(&setup).await;
    let fields = [&connect[..], &[(":protocol", "websocket")]].concat();
    hostile.0.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    assert_eq!(hostile.verdict(1).await, Verdict::Reset(PROTOCOL_ERROR));
    assert_eq!(connections.load(Relaxed), 0);
}

#[tokio::test]
async fn floods_end_their_connection_and_nobody_elses() {
    let (setup, proxy, _) = served(Setup::new()).await;
    let floods: [(&str, Vec<u8>); 7] = [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("windows", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])),
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0xee, 0, 0, &[])),
        ("SETTINGS of an unknown kind", frame(SETTINGS, 0, 0, &[0xee, 0xee, 0, 0, 0, 0])),
    ];
    let mut others = Client::cleartext(setup.http).await;
    let count = floods.len() as u64;
    for (name, flood) in floods {
        let mut hostile = Hostile::new(&setup).await;
        hostile.0.send(flood.repeat(3000)).await;
        assert_eq!(hostile.verdict(1).await, Verdict::GoAway(ENHANCE_YOUR_CALM), "{name}");
        assert_eq!(others.get("http://a.test/").await.0.status(), 200, "{name}");
    }
    until("all are counted", || proxy.counters().flooded.get() == count).await;

    // What a client may well send is none.
    let mut patient = Hostile::new(&setup).await;
    patient.0.send(frame(PING, 0, 0, &[0; 8]).repeat(500)).await;
    patient.0.send(get(1)).await;
    assert_eq!(patient.verdict(1).await, Verdict::Answered);
}

#[tokio::test]
async fn a_rapid_reset_ends_its_connection() {
    let (setup, _proxy, fields, connections) = beside_a_silent_one().await;
    // At once, and one after the other.
    for at_once in [true, false] {
        let mut hostile = Hostile::new(&setup).await;
        let before = connections.load(Relaxed);
        let mut all = Vec::new();
        for stream in (1..8000).step_by(2) {
            let pair = [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields)),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ];
            if at_once {
                all.extend(pair.concat());
            } else {
                hostile.0.send(pair.concat()).await;
                tokio::task::yield_now().await;
            }
        }
        hostile.0.send(all).await;
        assert_eq!(hostile.verdict(0).await, Verdict::GoAway(ENHANCE_YOUR_CALM), "{at_once}");
        assert!(connections.load(Relaxed) - before <= 1100, "{}", connections.load(Relaxed) - before);
    }
    assert_serves(&setup).await;
}

#[tokio::test]
async fn endless_headers_end_their_connection_and_long_ones_their_request() {
    let (setup, _proxy, connections) = served(Setup::new()).await;
    let mut hostile = Hostile::new(&setup).await;
    hostile.0.send(frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    let more = frame(CONTINUATION, 0, 1, &block(&[("x-own", &"x".repeat(1000))]));
    hostile.0.send(more.repeat(2000)).await;
    assert!(matches!(hostile.verdict(1).await, Verdict::GoAway(_) | Verdict::Closed));

    // Empty ones.
    let mut hostile = Hostile::new(&setup).await;
    hostile.0.send(frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    hostile.0.send(frame(CONTINUATION, 0, 1, &[]).repeat(5000)).await;
    assert!(matches!(hostile.verdict(1).await, Verdict::GoAway(ENHANCE_YOUR_CALM)));

    // Within a few frames, and more than is taken once it is unpacked.
    let mut hostile = Hostile::new(&setup).await;
    let long = block(&[("x-own", &"x".repeat(10_000))]);
    hostile.0.send(frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    for n in 0..8 {
        let flags = if n == 7 { END_HEADERS } else { 0 };
        hostile.0.send(frame(CONTINUATION, flags, 1, &long)).await;
    }
    let verdict = hostile.verdict(1).await;
    assert_ne!(verdict, Verdict::Closed);
    assert_eq!(connections.load(Relaxed), 0, "{verdict:?}");
    assert_serves(&setup).await;
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    let (setup, _proxy, fields, connections) = beside_a_silent_one().await;
    let mut hostile = Hostile::new(&setup).await;
    for n in 0..129 {
        hostile.0.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block(&fields))).await;
    }
    assert_eq!(hostile.verdict(2 * 128 + 1).await, Verdict::Reset(REFUSED_STREAM));
    until("128 have their origin", || connections.load(Relaxed) == 128).await;
}

#[tokio::test]
async fn small_frames_that_nobody_takes_end_their_connection() {
    let (mute, _) = origin(|raw| async move {
        let _held = raw;
        std::future::pending::<()>().await;
    })
    .await;
    let setup = Setup::new().zone("mute.test", mute);
    let (setup, _proxy, _) = served(setup).await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "mute.test"),
        (":path", "/"),
        ("sec-websocket-version", "13"),
    ];
    let mut hostile = Hostile::new(&setup).await;
    for stream in (1..200).step_by(2) {
        hostile.0.send(frame(HEADERS, END_HEADERS, stream, &block(&fields))).await;
        hostile.0.send(frame(DATA, 0, stream, b"x").repeat(60_000)).await;
    }
    assert!(matches!(hostile.verdict(0).await, Verdict::GoAway(ENHANCE_YOUR_CALM) | Verdict::Closed));
    assert_serves(&setup).await;
}
