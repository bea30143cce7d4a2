//! What the access log says of what clients did.

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use support::{
    Setup, free_port,
    origin::{mirror, origin, reflect},
    raw::{Raw, header, status, upgrade_request},
    soon, until,
};

struct Log {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { path: folder.path().join("access.log"), _folder: folder }
    }

    fn setting(&self, format: &str) -> String {
        format!("access_log = {{ format = \"{format}\", to = {:?} }}", self.path)
    }

    async fn lines(&self, count: usize) -> Vec<String> {
        lines(&self.path, count).await
    }

    async fn json(&self, count: usize) -> Vec<Value> {
        let lines = self.lines(count).await;
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// Waits for so many lines.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    until(&format!("{count} lines"), || read().lines().count() >= count).await;
    let lines: Vec<_> = read().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[tokio::test]
async fn a_plain_request_is_one_line_and_a_websocket_two() {
    let (origin, _) = reflect().await;
    let log = Log::new();
    let setup = Setup::new().zone("a.test", origin).zone("ws.test", mirror().await);
    let setup = setup.setting(&log.setting("json"));
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let request = "GET /x?y=z HTTP/1.1\r\nHost: a.test\r\nUser-Agent: me \"1\"\r\nReferer: r\r\n\r\n";
    let (head, body) = client.ask(request).await;
    let line = &log.json(1).await[0];
    assert_eq!(
        (&line["event"], &line["zone"], &line["host"]),
        (&"request".into(), &"a.test".into(), &"a.test".into())
    );
    assert_eq!((&line["client"], &line["scheme"]), (&"127.0.0.1".into(), &"http".into()));
    assert_eq!((&line["method"], &line["target"]), (&"GET".into(), &"/x?y=z".into()));
    assert_eq!((&line["status"], &line["sent_bytes"]), (&200.into(), &body.len().into()));
    assert_eq!((&line["user_agent"], &line["referer"]), (&"me \"1\"".into(), &"r".into()));
    assert_eq!(line["request_id"], header(&head, "x-request-id").expect("a name"));
    assert!(
        body.contains(&format!("x-request-id: {}\r\n", line["request_id"].as_str().expect("text"))),
        "{body}"
    );

    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;
    let open = &log.json(2).await[1];
    assert_eq!(
        (&open["event"], &open["zone"], &open["status"]),
        (&"open".into(), &"ws.test".into(), &101.into())
    );
    assert_eq!((open.get("ended_by"), open.get("received_bytes")), (None, None));
    tunnel.send("twelve bytes").await;
    tunnel.expect("twelve bytes").await;
    tunnel.half_close().await;
    tunnel.rest().await.expect("a clean end");
    let end = &log.json(3).await[2];
    assert_eq!((&end["event"], &end["ended_by"]), (&"end".into(), &"client".into()));
    assert_eq!((&end["received_bytes"], &end["sent_bytes"]), (&12.into(), &12.into()));
    assert_eq!((&end["request_id"], &end["client"]), (&open["request_id"], &open["client"]));
    assert!(end["duration_ms"].is_u64());
}

#[tokio::test]
async fn refusals_and_clients_that_leave_have_their_line() {
    let asked = Arc::new(tokio::sync::Notify::new());
    let notify = asked.clone();
    let (silent, _) = origin(move |mut raw| {
        let notify = notify.clone();
        async move {
            raw.head().await;
            notify.notify_one();
            raw.rest().await.ok();
        }
    })
    .await;
    let log = Log::new();
    let setup = Setup::new().zone("silent.test", silent).zone("dead.test", free_port());
    let setup = setup.setting(&log.setting("json"));
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let (_, body) = client.ask("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n").await;
    let line = &log.json(1).await[0];
    assert_eq!(
        (&line["status"], &line["reason"], line.get("zone")),
        (&421.into(), &"host_unknown".into(), None)
    );
    let problem: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(problem["request_id"], line["request_id"], "the client can name what it complains of");
    let (head, _) = client.ask(&upgrade_request("dead.test")).await;
    assert_eq!(status(&head), 502);
    let line = &log.json(2).await[1];
    assert_eq!((&line["status"], &line["zone"]), (&502.into(), &"dead.test".into()));
    assert_eq!(line["event"], "request", "no WebSocket opened");

    for request in ["GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n".to_owned(), upgrade_request("silent.test")]
    {
        let mut client = Raw::connect(setup.http).await;
        client.send(request).await;
        soon(asked.notified()).await;
        drop(client);
    }
    let lines = log.json(4).await;
    for line in &lines[2..] {
        assert_eq!((&line["status"], &line["zone"]), (&499.into(), &"silent.test".into()));
    }
}

#[tokio::test]
async fn hostile_text_stays_in_its_field() {
    let (origin, _) = origin(|mut raw| async move {
        raw.some().await;
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    })
    .await;
    let (json, combined) = (Log::new(), Log::new());
    for (log, format) in [(&json, "json"), (&combined, "combined")] {
        let setup = Setup::new().zone("a.test", origin).setting(&log.setting(format));
        let _proxy = setup.start();
        let mut client = Raw::connect(setup.http).await;
        let request = b"GET /%0a\"x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: a\" 200 \\\xff\x80\t1\r\n\r\n";
        client.send(request).await;
        assert_eq!(status(&client.head().await), 200);
        let line = log.lines(1).await.remove(0);
        if format == "json" {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            assert!(line["user_agent"].as_str().expect("text").starts_with("a\" 200 \\"), "{line}");
        } else {
            assert!(line.contains("\"a\\x22 200 \\x5C"), "{line}");
            assert!(line.is_ascii() && !line.contains('\t'), "{line}");
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        }
    }
}

#[tokio::test]
async fn a_reload_opens_the_file_anew_and_one_that_cannot_be_opened_changes_nothing() {
    let (origin, _) = reflect().await;
    let log = Log::new();
    let setup = Setup::new().zone("a.test", origin).setting(&log.setting("json"));
    let proxy = setup.start();
    let get = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut client = Raw::connect(setup.http).await;
    client.ask(get).await;
    log.lines(1).await;
    let rotated = log.path.with_extension("1");
    fs::rename(&log.path, &rotated).expect("renamed");
    client.ask(get).await;
    lines(&rotated, 2).await;
    proxy.reload(setup.config()).await.expect("reloaded");
    client.ask(get).await;
    log.lines(1).await;
    lines(&rotated, 2).await;

    let nowhere = Setup::new().zone("b.test", origin).setting("access_log = { to = \"/proc/none/a.log\" }");
    let error = proxy.reload(nowhere.config()).await.expect_err("no such folder").to_string();
    assert!(error.contains("/proc/none/a.log"), "{error}");
    assert_eq!(status(&client.ask(get).await.0), 200, "the zones are the old ones");
    log.lines(2).await;
    let off = Setup::new().zone("a.test", origin);
    proxy.reload(off.config()).await.expect("reloaded");
    client.ask(get).await;
    soon(proxy.drain()).await;
    log.lines(2).await;
}

#[tokio::test]
async fn a_client_cannot_name_its_request_and_a_trusted_peer_can() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: mine\r\nX_Request_Id: mine\r\n\r\n";
    let (head, body) = client.ask(request).await;
    let id = header(&head, "x-request-id").expect("a name");
    assert!(id.len() == 32 && body.contains(id) && !body.contains("mine"), "{head}{body}");
    let (again, _) = client.ask(request).await;
    assert_ne!(header(&again, "x-request-id"), Some(id));

    let setup = Setup::new().zone("a.test", origin).setting("trusted_proxies = [\"127.0.0.0/8\"]");
    let _proxy = setup.start();
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: mine-1\r\n\r\n";
    let (head, body) = Raw::connect(setup.http).await.ask(request).await;
    assert_eq!(header(&head, "x-request-id"), Some("mine-1"), "but a trusted peer can");
    assert!(body.contains("x-request-id: mine-1\r\n"), "{body}");
}

