//! Hostile HTTP/1: what the client is answered, and exactly what the origin has seen of it.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use support::{
    Setup,
    origin::origin,
    raw::{Raw, header, status, upgrade_request},
    until,
};
use weir_proxy::Running;

/// Every byte that an origin got, and how many connections. It answers each head with 200 and no content.
struct Recorder {
    bytes: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicUsize>,
}

impl Recorder {
    async fn start(answer: &'static str) -> (Self, std::net::SocketAddr) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let record = bytes.clone();
        let (address, connections) = origin(move |mut raw| {
            let record = record.clone();
            async move {
                let mut answered = 0;
                while let Some(some) = raw.some().await {
                    let heads = {
                        let mut record = record.lock().expect("recorded");
                        record.extend_from_slice(&some);
                        record.windows(4).filter(|window| window == b"\r\n\r\n").count()
                    };
                    for _ in answered..heads {
                        raw.send(answer).await;
                    }
                    answered = heads;
                }
            }
        })
        .await;
        (Self { bytes, connections }, address)
    }

    fn saw(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("recorded")).into_owned()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

async fn edge(answer: &'static str) -> (Setup, Running, Recorder) {
    let (recorder, address) = Recorder::start(answer).await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    (setup, proxy, recorder)
}

/// Sends each, alone on a connection, and expects the status, the end of the connection, and an origin that saw nothing.
async fn refused(cases: &[(&str, u16)]) {
    let (setup, _proxy, recorder) = edge(OK).await;
    for (bytes, code) in cases {
        let mut client = Raw::connect(setup.http).await;
        // A request behind it would be the smuggled one.
        client.send(format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        let answer = String::from_utf8_lossy(&client.rest().await.expect("a clean end")).into_owned();
        assert_eq!(status(&answer), *code, "{bytes:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "nothing behind it is answered: {bytes:?}: {answer}"
        );
    }
    assert_eq!((recorder.saw().as_str(), recorder.connections.load(Relaxed)), ("", 0));
}

fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n0\r\n\r\n")
}

#[tokio::test]
async fn two_framings_are_none() {
    let cases: Vec<_> = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nTRANSFER-ENCODING:\tchunked",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5a",
        "Content-Length: 5 5",
        "Content-Length: ",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\n ,identity",
        " Transfer-Encoding: chunked",
    ]
    .iter()
    .map(|fields| with(fields))
    .collect();
    let cases: Vec<_> = cases.iter().map(|case| (case.as_str(), 400)).collect();
    refused(&cases).await;
    refused(&[
        (&with("Transfer-Encoding: gzip, chunked"), 501),
        (&with("Transfer-Encoding: identity, chunked"), 501),
        ("POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn nothing_comes_behind_a_coding_that_is_not_plainly_chunked() {
    let (setup, proxy, recorder) = edge(OK).await;
    let seconds = [
        "GET /outer HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /outer HTTP/1.1\r\nHost: a.test\r\nX: a\n\nGET /inner HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ];
    // A zone, none, and what is no host.
    let hosts = ["Host: a.test", "Host: nobody.test", "Host: a b", "X: 1", "Host: a.test\r\nUpgrade: h2c"];
    let mut refused = 0;
    for coding in
        [",chunked", ", chunked", "chunked,", "chunked, chunked", "gzip, chunked", "identity, chunked"]
    {
        for host in hosts {
            for second in seconds {
                let first =
                    format!("POST /p HTTP/1.1\r\n{host}\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
                let mut client = Raw::connect(setup.http).await;
                client.send(format!("{first}{second}")).await;
                let answer = String::from_utf8_lossy(&client.rest().await.expect("a clean end")).into_owned();
                let answers = answer.matches("HTTP/1.1 ").count();
                assert!(answers == 1, "{coding:?} {host} {second:?}: {answer}");
                assert!([400, 501].contains(&status(&answer)), "{coding:?} {host}: {answer}");
                refused += u64::from(status(&answer) == 501);
            }
        }
    }
    assert!(refused > 0);
    assert_eq!(proxy.counters().refused_for("transfer_coding_not_supported"), refused);
    assert_eq!((recorder.saw().as_str(), recorder.connections.load(Relaxed)), ("", 0));
}

#[tokio::test]
async fn lines_end_with_crlf_and_are_not_folded() {
    refused(&[
        ("GET / HTTP/1.1\nHost: a.test\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\nX: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\rX: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\t2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400),
        ("\n\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn control_characters_have_no_place_in_a_head() {
    let mut cases = Vec::new();
    for byte in (0..=0x1fu8).chain([0x7f]).filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        let c = byte as char;
        cases.push(format!("GET /{c} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        cases.push(format!("GE{c}T / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        cases.push(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX{c}Y: 1\r\n\r\n"));
        if c != '\t' {
            cases.push(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: 1{c}2\r\n\r\n"));
        }
    }
    for name in ["X Y", "X ", "X(", "X\"", "", "X{", "X@"] {
        cases.push(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{name}: 1\r\n\r\n"));
    }
    cases.push("GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n".into());
    cases.push("GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n".into());
    cases.push("GET / HTTP/1.1\r\nHost: a.test\r\nno colon\r\n\r\n".into());
    cases.push("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n".into());
    let cases: Vec<_> = cases.iter().map(|case| (case.as_str(), 400)).collect();
    refused(&cases).await;
}

#[tokio::test]
async fn a_head_and_its_fields_have_a_limit_and_one_without_an_end_too() {
    let many: String = (0..100).map(|i| format!("X-{i}: 1\r\n")).collect();
    let long = "x".repeat(100_000);
    refused(&[
        (&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"), 431),
        (&format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {long}\r\n\r\n"), 431),
    ])
    .await;
    let (setup, _proxy, recorder) = edge(OK).await;
    let mut client = Raw::connect(setup.http).await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n").await;
    // It is answered while it goes on; the writes then fail.
    for _ in 0..1000 {
        client.send("X: 1\r\n".repeat(1000)).await;
    }
    let answer = client.some().await.unwrap_or_default();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(recorder.saw(), "");
}

#[tokio::test]
async fn the_host_is_one_and_the_target_agrees_with_it() {
    let (setup, proxy, recorder) = edge(OK).await;
    for (head, reason) in [
        ("GET / HTTP/1.1\r\n", "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n", "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n", "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test@b.test\r\n", "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test/x\r\n", "bad_host"),
        ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n", "target_host_mismatch"),
        ("GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n", "target_host_mismatch"),
        ("GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n", "target_host_mismatch"),
        ("GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n", "bad_target"),
    ] {
        let (answer, body) = Raw::connect(setup.http).await.ask(&format!("{head}\r\n")).await;
        assert_eq!(status(&answer), 400, "{head}");
        assert!(body.contains(reason), "{head}: {body}");
    }
    assert_eq!((recorder.saw().as_str(), proxy.counters().refused_for("bad_host")), ("", 5));
}

#[tokio::test]
async fn chunks_are_framed_in_one_way() {
    let (setup, proxy, recorder) = edge(OK).await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let huge = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(70_000));
    let trailers = format!("0\r\nT: {}\r\n\r\n", "x".repeat(70_000));
    let cases = [
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "\r\n",
        "1;x\ny\r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\na",
        "0\r\nT: 1\n\r\n",
        "0\r\n T: 1\r\n\r\n",
        "g\r\n",
        &huge,
        &trailers,
    ];
    for chunks in cases {
        let mut client = Raw::connect(setup.http).await;
        client.send(format!("{head}{chunks}GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        let answer = String::from_utf8_lossy(&client.rest().await.unwrap_or_default()).into_owned();
        assert!(answer.is_empty() || status(&answer) == 400, "{chunks:.20}: {answer}");
        assert!(!answer.contains("HTTP/1.1 200"), "{chunks:.20}: {answer}");
    }
    assert!(proxy.counters().refused_for("bad_content") > 10);
    assert!(!recorder.saw().contains("smuggled"), "{}", recorder.saw());
}

#[tokio::test]
async fn an_upgrade_to_anything_else_is_not_forwarded_as_one() {
    let (setup, proxy, recorder) = edge(OK).await;
    for upgrade in ["h2c", "TLS/1.3", "websocket2", "HTTP/2.0", "websockets, h2c"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let (answer, _) = Raw::connect(setup.http).await.ask(&request).await;
        assert_eq!(status(&answer), 200, "{upgrade}");
    }
    let saw = recorder.saw().to_ascii_lowercase();
    assert!(
        !saw.contains("upgrade") && !saw.contains("http2-settings") && !saw.contains("connection"),
        "{saw}"
    );
    assert_eq!(proxy.counters().upgrades.get(), 0);
}

const EARLY: &str = "\x01\x02 early bytes of a tunnel\n\r\n\r\n";

#[tokio::test]
async fn bytes_behind_an_upgrade_that_came_to_nothing_are_no_tunnel() {
    for (answer, code) in [
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ("HTTP/1.1 426 No\r\nContent-Length: 0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 426),
        ("HTTP/1.1 101 Yes\r\n\r\n", 502),
        ("HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n", 502),
        ("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\n\r\n", 502),
        ("HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 502),
    ] {
        let (setup, proxy, recorder) = edge(answer).await;
        let mut client = Raw::connect(setup.http).await;
        client.send(format!("{}{EARLY}", upgrade_request("a.test"))).await;
        let text = String::from_utf8_lossy(&client.rest().await.expect("a clean end")).into_owned();
        assert_eq!(status(&text), code, "{answer}: {text}");
        assert!(text.contains("HTTP/1.1 400 "), "they are a request, and a bad one: {text}");
        let saw = recorder.saw();
        assert!(saw.starts_with("GET /chat?x=1 ") && saw.ends_with("\r\n\r\n"), "{saw}");
        assert!(!saw.contains("early") && saw.matches("\r\n\r\n").count() == 1, "{saw}");
        assert_eq!(proxy.counters().tunnels.get(), 0);
    }
}

#[tokio::test]
async fn an_upgrade_of_another_version_or_without_a_key_does_not_reach_the_origin() {
    let good = upgrade_request("a.test");
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (setup, proxy, recorder) = edge(support::origin::SWITCH).await;
    for (from, to, code) in [
        (version, "Sec-WebSocket-Version: 777\r\n", 426),
        (version, "Sec-WebSocket-Version: 8\r\n", 426),
        (version, "Sec-WebSocket-Version: 13, 8\r\n", 426),
        (version, "Sec-WebSocket-Version: ,13\r\n", 426),
        (version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n", 426),
        (version, "", 426),
        (key, "", 400),
        (key, "Sec-WebSocket-Key: x\r\n", 400),
        (
            key,
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            400,
        ),
    ] {
        let mut client = Raw::connect(setup.http).await;
        client.send(format!("{}{EARLY}", good.replace(from, to))).await;
        let answer = client.head().await;
        assert_eq!(status(&answer), code, "{to}: {answer}");
        if code == 426 {
            assert_eq!(header(&answer, "sec-websocket-version"), Some("13"));
        }
        client.rest().await.ok();
    }
    assert_eq!((recorder.saw().as_str(), recorder.connections.load(Relaxed)), ("", 0));
    assert_eq!(proxy.counters().tunnels.get(), 0);
}

#[tokio::test]
async fn early_bytes_that_no_head_may_have_are_a_tunnels_all_the_same() {
    let (setup, proxy, recorder) = edge(support::origin::SWITCH).await;
    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{}{EARLY}", upgrade_request("a.test"))).await;
    assert_eq!(status(&client.head().await), 101);
    until("they have arrived", || recorder.saw().ends_with(EARLY)).await;
    assert_eq!(proxy.counters().tunnels.get(), 1);
}

#[tokio::test]
async fn connection_takes_away_only_what_is_of_the_hop() {
    let (setup, _proxy, recorder) = edge(OK).await;
    let named = "Host, Forwarded, X-Forwarded-For, X-Request-Id, Via, Cookie, Authorization, Content-Length, Origin, X-Hop, close";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: {named}\r\nCookie: c\r\nAuthorization: z\r\nOrigin: o\r\nX-Hop: 1\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let (answer, _) = Raw::connect(setup.http).await.ask(&request).await;
    assert_eq!(status(&answer), 200);
    let saw = recorder.saw();
    for (name, value) in [
        ("host", "a.test"),
        ("cookie", "c"),
        ("authorization", "z"),
        ("origin", "o"),
        ("x-forwarded-for", "127.0.0.1"),
        ("content-length", "0"),
    ] {
        assert_eq!(header(&saw, name), Some(value), "{saw}");
    }
    assert_eq!((header(&saw, "x-hop"), header(&saw, "connection")), (None, None), "{saw}");
    assert!(header(&saw, "via").is_some());
    assert_eq!(header(&saw, "x-request-id"), header(&answer, "x-request-id"));
    assert!(header(&saw, "x-request-id").is_some(), "{saw}");
}

#[tokio::test]
async fn a_head_that_came_in_part_with_the_request_before_it_has_the_time_of_a_head() {
    let (_, address) = Recorder::start(OK).await;
    let setup = Setup::new()
        .zone("a.test", address)
        .setting("keep_alive_timeout = \"1h\"")
        .setting("header_timeout = \"200ms\"");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHo").await;
    assert_eq!(status(&client.head().await), 200);
    assert!(matches!(client.rest().await.as_deref(), Ok(b"") | Err(_)));
    assert_eq!(proxy.counters().timed_out.get(), 1);
}

#[tokio::test]
async fn content_that_drips_is_ended_and_content_that_flows_is_not() {
    let (_, address) = Recorder::start(OK).await;
    let setup = Setup::new()
        .zone("a.test", address)
        .setting("stall_timeout = \"400ms\"")
        .setting("min_body_bytes_per_second = 1000");
    let _proxy = setup.start();
    // The origin answers with the head; hold it back by content that never ends.
    let slow = origin(|mut raw| async move {
        raw.head().await;
        while raw.some().await.is_some() {}
    })
    .await
    .0;
    let drip = Setup::new()
        .zone("a.test", slow)
        .setting("stall_timeout = \"400ms\"")
        .setting("min_body_bytes_per_second = 1000");
    let _drip = drip.start();
    for (piece, ends) in [("x".to_owned(), true), ("x".repeat(500), false)] {
        let mut client = Raw::connect(drip.http).await;
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n").await;
        let begun = std::time::Instant::now();
        let send = async {
            while begun.elapsed() < std::time::Duration::from_secs(3) {
                client.send(&piece).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        send.await;
        if ends {
            assert_eq!(status(&client.head().await), 408);
        } else {
            client.half_close().await;
            assert!(client.try_head().await.is_none_or(|head| status(&head) != 408));
        }
    }
}
