//! The firewall on the way of real requests: who is refused, with which answer, and what is never looked at.

mod support;

use std::{fs, sync::atomic::Ordering::Relaxed};

use futures_util::{SinkExt, StreamExt};
use support::{
    Setup,
    http2::Client,
    mmdb::database,
    origin::{echo, mirror, reflect},
    raw::{Raw, header, status, tls_config, upgrade_request},
    soon,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};
use weir_proxy::Running;

/// What a rule has done.
fn count(proxy: &Running, zone: Option<&str>, rule: &str, outcome: &str) -> u64 {
    let counts = proxy.rule_counts();
    let found = counts.iter().find(|count| {
        count.zone.as_ref().map(|zone| zone.as_str()) == zone
            && count.rule.as_str() == rule
            && count.outcome == outcome
    });
    found.unwrap_or_else(|| panic!("no {rule} {outcome} in {counts:?}")).n
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn a_denied_network_is_refused_before_the_origin_hears_of_it() {
    let (origin, connections) = reflect().await;
    let setup = Setup::new()
        .zone("a.test", origin)
        .zone_lines("[[zones.firewall.access]]\nid = \"none\"\naction = \"deny\"\nnetworks = [\"127.0.0.0/8\", \"::1\"]")
        .zone("b.test", origin);
    let proxy = setup.start();

    for request in [upgrade_request("a.test"), get("a.test", "/")] {
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&request).await;
        assert_eq!((status(&head), header(&head, "content-type")), (403, Some("application/problem+json")));
        let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&problem["reason"], &problem["rule"]), (&"firewall_denied".into(), &"none".into()));
        assert!(!body.contains("127.0.0.0"), "the condition is nobody's business: {body}");
    }
    assert_eq!(connections.load(Relaxed), 0);
    let (head, _) = Raw::connect(setup.http).await.ask(&get("b.test", "/")).await;
    assert_eq!(status(&head), 200);
    assert_eq!(count(&proxy, Some("a.test"), "none", "blocked"), 2);
    assert_eq!(proxy.counters().refused_for("firewall_denied"), 2);
}

#[tokio::test]
async fn the_host_is_asked_before_the_zone_and_an_allow_only_ends_its_own_list() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .setting("[[firewall.access]]\nid = \"friends\"\naction = \"allow\"\nnetworks = [\"127.0.0.0/8\"]")
        .setting("[[firewall.access]]\nid = \"rest\"\naction = \"deny\"\nnetworks = [\"0.0.0.0/0\", \"::/0\"]")
        .zone("a.test", origin)
        .zone_lines("[zones.firewall]\naccess = [{ id = \"own\", action = \"deny\", networks = [\"127.0.0.0/8\"] }]")
        .zone("b.test", origin)
        .zone_lines("firewall.rules = [{ id = \"own\", when = 'path == \"/x\"', action = \"block\", status = 418, body = \"no tea\" }]");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let (head, body) = client.ask(&get("b.test", "/x")).await;
    assert_eq!(
        (status(&head), body.as_str(), header(&head, "content-type")),
        (418, "no tea", Some("text/plain; charset=utf-8"))
    );
    let (head, _) = client.ask(&get("b.test", "/y")).await;
    assert_eq!(status(&head), 200, "a block of a rule leaves the connection open");
    let (head, _) = client.ask(&get("a.test", "/")).await;
    assert_eq!(status(&head), 403);
    assert_eq!(count(&proxy, None, "friends", "matched"), 3);
    assert_eq!(count(&proxy, None, "rest", "matched"), 0);
    assert_eq!(count(&proxy, Some("a.test"), "own", "blocked"), 1);
    assert_eq!(count(&proxy, Some("b.test"), "own", "blocked"), 1);
}

#[tokio::test]
async fn a_rule_tells_upgrades_from_plain_requests_and_tls_from_cleartext() {
    let origin = mirror().await;
    let setup = Setup::new().tls_zone("a.test", origin).zone_lines(
        "[[zones.firewall.rules]]\nid = \"tls-only\"\nwhen = 'websocket && tls_version != \"1.3\"'\naction = \"block\"\n\
         [[zones.firewall.rules]]\nid = \"sni\"\nwhen = 'tls_version != \"\" && (sni != \"a.test\" || http_version != \"1.1\")'\naction = \"block\"",
    );
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    client.send(upgrade_request("a.test")).await;
    assert_eq!(status(&client.head().await), 403);
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("a handshake");
    client.upgrade("a.test").await;
    assert_eq!(count(&proxy, Some("a.test"), "tls-only", "blocked"), 1);
}