/// What of a line says who it was: the client, who was at the socket's other end, and whether the id that was sent is the request's.
fn who(line: &Value) -> (String, Option<String>, bool) {
    let text = |name: &str| line.get(name).map(|value| value.as_str().expect("text").to_owned());
    (text("client").expect("a client"), text("peer"), line["request_id"] == "sent-1")
}

#[tokio::test]
async fn the_client_is_whom_trusted_proxies_name_and_the_socket_has_a_field_of_its_own() {
    const FIELDS: &str = "X-Forwarded-For: 203.0.113.5\r\nX-Request-Id: sent-1\r\n";
    let (origin, _) = reflect().await;
    let peer = || Some("127.0.0.1".to_owned());
    // The load balancer's own network is trusted, too: what it passes on is not its own for that.
    let trusted = "trusted_proxies = [\"127.0.0.0/8\", \"192.0.2.0/24\"]";
    let v1 = |source: &str| format!("PROXY TCP4 {source} 198.51.100.1 4000 443\r\n");
    for (settings, before, expected) in [
        ("", String::new(), ("127.0.0.1".to_owned(), None, false)),
        (trusted, String::new(), ("203.0.113.5".to_owned(), peer(), true)),
        (
            "proxy_protocol_from = [\"127.0.0.0/8\"]",
            v1("198.51.100.7"),
            ("198.51.100.7".to_owned(), peer(), false),
        ),
        ("both", v1("198.51.100.7"), ("198.51.100.7".to_owned(), peer(), false)),
        ("both", v1("192.0.2.9"), ("203.0.113.5".to_owned(), peer(), true)),
        ("both", "PROXY UNKNOWN\r\n".to_owned(), ("203.0.113.5".to_owned(), peer(), true)),
    ] {
        let log = Log::new();
        let both = format!("{trusted}\nproxy_protocol_from = [\"127.0.0.0/8\"]");
        let setup = Setup::new().zone("a.test", origin).zone("ws.test", mirror().await);
        let setup =
            setup.setting(if settings == "both" { &both } else { settings }).setting(&log.setting("json"));
        let _proxy = setup.start();
        let mut client = Raw::connect(setup.http).await;
        client.send(&before).await;
        let (_, body) = client.ask(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{FIELDS}\r\n")).await;
        // The same that its origin is told.
        let told = header(&body, "x-forwarded-for").expect("a list");
        assert!(told.split(", ").any(|address| address == expected.0), "{told}");
        // An answer of weir's own, from before the zone is known.
        client.ask(&format!("GET / HTTP/1.1\r\nHost: nobody.test\r\n{FIELDS}\r\n")).await;
        let mut tunnel = Raw::connect(setup.http).await;
        tunnel.send(&before).await;
        tunnel.send(upgrade_request("ws.test").replace("\r\n\r\n", &format!("\r\n{FIELDS}\r\n"))).await;
        assert_eq!(status(&tunnel.head().await), 101);
        tunnel.half_close().await;
        tunnel.rest().await.expect("a clean end");
        for line in log.json(4).await {
            assert_eq!(who(&line), expected, "{settings} {before}: {line}");
        }
    }
}
