//! What the proxy's admin address tells, against what happened.

mod support;

use std::{collections::BTreeSet, net::SocketAddr};

use support::{
    Setup, free_port,
    origin::{mirror, origin, reflect},
    raw::{Raw, header, status, tls_config},
    soon, until,
};

/// A page of an admin address: its status and its text.
async fn page(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut client = Raw::connect(admin).await;
    let (head, body) = client.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    (status(&head), body)
}

async fn scrape(admin: SocketAddr) -> String {
    let (status, text) = page(admin, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of a series, as it is written in the text format.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

fn request(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn every_metric_of_the_proxy_is_documented_and_every_documented_one_is_served() {
    let (origin, _) = reflect().await;
    let rule = "[[firewall.rules]]\nid = \"seen\"\nwhen = \"true\"\naction = \"log\"";
    let setup = Setup::new().zone("a.test", origin).setting(rule);
    let _proxy = setup.start();
    Raw::connect(setup.http).await.ask(&request("a.test")).await;

    let reference = include_str!("../../docs/metrics.md");
    let words = reference.split('`').skip(1).step_by(2).filter(|word| word.starts_with("weir_proxy_"));
    let documented: BTreeSet<&str> = words.map(|word| word.split('{').next().unwrap_or(word)).collect();
    let text = scrape(setup.admin).await;
    let served: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .collect();
    assert_eq!(served, documented);
    let of_rule = "weir_proxy_firewall_total{zone=\"\",stage=\"custom\",rule=\"seen\",outcome=\"matched\"}";
    assert_eq!(value(&text, of_rule), Some(1.0), "{text}");

    for (list, label) in
        [("by", "weir_proxy_tunnels_ended_total"), ("kind", "weir_proxy_origin_errors_total")]
    {
        for line in text.lines().filter(|line| line.starts_with(label)) {
            let of_label = line.split(&format!("{list}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            let of_label = of_label.expect("the label");
            assert!(reference.contains(&format!("`{of_label}`")), "docs/metrics.md has no `{of_label}`");
        }
    }
}

#[tokio::test]
async fn requests_are_counted_by_zone_and_class_and_only_zones_that_were_asked_have_series() {
    let (origin, _) = reflect().await;
    let mut setup = Setup::new().zone("a.test", origin).zone("ws.test", mirror().await);
    setup = setup.zone("dead.test", free_port());
    for n in 0..500 {
        setup = setup.zone(&format!("quiet{n}.test"), origin);
    }
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    for _ in 0..3 {
        client.ask(&request("a.test")).await;
    }
    client.ask(&request("dead.test")).await;
    client.ask(&request("nobody.test")).await;
    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;
    let counters = proxy.counters().clone();
    until("the tunnel is open", || counters.tunnels_live.get() == 1).await;

    let text = scrape(setup.admin).await;
    let of = |series: &str| value(&text, series);
    assert_eq!(of("weir_proxy_requests_total{zone=\"a.test\",class=\"2xx\"}"), Some(3.0), "{text}");
    assert_eq!(of("weir_proxy_requests_total{zone=\"dead.test\",class=\"5xx\"}"), Some(1.0));
    assert_eq!(of("weir_proxy_requests_total{zone=\"\",class=\"4xx\"}"), Some(1.0));
    assert_eq!(of("weir_proxy_requests_total{zone=\"ws.test\",class=\"1xx\"}"), Some(1.0));
    assert_eq!(text.matches("\nweir_proxy_requests_total{").count(), 4, "499 quiet zones have none");
    assert_eq!(of("weir_proxy_refused_total{reason=\"host_unknown\"}"), Some(1.0));
    assert_eq!(of("weir_proxy_origin_errors_total{kind=\"unreachable\"}"), Some(1.0));
    assert_eq!((of("weir_proxy_tunnels"), of("weir_proxy_upgrade_seconds_count")), (Some(1.0), Some(1.0)));
    assert_eq!(of("weir_proxy_zones"), Some(503.0));

    // A reload that keeps a zone keeps its numbers; the series of one that it drops go.
    let setup = setup.no_zones().zone("a.test", origin);
    proxy.reload(setup.config()).await.expect("reloaded");
    let text = scrape(setup.admin).await;
    assert_eq!(value(&text, "weir_proxy_requests_total{zone=\"a.test\",class=\"2xx\"}"), Some(3.0));
    assert!(!text.contains("dead.test"), "{text}");
}

#[tokio::test]
async fn handshakes_are_timed_and_counted_by_version() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let _proxy = setup.start();
    let newest = tls_config(&setup.roots);
    let mut older = rustls::ClientConfig::builder_with_provider(newest.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates({
            let mut store = rustls::RootCertStore::empty();
            store.add(setup.roots[0].clone()).expect("a certificate");
            store
        })
        .with_no_client_auth();
    older.resumption = rustls::client::Resumption::disabled();
    for config in [newest.clone(), newest.clone(), older.into()] {
        let mut client = Raw::tls(setup.https, "a.test", config).await.expect("connected");
        client.ask(&request("a.test")).await;
    }
    Raw::tls(setup.https, "b.test", newest).await.err().expect("refused");
    let text = scrape(setup.admin).await;
    let of = |series: &str| value(&text, series);
    assert_eq!(of("weir_proxy_tls_handshakes_total{version=\"1.3\"}"), Some(2.0), "{text}");
    assert_eq!(of("weir_proxy_tls_handshakes_total{version=\"1.2\"}"), Some(1.0));
    assert_eq!(of("weir_proxy_tls_handshake_seconds_count"), Some(3.0));
    assert_eq!(of("weir_proxy_tls_handshake_seconds_bucket{le=\"+Inf\"}"), Some(3.0));
    assert!(of("weir_proxy_tls_handshake_seconds_sum").expect("a sum") > 0.0);
    assert_eq!(of("weir_proxy_tls_failed_total"), Some(1.0));
    assert_eq!(of("weir_proxy_connections_total"), Some(4.0));
}

#[tokio::test]
async fn a_tunnel_says_who_ended_it() {
    // Closes when it is told to by a first byte: b"f" cleanly, b"r" with a reset.
    let (origin, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(support::origin::SWITCH).await;
        match raw.some().await.as_deref() {
            Some(b"f") => raw.half_close().await,
            Some(b"r") => {
                let tcp = raw.into_inner();
                tcp.set_zero_linger().expect("SO_LINGER");
                return;
            }
            _ => raw.half_close().await,
        }
        raw.rest().await.ok();
    })
    .await;
    let setup = Setup::new()
        .zone("ws.test", origin)
        .setting("drain_timeout = \"1ms\"\nclose_spread = \"1ms\"\ntunnel_max_life = \"1h\"")
        .zone("brief.test", support::origin::mirror().await)
        .line("timeouts = { tunnel_max_life = \"50ms\" }");
    let log = setup.folder().join("access.log");
    let setup = setup.setting(&format!("access_log = {{ format = \"combined\", to = {log:?} }}"));
    let proxy = setup.start();
    let counters = proxy.counters().clone();
    let open = async || {
        let mut client = Raw::connect(setup.http).await;
        client.upgrade("ws.test").await;
        client
    };
    let admin = setup.admin;
    let ended = async |by: &str| {
        until(by, || counters.tunnels_live.get() == 0).await;
        value(&scrape(admin).await, &format!("weir_proxy_tunnels_ended_total{{by=\"{by}\"}}"))
    };

    let mut client = open().await;
    client.half_close().await;
    client.rest().await.expect("a clean end");
    assert_eq!(ended("client").await, Some(1.0));
    let mut client = open().await;
    client.send("f").await;
    client.rest().await.expect("a clean end");
    client.half_close().await;
    assert_eq!(ended("origin").await, Some(1.0));
    let mut client = open().await;
    client.send("r").await;
    client.rest().await.expect_err("a reset");
    assert_eq!(ended("origin_failed").await, Some(1.0));
    let client = open().await;
    client.stream().set_zero_linger().expect("SO_LINGER");
    drop(client);
    assert_eq!(ended("client_failed").await, Some(1.0));

    let mut client = Raw::connect(setup.http).await;
    client.upgrade("brief.test").await;
    client.rest().await.ok();
    assert_eq!(ended("timeout").await, Some(1.0));

    let _left = open().await;
    let still = value(&scrape(admin).await, "weir_proxy_tunnels_ended_total{by=\"drain\"}");
    assert_eq!(still, Some(0.0));
    soon(proxy.drain()).await;
    assert_eq!(counters.tunnels_ended_by("drain"), 1);

    // The same in the access log, whose combined form ends with: event, seconds, bytes from the client, who, reason.
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("all is written", || read().lines().count() >= 12).await;
    let text = read();
    let last = |line: &str| {
        let words: Vec<_> = line.rsplit(' ').take(5).map(str::to_owned).collect();
        (words[4].clone(), words[1].clone())
    };
    let (mut opened, mut by) = (0, Vec::new());
    for line in text.lines() {
        assert!(line.starts_with("127.") && line.contains(" 101 "), "{line}");
        match last(line) {
            (event, who) if event == "open" => {
                opened += 1;
                assert_eq!(who, "-", "{line}");
            }
            (event, who) => {
                assert_eq!(event, "end", "{line}");
                by.push(who);
            }
        }
    }
    assert_eq!(opened, 6);
    assert_eq!(by, ["client", "origin", "origin_failed", "client_failed", "timeout", "drain"]);
}

#[tokio::test]
async fn a_reload_and_a_failed_one_are_counted_and_the_start_was_the_first() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let text = scrape(setup.admin).await;
    let at_start = value(&text, "weir_proxy_config_last_reload_success_timestamp_seconds");
    assert!(at_start.expect("a time") > 1.7e9);
    assert_eq!(value(&text, "weir_proxy_config_reloads_total{outcome=\"success\"}"), Some(1.0));
    proxy.reload(setup.config()).await.expect("reloaded");
    proxy.reload_failed();
    let text = scrape(setup.admin).await;
    assert_eq!(value(&text, "weir_proxy_config_reloads_total{outcome=\"success\"}"), Some(2.0));
    assert_eq!(value(&text, "weir_proxy_config_reloads_total{outcome=\"failure\"}"), Some(1.0));
}

#[tokio::test]
async fn health_and_readiness_are_told_and_a_drain_is_not_ready() {
    let setup = Setup::new().zone("ws.test", mirror().await);
    let proxy = setup.start();
    let admin = setup.admin;
    assert_eq!(page(admin, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(page(admin, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(page(admin, "/nothing").await.0, 404);
    assert!(page(admin, "/").await.1.starts_with("weir proxy\n"), "`weir check` knows the proxy by it");
    let mut tunnel = Raw::connect(setup.http).await;
    tunnel.upgrade("ws.test").await;
    let drained = tokio::spawn(proxy.drain());
    let draining = async { while page(admin, "/readyz").await != (503, "draining\n".to_owned()) {} };
    soon(draining).await;
    assert_eq!(page(admin, "/healthz").await.0, 200, "it is alive");
    assert_eq!(value(&scrape(admin).await, "weir_proxy_draining"), Some(1.0));
    drop(tunnel);
    soon(drained).await.expect("joined");
}

#[tokio::test]
async fn a_proxy_whose_admin_address_is_taken_serves_and_gets_it_when_it_is_free() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let held = std::net::TcpListener::bind(setup.admin).expect("bound");
    let _proxy = setup.start();
    let (head, _) = Raw::connect(setup.http).await.ask(&request("a.test")).await;
    assert_eq!((status(&head), header(&head, "connection")), (200, None));
    drop(held);
    let answered = async {
        while tokio::net::TcpStream::connect(setup.admin).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon(answered).await;
    assert_eq!(page(setup.admin, "/healthz").await.0, 200);
}