#[tokio::test]
async fn a_limit_answers_429_and_says_when_to_come_back() {
    let (origin, connections) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).zone_lines(
        "[[zones.firewall.limits]]\nid = \"slow\"\nrate = \"2/1h\"\nkey = [\"client\", \"header:X-Key\"]\n\
         [[zones.firewall.limits]]\nid = \"watched\"\nrate = \"1/1h\"\nkey = [\"zone\"]\ndry_run = true",
    );
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let ask = |key: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Key: {key}\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(status(&client.ask(&ask("1")).await.0), 200);
    }
    let (head, body) = client.ask(&ask("1")).await;
    assert_eq!(status(&head), 429, "{head}");
    assert_eq!(header(&head, "ratelimit-policy"), Some("\"slow\";q=2;w=3600"));
    let wait: u64 = header(&head, "retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=1800).contains(&wait), "{wait}");
    assert_eq!(header(&head, "ratelimit"), Some(format!("\"slow\";r=0;t={wait}").as_str()));
    let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&problem["reason"], &problem["rule"]), (&"rate_limited".into(), &"slow".into()));

    assert_eq!(status(&client.ask(&ask("2")).await.0), 200, "another key has a rate of its own");
    assert_eq!(connections.load(Relaxed), 1);
    assert_eq!(count(&proxy, Some("a.test"), "slow", "blocked"), 1);
    assert_eq!(count(&proxy, Some("a.test"), "watched", "blocked"), 0);
    assert_eq!(count(&proxy, Some("a.test"), "watched", "dry_run"), 2);

    // The same limit goes on through a reload, a changed one begins anew; counts stay either way.
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&client.ask(&ask("1")).await.0), 429);
    let setup = setup.no_zones().zone("a.test", origin).zone_lines(
        "[[zones.firewall.limits]]\nid = \"slow\"\nrate = \"3/1h\"\nkey = [\"client\", \"header:X-Key\"]",
    );
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&client.ask(&ask("1")).await.0), 200);
    assert_eq!(count(&proxy, Some("a.test"), "slow", "blocked"), 2);
}

#[tokio::test]
async fn a_list_in_a_file_is_read_again_with_the_configuration() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .setting("[[firewall.access]]\nid = \"bad\"\naction = \"deny\"\nfile = \"bad.txt\"")
        .zone("a.test", origin);
    let list = setup.folder().join("bad.txt");
    fs::write(&list, "# none yet\n").expect("written");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    assert_eq!(status(&client.ask(&get("a.test", "/")).await.0), 200);
    fs::write(&list, "192.0.2.0/24\n127.0.0.0/8 ; us\n").expect("written");
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&client.ask(&get("a.test", "/")).await.0), 403);
    assert!(setup.config().sources.contains(&list), "a change of the list is a change of the configuration");
}

/// What every rule of the test below refuses.
const POISON: &str =
    "/poison?id=1' UNION SELECT password FROM users--&x=<script>alert(1)</script>&f=../../etc/passwd";

#[tokio::test]
async fn after_the_101_nothing_is_looked_at() {
    let origin = echo().await;
    let setup = Setup::new()
        .setting("[[firewall.access]]\nid = \"bad\"\naction = \"deny\"\nnetworks = [\"192.0.2.0/24\"]")
        .zone("a.test", origin)
        .zone_lines(
            "[[zones.firewall.rules]]\nid = \"poison\"\nwhen = 'path.contains(\"poison\") || decode(query).matches(\"(?i)union.*select|<script|passwd\")'\naction = \"block\"\n\
             [[zones.firewall.limits]]\nid = \"two\"\nrate = \"2/1h\"",
        );
    let proxy = setup.start();
    let stream = TcpStream::connect(setup.http).await.expect("connected");
    let (mut socket, _) = soon(client_async("ws://a.test/chat", stream)).await.expect("upgraded");

    let mut client = Raw::connect(setup.http).await;
    let path = POISON.replace(' ', "%20").replace('<', "%3C").replace('>', "%3E");
    assert_eq!(status(&client.ask(&get("a.test", &path)).await.0), 403, "what is sent is poison indeed");
    let before = proxy.rule_counts();

    // More messages than the limit lets requests pass, each with what the rules block and with a whole request.
    let requests =
        [POISON.to_owned(), upgrade_request("a.test"), format!("X-Forwarded-For: 192.0.2.1\r\n{POISON}")];
    for message in requests.iter().cycle().take(9) {
        soon(socket.send(Message::text(message.clone()))).await.expect("sent");
        assert_eq!(
            soon(socket.next()).await.expect("an answer").expect("a message"),
            Message::text(message.clone())
        );
    }
    assert_eq!(proxy.rule_counts(), before, "no rule was asked");
}

