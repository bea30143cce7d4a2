//! What the firewall writes into the process' own log. Alone in its process: the log is the process' own.

mod support;

use support::{
    Setup,
    log::Captured,
    origin::mirror,
    raw::{Raw, status},
};

#[tokio::test]
async fn the_log_names_rules_and_requests_and_no_client() {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let managed = if cfg!(feature = "modsecurity") {
        "firewall.managed = { rules = [\"/etc/modsecurity/crs/crs-setup.conf\", \"/usr/share/modsecurity-crs/rules/*.conf\"], mode = \"block\" }"
    } else {
        ""
    };
    let setup = Setup::new()
        .setting("trusted_proxies = [\"127.0.0.0/8\"]")
        .zone("a.example", mirror().await)
        .zone_lines("firewall.rules = [{ id = \"seen\", when = 'path == \"/chat\"', action = \"log\" }]")
        .zone_lines(managed);
    let _proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let upgrade = "GET /chat?id=1%27%20UNION%20SELECT%20password%20FROM%20users-- HTTP/1.1\r\nHost: a.example\r\n\
                   Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\nUser-Agent: secret-agent\r\nX-Forwarded-For: 203.0.113.77\r\n\
                   X-Request-Id: my-id-1\r\n\r\n";
    client.send(upgrade).await;
    let expected = if cfg!(feature = "modsecurity") { 403 } else { 101 };
    assert_eq!(status(&client.head().await), expected);

    let log = captured.text();
    let line =
        |part: &str| log.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {log}"));
    let seen = line("a rule of the firewall matched");
    for part in [" INFO ", "rule=seen", "zone=\"a.example\"", "method=GET", "path=\"/chat\""] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    if cfg!(feature = "modsecurity") {
        let refused = line("managed rules refused a request");
        for part in [" INFO ", "zone=\"a.example\"", "request=\"my-id-1\"", "942100", "verdict=949110"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
    for private in ["203.0.113.77", "UNION", "secret-agent"] {
        assert!(!log.contains(private), "{private}: {log}");
    }
}
