//! Plain requests through the proxy.

mod support;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use support::{
    Setup, free_port,
    origin::{SWITCH, origin, reflect},
    raw::{Raw, header, status, upgrade_request},
    soon, until,
};
use tokio::net::TcpStream;

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn a_connection_is_kept_for_requests_with_and_without_content() {
    let (origin, connections) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;

    let (head, body) = client.ask(GET).await;
    assert_eq!(status(&head), 200, "{head}");
    assert!(body.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{body}");
    assert_eq!(header(&body, "host"), Some("a.test"));

    let (_, body) = client.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(body.ends_with("\r\n\r\nhello"), "{body}");
    assert_eq!(header(&body, "content-length"), Some("5"));

    for method in ["PUT", "GET"] {
        let chunked = format!(
            "{method} / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
        );
        let (_, body) = client.ask(&chunked).await;
        assert!(body.ends_with("\r\n\r\nhello"), "{body}");
        assert_eq!(header(&body, "transfer-encoding"), Some("chunked"));
    }
    assert_eq!(connections.load(Relaxed), 1, "the origin's connection is kept as well");
    assert_eq!(proxy.counters().requests.get(), 4);
    assert_eq!(proxy.counters().accepted.get(), 1);
    assert_eq!(proxy.counters().untracked.get(), 1, "once per socket");
}

#[tokio::test]
async fn chunked_answers_and_heads_pass() {
    let (address, _) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let answer = match head.split(' ').next() {
                Some("PUT") => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 77\r\nKeep-Alive: timeout=5\r\n\r\n",
                _ => "HTTP/1.1 404 Not here\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            };
            raw.send(answer).await;
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let (head, body) = client.ask(GET).await;
    assert_eq!((status(&head), body.as_str()), (404, "abc"));
    assert_eq!(head.matches("x-a: ").count(), 2);

    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((status(&head), header(&head, "content-length")), (200, Some("77")), "{head}");
    assert_eq!(header(&head, "keep-alive"), None);
    assert_eq!(status(&client.ask(GET).await.0), 404, "the connection goes on");

    let (head, body) = client.ask("PUT / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!((header(&head, "content-length"), body.as_str()), (None, "abc"), "chunked overrides a length");
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_proxy() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let _proxy = setup.start();
    let (_, got) = Raw::connect(setup.http)
        .await
        .ask(
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-Hop, X-Forwarded-For, Authorization\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers, gzip\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nAuthorization: me\r\nX-End: 1\r\n\r\n",
        )
        .await;
    for gone in ["x-hop", "keep-alive", "upgrade", "proxy-connection"] {
        assert_eq!(header(&got, gone), None, "{got}");
    }
    assert_eq!(header(&got, "te"), Some("trailers"));
    assert_eq!(header(&got, "authorization"), Some("me"));
    assert_eq!(header(&got, "x-end"), Some("1"));
    assert_eq!(header(&got, "x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn the_origin_is_told_about_the_client_and_not_what_the_client_says_of_itself() {
    let (origin, _) = reflect().await;
    let claim = "GET / HTTP/1.1\r\nHost: a.test:81\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
                 X-Forwarded-Proto: https\r\n\r\n";
    let forwarded = "for=127.0.0.1;host=\"a.test:81\";proto=http";
    for (style, x_for, standard) in [
        ("x-forwarded", Some("127.0.0.1"), None),
        ("forwarded", None, Some(forwarded)),
        ("both", Some("127.0.0.1"), Some(forwarded)),
        ("none", None, None),
    ] {
        let setup = Setup::new().zone("a.test", origin).setting(&format!("forwarded = \"{style}\""));
        let _proxy = setup.start();
        let (_, got) = Raw::connect(setup.http).await.ask(claim).await;
        assert_eq!(header(&got, "x-forwarded-for"), x_for, "{style}: {got}");
        assert_eq!(header(&got, "x-forwarded-proto"), x_for.map(|_| "http"), "{style}");
        assert_eq!(header(&got, "x-forwarded-host"), x_for.map(|_| "a.test:81"), "{style}");
        assert_eq!(header(&got, "forwarded"), standard, "{style}: {got}");
        assert!(!got.contains("6.6.6.6"), "{got}");
    }
}

fn problem(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[tokio::test]
async fn requests_for_nobody_are_refused_with_a_reason() {
    let (origin, connections) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).zone("b.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for (request, code, reason) in [
        ("GET / HTTP/1.1\r\nHost: c.test\r\n\r\n", 421, "host_unknown"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400, "bad_host"),
        ("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400, "bad_host"),
        ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "target_host_mismatch"),
        ("GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
        ("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_target"),
    ] {
        let (head, body) = client.ask(request).await;
        assert_eq!(status(&head), code, "{request}: {head}");
        assert_eq!(header(&head, "content-type"), Some("application/problem+json"));
        let problem = problem(&body);
        assert_eq!(problem["reason"], reason, "{request}");
        assert_eq!(problem["status"], code);
        assert!(problem["type"].as_str().is_some_and(|text| text.ends_with(reason)), "{body}");
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }
    let (_, body) = client.ask("GET http://A.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(
        body.starts_with("GET /x HTTP/1.1\r\n"),
        "an absolute target that agrees goes on in origin form: {body}"
    );
    assert_eq!(connections.load(Relaxed), 1);
    assert_eq!(proxy.counters().refused_for("bad_host"), 3);
    let (head, _) =
        Raw::connect(setup.http).await.ask("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(status(&head), 501);
}

#[tokio::test]
async fn what_is_not_http_gets_400_and_the_end() {
    let (origin, connections) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let long = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (bytes, code) in [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (&long, 431),
    ] {
        let mut client = Raw::connect(setup.http).await;
        client.send(bytes).await;
        let answer = client.rest().await.expect("a clean end");
        assert_eq!(status(&String::from_utf8_lossy(&answer)), code);
    }
    assert_eq!(connections.load(Relaxed), 0);
    assert_eq!(proxy.counters().malformed.get(), 4);
}

#[tokio::test]
async fn a_dead_origin_is_502_a_slow_one_504() {
    let (slow, _) = origin(|mut raw| async move {
        raw.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let (rude, _) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (wrong, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        raw.rest().await.ok();
    })
    .await;
    let setup = Setup::new()
        .zone("down.test", free_port())
        .zone("slow.test", slow)
        .zone("rude.test", rude)
        .zone("wrong.test", wrong)
        .setting("response_timeout = \"100ms\"");
    let proxy = setup.start();
    for (host, code, reason) in [
        ("down.test", 502, "origin_unreachable"),
        ("slow.test", 504, "origin_response_timeout"),
        ("rude.test", 502, "origin_failed"),
        ("wrong.test", 502, "origin_bad_upgrade"),
    ] {
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(status(&head), code, "{host}");
        assert_eq!(problem(&body)["reason"], reason);
        assert_eq!(problem(&body)["zone"], host);
        assert_eq!(proxy.counters().refused_for(reason), 1);
    }
}

#[tokio::test]
async fn an_origin_that_does_not_accept_is_504() {
    // A full backlog: further SYNs are dropped.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("bound");
    socket.listen(0).expect("listens");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        held.push(stream);
    }
    let setup = Setup::new().zone("a.test", address).setting("connect_timeout = \"100ms\"");
    let _proxy = setup.start();
    let (head, body) = Raw::connect(setup.http).await.ask(GET).await;
    assert_eq!(status(&head), 504);
    assert_eq!(problem(&body)["reason"], "origin_connect_timeout");
}

#[tokio::test]
async fn a_long_upload_that_moves_is_not_cut_off_and_one_that_stalls_is_408() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).setting("response_timeout = \"300ms\"");
    let _proxy = setup.start();
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n";

    let mut client = Raw::connect(setup.http).await;
    client.send(head).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.send("x").await;
    }
    assert_eq!(status(&client.head().await), 200);

    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{head}xx")).await;
    assert_eq!(status(&client.head().await), 408);
}

#[tokio::test]
async fn a_head_that_does_not_come_and_an_idle_connection_have_times_of_their_own() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .zone("a.test", origin)
        .setting("header_timeout = \"150ms\"")
        .setting("keep_alive_timeout = \"600ms\"");
    let proxy = setup.start();

    let mut silent = Raw::connect(setup.http).await;
    let mut slow = Raw::connect(setup.http).await;
    slow.send("GET / HTTP/1.1\r\nHost: a.te").await;
    assert_eq!(silent.rest().await.expect("a clean end"), b"");
    assert!(matches!(slow.rest().await.as_deref(), Ok(b"") | Err(_)));

    let mut kept = Raw::connect(setup.http).await;
    assert_eq!(status(&kept.ask(GET).await.0), 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(status(&kept.ask(GET).await.0), 200, "idle for longer than a head may take");
    let begun = std::time::Instant::now();
    assert_eq!(kept.rest().await.expect("a clean end"), b"");
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(proxy.counters().timed_out.get(), 3);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).zone("b.test", origin);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let requests: String = (0..20)
        .map(|i| format!("GET /{i} HTTP/1.1\r\nHost: {}.test\r\n\r\n", if i % 2 == 0 { "a" } else { "b" }))
        .collect();
    client.send(requests).await;
    for i in 0..20 {
        let head = client.head().await;
        let body = client.body_of(&head).await;
        assert!(body.starts_with(&format!("GET /{i} ")), "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    let (address, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.send(GET).await;
    client.head().await;
    let rest = soon(client.rest()).await.unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn more_than_a_hundred_headers_are_too_many() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let _proxy = setup.start();
    for (extra, code) in [(99, 200), (100, 431)] {
        let headers: String = (0..extra).map(|i| format!("X-{i}: 1\r\n")).collect();
        let mut client = Raw::connect(setup.http).await;
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n")).await;
        assert_eq!(status(&client.head().await), code, "{extra}");
    }
}

#[tokio::test]
async fn the_origin_is_told_which_proxies_the_request_came_through() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let _proxy = setup.start();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.0 edge\r\nConnection: Via\r\n\r\n";
    let (_, got) = Raw::connect(setup.http).await.ask(request).await;
    let via: Vec<_> = got.lines().filter_map(|line| line.strip_prefix("via: ")).collect();
    assert_eq!(via.len(), 2, "{got}");
    assert_eq!(via[0], "1.0 edge");
    assert!(via[1].starts_with("1.1 weir-"), "{got}");
}

#[tokio::test]
async fn a_zone_whose_origin_is_the_proxy_itself_is_508() {
    let setup = Setup::new();
    let own = setup.http;
    let setup = setup.zone("a.test", own);
    let proxy = setup.start();
    for request in [GET.to_owned(), upgrade_request("a.test")] {
        let before = proxy.counters().requests.get();
        let (head, body) = Raw::connect(setup.http).await.ask(&request).await;
        assert_eq!((status(&head), problem(&body)["reason"].as_str()), (508, Some("loop")), "{head}");
        assert!(proxy.counters().requests.get() - before <= 4, "it ends after a few rounds");
    }
}

#[tokio::test]
async fn two_proxies_in_a_circle_are_seen_as_one() {
    let (first, second) = (Setup::new(), Setup::new());
    let (a, b) = (first.http, second.http);
    let (first, second) = (first.zone("a.test", b), second.zone("a.test", a));
    let (_first, _second) = (first.start(), second.start());
    let (head, _) = Raw::connect(a).await.ask(GET).await;
    assert_eq!(status(&head), 508);
}

#[tokio::test]
async fn content_that_is_no_http_is_the_clients_fault() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (answer, body) = client.ask(&format!("{head}3\r\nabc\r\nnonsense\r\n")).await;
    assert_eq!((status(&answer), problem(&body)["reason"].as_str()), (400, Some("bad_content")), "{body}");
    assert_eq!(client.rest().await.expect("a clean end"), b"");
    assert_eq!(proxy.counters().refused_for("bad_content"), 1);
    assert_eq!(proxy.counters().refused_for("origin_failed"), 0);
}

#[tokio::test]
async fn a_kept_alive_connection_that_its_origin_closed_fails_only_what_may_not_be_sent_twice() {
    // One answer a connection, and the end of it when the next request has come.
    let (address, connections) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        raw.exactly(1).await;
        raw.stream().set_zero_linger().expect("set");
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for round in 0..10 {
        assert_eq!(status(&client.ask(GET).await.0), 200, "{round}");
    }
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n";
    let mut codes = Vec::new();
    for _ in 0..2 {
        codes.push(status(&client.ask(post).await.0));
    }
    assert!(codes.contains(&502), "{codes:?}");
    assert!(connections.load(Relaxed) <= 12);
    assert_eq!(proxy.counters().refused_for("origin_failed"), 1);
}

#[tokio::test]
async fn a_transfer_coding_besides_chunked_is_not_passed_on_in_silence() {
    let (coded, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    })
    .await;
    let setup = Setup::new().zone("a.test", coded);
    let _proxy = setup.start();
    for codings in ["gzip, chunked", "identity, chunked", "chunked, chunked"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: {codings}\r\n\r\n0\r\n\r\n");
        let (head, body) = Raw::connect(setup.http).await.ask(&request).await;
        assert_eq!(status(&head), 501, "{codings}");
        assert_eq!(problem(&body)["reason"], "transfer_coding_not_supported");
    }
    for request in [GET.to_owned(), upgrade_request("a.test")] {
        assert_eq!(status(&Raw::connect(setup.http).await.ask(&request).await.0), 502);
    }
}

#[tokio::test]
async fn a_client_cannot_pretend_by_another_spelling() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let _proxy = setup.start();
    let names = [
        "X_Forwarded_For",
        "X-Forwarded_Host",
        "X-Forwarded",
        "X_Real_IP",
        "X-Client-IP",
        "True_Client-IP",
        "Proxy",
    ];
    let claims: String = names.iter().map(|name| format!("{name}: 6.6.6.6\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{claims}X-Forwarder: kept\r\n\r\n");
    let (_, got) = Raw::connect(setup.http).await.ask(&request).await;
    assert!(!got.contains("6.6.6.6"), "{got}");
    assert_eq!(header(&got, "x-forwarder"), Some("kept"));
}

#[tokio::test]
async fn an_answer_of_which_nothing_moves_is_cut_off_and_one_that_moves_is_not() {
    let (address, _) = origin(|mut raw| async move {
        let head = raw.head().await;
        if head.starts_with("GET /endless") {
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").await;
            while tokio::time::timeout(Duration::from_secs(5), raw.send(vec![7; 1 << 20])).await.is_ok() {}
            return;
        }
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            raw.send("x").await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let setup = Setup::new().zone("a.test", address).setting("stall_timeout = \"300ms\"");
    let proxy = setup.start();

    let mut client = Raw::connect(setup.http).await;
    client.send(GET).await;
    client.head().await;
    assert_eq!(client.exactly(8).await, b"xxxxxxxx", "slow, but it moves");
    assert!(client.rest().await.is_err(), "the origin has stalled: cut off, not ended");

    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut deaf = Raw::new(soon(socket.connect(setup.http)).await.expect("connected"));
    deaf.send(GET.replace("/a?b=c", "/endless")).await;
    until("the client that does not read is cut off", || proxy.counters().timed_out.get() == 2).await;
}