#[tokio::test]
async fn a_rule_knows_the_country_of_the_database() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .setting("[firewall]\ngeoip = \"countries.mmdb\"")
        .setting("rules = [{ id = \"home\", when = 'country != \"AT\"', action = \"block\" }]")
        .zone("a.test", origin);
    let path = setup.folder().join("countries.mmdb");
    fs::write(&path, database(&[("127.0.0.0", 8, "AT")])).expect("written");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    assert_eq!(status(&client.ask(&get("a.test", "/")).await.0), 200);

    fs::write(&path, database(&[("127.0.0.0", 8, "CH")])).expect("written");
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&client.ask(&get("a.test", "/")).await.0), 403);

    fs::write(&path, "no database").expect("written");
    let error = proxy.reload(setup.config()).await.expect_err("a fault").to_string();
    assert!(error.contains("countries.mmdb is no MaxMind database"), "{error}");
    assert_eq!(status(&client.ask(&get("a.test", "/")).await.0), 403, "what ran goes on");
}

#[tokio::test]
async fn a_rule_of_an_access_list_that_runs_dry_neither_allows_nor_refuses() {
    let (origin, _) = reflect().await;
    let rule = |id: &str, action: &str, dry_run: bool| {
        format!(
            "[[firewall.access]]\nid = \"{id}\"\naction = \"{action}\"\nnetworks = [\"127.0.0.0/8\"]\ndry_run = {dry_run}"
        )
    };
    let setup = Setup::new()
        .setting(&rule("no", "deny", true))
        .setting(&rule("yes", "allow", true))
        .setting(&rule("end", "deny", false))
        .zone("a.test", origin);
    let proxy = setup.start();
    let (head, body) = Raw::connect(setup.http).await.ask(&get("a.test", "/")).await;
    assert_eq!(status(&head), 403);
    assert!(body.contains("\"rule\":\"end\""), "{body}");
    for (id, outcomes) in [("no", [1, 0, 1]), ("yes", [1, 0, 1]), ("end", [1, 1, 0])] {
        let counted = ["matched", "blocked", "dry_run"].map(|outcome| count(&proxy, None, id, outcome));
        assert_eq!(counted, outcomes, "{id}");
    }
}

#[tokio::test]
async fn rules_hold_over_http2_where_a_websocket_is_a_get_as_well() {
    let setup = Setup::new()
        .tls_zone("a.test", mirror().await)
        .zone_lines(
            "[[zones.firewall.rules]]\nid = \"method\"\nwhen = 'websocket && method != \"GET\"'\naction = \"block\"\n\
             [[zones.firewall.rules]]\nid = \"path\"\nwhen = 'http_version == \"2\" && websocket && path == \"/admin\"'\naction = \"block\"\nstatus = 451\n\
             [[zones.firewall.limits]]\nid = \"two\"\nrate = \"2/1h\"\nkey = [\"path\"]",
        );
    let proxy = setup.start();
    let mut client = Client::tls(&setup, "a.test").await;
    let mut open = client.open("https://a.test/chat").await;
    let mut blocked = client.connect("https://a.test/%61dmin", &[]).await.expect("an answer");
    assert_eq!(blocked.head.status(), 451);
    assert!(blocked.text().await.contains("\"rule\":\"path\""));
    client.open("https://a.test/chat").await;
    let limited = client.connect("https://a.test/chat", &[]).await.expect("an answer");
    assert_eq!(limited.head.status(), 429);
    assert!(limited.head.headers().contains_key("retry-after"));
    open.say("still here");
    open.expect(b"still here").await;
    assert_eq!(count(&proxy, Some("a.test"), "path", "blocked"), 1);
    assert_eq!(count(&proxy, Some("a.test"), "two", "blocked"), 1);
    assert_eq!(count(&proxy, Some("a.test"), "method", "matched"), 0);
}

/// A weir without libmodsecurity says so, and does not serve with less than what was asked for.
#[cfg(not(feature = "modsecurity"))]
#[tokio::test]
async fn managed_rules_are_refused_by_a_build_without_them() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let proxy = setup.start();
    let setup = setup.zone_lines("firewall.managed = { rules = [\"own.conf\"], mode = \"detect\" }");
    fs::write(setup.folder().join("own.conf"), "").expect("written");
    let error = proxy.reload(setup.config()).await.expect_err("a fault").to_string();
    assert!(error.starts_with("zone a.test: managed rules are configured, and"), "{error}");
    assert!(error.contains("--features modsecurity"), "{error}");
    let off = setup.no_zones().zone("a.test", origin);
    let off = off.zone_lines("firewall.managed = { rules = [\"own.conf\"], mode = \"off\" }");
    proxy.reload(off.config()).await.expect("nothing is asked for");
}
