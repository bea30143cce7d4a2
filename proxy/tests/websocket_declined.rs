//! Upgrades that make no tunnel: what the client gets, and what the origin never sees.

mod support;

use std::sync::atomic::Ordering::Relaxed;

use support::{
    Setup, free_port,
    origin::{origin, reflect},
    raw::{Raw, header, status, upgrade_request},
    soon,
};
use tokio::sync::mpsc;

#[tokio::test]
async fn an_answer_that_is_no_101_is_forwarded_and_the_connection_goes_on() {
    let (address, connections) = origin(|mut raw| async move {
        while let Some(head) = raw.try_head().await {
            let answer = match head.split(' ').nth(1) {
                Some("/200") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Some("/401") => "HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\r\nuntil the end",
                _ => "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            };
            raw.send(answer).await;
            if answer.contains("close") {
                return;
            }
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for (path, code, text) in [("/200", 200, "ok"), ("/403", 403, "abc"), ("/401", 401, "until the end")] {
        let (head, body) = client.ask(&upgrade_request("a.test").replace("/chat?x=1", path)).await;
        assert_eq!((status(&head), body.as_str()), (code, text), "{head}");
        assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (None, None), "{head}");
    }
    assert_eq!(connections.load(Relaxed), 3, "each upgrade has a connection of its own");
    assert_eq!((proxy.counters().upgrades.get(), proxy.counters().tunnels.get()), (3, 0));
}

#[tokio::test]
async fn an_answer_that_came_before_the_origin_broke_off_is_forwarded() {
    for behind in ["", "more than was announced"] {
        let (address, _) = origin(move |mut raw| async move {
            raw.head().await;
            raw.send(format!("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno{behind}")).await;
            raw.stream().set_zero_linger().expect("set");
        })
        .await;
        let setup = Setup::new().zone("a.test", address);
        let _proxy = setup.start();
        for _ in 0..50 {
            let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request("a.test")).await;
            assert_eq!((status(&head), body.as_str()), (403, "no"), "{behind}");
        }
    }
}

#[tokio::test]
async fn bytes_behind_a_declined_upgrade_never_reach_the_origin() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            let head = raw.head().await;
            if head.starts_with("GET /smuggled") {
                raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                return;
            }
            raw.send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
            sender.send(raw.rest().await.unwrap_or_default()).expect("taken");
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();

    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{}\x01\x02tunnel bytes\r\n\r\n", upgrade_request("a.test"))).await;
    let answers = String::from_utf8(client.rest().await.expect("a clean end")).expect("text");
    assert!(answers.starts_with("HTTP/1.1 403 "), "{answers}");
    assert!(answers.contains("HTTP/1.1 400 "), "what is no request is refused: {answers}");
    assert_eq!(soon(seen.recv()).await.expect("bytes"), b"");

    // A request behind it is the client's next one and goes the way of every request.
    let mut client = Raw::connect(setup.http).await;
    client.send(format!("{}GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n", upgrade_request("a.test"))).await;
    assert_eq!(status(&client.head().await), 403);
    assert_eq!(status(&client.head().await), 421);
    assert_eq!(soon(seen.recv()).await.expect("bytes"), b"");
    assert_eq!(proxy.counters().refused_for("host_unknown"), 1);
}

#[tokio::test]
async fn only_a_proper_101_opens_a_tunnel() {
    let answers = [
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ];
    for answer in answers {
        let (address, _) = origin(move |mut raw| async move {
            raw.head().await;
            raw.send(answer).await;
            assert_eq!(raw.rest().await.unwrap_or_default(), b"");
        })
        .await;
        let setup = Setup::new().zone("a.test", address);
        let proxy = setup.start();
        let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request("a.test")).await;
        assert_eq!(status(&head), 502, "{answer}");
        assert!(body.contains("\"origin_bad_upgrade\""), "{body}");
        assert_eq!(proxy.counters().tunnels.get(), 0);
    }
}

#[tokio::test]
async fn an_upgrade_fails_as_its_origin_fails() {
    let (slow, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.rest().await.ok();
    })
    .await;
    let (rude, _) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (garbage, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let setup = Setup::new()
        .zone("down.test", free_port())
        .zone("slow.test", slow)
        .zone("rude.test", rude)
        .zone("garbage.test", garbage)
        .setting("response_timeout = \"100ms\"");
    let proxy = setup.start();
    for (host, code, reason) in [
        ("down.test", 502, "origin_unreachable"),
        ("slow.test", 504, "origin_response_timeout"),
        ("rude.test", 502, "origin_failed"),
        ("garbage.test", 502, "origin_failed"),
    ] {
        let (head, body) = Raw::connect(setup.http).await.ask(&upgrade_request(host)).await;
        assert_eq!(status(&head), code, "{host}: {head}");
        assert!(body.contains(reason) && body.contains(host), "{body}");
    }
    assert_eq!(proxy.counters().tunnels.get(), 0);
}

#[tokio::test]
async fn an_upgrade_to_anything_else_is_a_plain_request() {
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address);
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let h2c = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let post = upgrade_request("a.test").replace("GET ", "POST ");
    for request in [h2c, &post] {
        let (head, got) = client.ask(request).await;
        assert_eq!(status(&head), 200);
        assert_eq!((header(&got, "upgrade"), header(&got, "http2-settings")), (None, None), "{got}");
    }
    let with_content = upgrade_request("a.test").replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
    let (head, body) = client.ask(&with_content).await;
    assert_eq!(status(&head), 400);
    assert!(body.contains("upgrade_with_content"), "{body}");
    assert_eq!(proxy.counters().tunnels.get(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_origin_thinks_takes_the_origins_connection_along() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let (address, _) = origin(move |mut raw| {
        let sender = sender.clone();
        async move {
            raw.head().await;
            sender.send("asked").expect("taken");
            raw.rest().await.ok();
            sender.send("left").expect("taken");
        }
    })
    .await;
    let setup = Setup::new().zone("a.test", address);
    let _proxy = setup.start();
    for behind in ["", "bytes of a tunnel to be"] {
        for reset in [false, true] {
            let mut client = Raw::connect(setup.http).await;
            client.send(format!("{}{behind}", upgrade_request("a.test"))).await;
            assert_eq!(soon(ends.recv()).await, Some("asked"));
            if reset {
                client.stream().set_zero_linger().expect("set");
            }
            drop(client);
            assert_eq!(soon(ends.recv()).await, Some("left"), "{behind} {reset}");
        }
    }
}
