//! Several origins of a zone, and origins over TLS.

mod support;

use std::sync::atomic::Ordering::Relaxed;

use support::{
    Setup, free_port,
    origin::{SWITCH, origin, reflect},
    raw::{Raw, header, status},
    secure::{Seen, secure},
    until,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn an_origin_over_tls_serves_requests_and_websockets() {
    let (address, _folder, ca, mut seen) = secure("app.internal").await;
    let setup = Setup::new().origins(
        "a.test",
        &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?}, server_name = \"app.internal\" }}\norigin_host = \"app.internal:8443\""),
    );
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let (head, got) = client.ask(GET).await;
    assert_eq!((status(&head), header(&got, "host")), (200, Some("app.internal:8443")));
    assert_eq!(header(&got, "x-forwarded-host"), Some("a.test"), "the client's own goes on where it belongs");
    let expected =
        |resumed| Seen { name: Some("app.internal".into()), alpn: Some(b"http/1.1".to_vec()), resumed };
    assert_eq!(seen.recv().await, Some(expected(false)));

    let mut socket = Raw::connect(setup.http).await;
    socket.upgrade("a.test").await;
    socket.send("through TLS and back").await;
    socket.expect("through TLS and back").await;
    assert_eq!(seen.recv().await, Some(expected(true)), "a session is resumed");
    socket.half_close().await;
    assert_eq!(socket.rest().await.expect("a clean end"), b"");
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_a_reason_of_its_own() {
    let (address, _folder, ca, _seen) = secure("app.internal").await;
    let (_, _other_folder, other, _) = secure("app.internal").await;
    let (plain, _) = origin(|mut raw| async move {
        raw.some().await;
        raw.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let setup = Setup::new()
        .origins("name.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?}, server_name = \"b\" }}"))
        .origins("own.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {ca:?} }}"))
        .origins("ca.test", &format!("origin = \"wss://{address}\"\norigin_tls = {{ ca = {other:?}, server_name = \"app.internal\" }}"))
        .origins("plain.test", &format!("origin = \"wss://{plain}\"\norigin_tls = {{ ca = {ca:?} }}"));
    let proxy = setup.start();
    for host in ["name.test", "own.test", "ca.test", "plain.test"] {
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&GET.replace("a.test", host)).await;
        assert_eq!(status(&head), 502, "{host}");
        assert!(body.contains("origin_tls_failed"), "{host}: {body}");
        let (head, _) = Raw::connect(setup.http).await.ask(&support::raw::upgrade_request(host)).await;
        assert_eq!(status(&head), 502, "{host}");
    }
    assert_eq!(proxy.counters().refused_for("origin_tls_failed"), 8);
}

#[tokio::test]
async fn requests_take_the_origins_in_turn() {
    let (first, one) = reflect().await;
    let (second, two) = reflect().await;
    let setup = Setup::new().origins(
        "a.test",
        &format!("origins = [\"ws://{first}\", \"ws://{second}\"]\nsend_proxy_protocol = false"),
    );
    let _proxy = setup.start();
    for _ in 0..4 {
        let mut client = Raw::connect(setup.http).await;
        assert_eq!(status(&client.ask(GET).await.0), 200);
        assert_eq!(status(&client.ask(GET).await.0), 200);
    }
    assert!(one.load(Relaxed) >= 1 && two.load(Relaxed) >= 1);
}

#[tokio::test]
async fn a_refused_connection_is_tried_at_another_origin_with_the_content() {
    let (live, _) = reflect().await;
    let (mirror, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
    })
    .await;
    let dead = free_port();
    let setup = Setup::new()
        .setting("origin_max_fails = 0")
        .origins("a.test", &format!("origins = [\"ws://{dead}\", \"ws://{live}\"]"))
        .origins("ws.test", &format!("origins = [\"ws://{dead}\", \"ws://{mirror}\"]"));
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for _ in 0..4 {
        let (head, got) =
            client.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
        assert_eq!(status(&head), 200);
        assert!(got.ends_with("hello"), "{got}");
        Raw::connect(setup.http).await.upgrade("ws.test").await;
    }
    let counters = proxy.counters();
    assert_eq!(counters.refused().map(|(_, count)| count).sum::<u64>(), 0);
    // Of eight requests that take turns: those that began with the one that refuses.
    assert_eq!(counters.origin_errors_of("unreachable"), 4, "what another origin saved counts as well");
}

#[tokio::test]
async fn an_origin_that_fails_in_a_row_is_left_out_also_after_a_reload_and_never_the_last() {
    let (rude, asked) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (live, _) = reflect().await;
    let setup = Setup::new()
        .setting("origin_fail_timeout = \"1h\"")
        .origins("a.test", &format!("origins = [\"ws://{rude}\", \"ws://{live}\"]"))
        .origins("b.test", &format!("origin = \"ws://{rude}\""));
    let proxy = setup.start();
    let mut failed = 0;
    for n in 0..20 {
        if n == 10 {
            proxy.reload(setup.config()).await.expect("reloaded");
        }
        let mut client = Raw::connect(setup.http).await;
        failed += usize::from(status(&client.ask(GET).await.0) == 502);
    }
    assert_eq!((failed, asked.load(Relaxed)), (3, 3));
    for _ in 0..5 {
        let mut client = Raw::connect(setup.http).await;
        assert_eq!(status(&client.ask(&GET.replace("a.test", "b.test")).await.0), 502);
    }
    until("an only origin is asked every time", || asked.load(Relaxed) == 8).await;
}
