//! Managed rules with the real library and the real OWASP Core Rule Set, as Debian has them: what is stopped, what is not, and
//! what it costs to find out.
#![cfg(feature = "modsecurity")]

mod support;

use std::{fs, path::Path, sync::atomic::Ordering::Relaxed};

use futures_util::{SinkExt, StreamExt};
use http::Request;
use support::{
    Setup,
    http2::Client,
    origin::{echo, mirror, reflect},
    raw::{Raw, header, status},
    soon,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message};
use weir_proxy::Running;

/// What Debian's package `modsecurity-crs` has.
const CORE_RULE_SET: &str =
    "rules = [\"/etc/modsecurity/crs/crs-setup.conf\", \"/usr/share/modsecurity-crs/rules/*.conf\"]";

fn managed(more: &str) -> String {
    format!("[firewall.managed]\n{CORE_RULE_SET}\n{more}")
}

fn count(proxy: &Running, zone: &str, outcome: &str) -> u64 {
    let counts = proxy.rule_counts();
    let of_zone = counts.iter().filter(|count| {
        count.zone.as_ref().is_some_and(|name| name.as_str() == zone) && count.stage.label() == "managed"
    });
    of_zone.filter(|count| count.outcome == outcome).map(|count| count.n).sum()
}

fn matches(proxy: &Running, rule: &str) -> u64 {
    proxy.managed_matches().into_iter().filter(|(name, _)| name == rule).map(|(_, count)| count).sum()
}

/// An upgrade with these fields besides those of the handshake.
fn upgrade(target: &str, host: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

/// Queries of attacks, encoded as clients have to, and a rule each that has to see it.
const ATTACKS: [(&str, &str); 5] = [
    ("/chat?id=1%27%20UNION%20SELECT%20password%20FROM%20users--", "942100"),
    ("/chat?id=1%27+or+%271%27%3D%271", "942100"),
    ("/chat?name=%3Cscript%3Ealert(1)%3C/script%3E", "941100"),
    ("/chat?name=%3Cimg%20src%3Dx%20onerror%3Dalert(document.cookie)%3E", "941100"),
    ("/chat?file=../../../../etc/passwd", "930120"),
];

/// The heads of upgrades as browsers and libraries send them.
const ORDINARY: [(&str, &str, &str); 7] = [
    (
        "chromium",
        "/socket?token=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "Pragma: no-cache\r\nCache-Control: no-cache\r\n\
         User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
         Origin: https://app.example.com\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: de-AT,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n\
         Cookie: _ga=GA1.2.1234567890.1234567890; session=s%3AZ1x8Yw.7f2c; theme=dark; csrftoken=Vb9pAqyT0w3M\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    ),
    (
        "firefox",
        "/socket.io/?EIO=4&transport=websocket&sid=lv_VI97HAXpY6yYWAAAC",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: */*\r\n\
         Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nOrigin: https://app.example.com\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\nDNT: 1\r\nSec-GPC: 1\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: websocket\r\n\
         Sec-Fetch-Site: same-site\r\nPragma: no-cache\r\nCache-Control: no-cache\r\nCookie: io=abc; lang=en\r\n",
    ),
    (
        "safari",
        "/cable",
        "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15\r\n\
         Accept: */*\r\nOrigin: https://app.example.com\r\nSec-WebSocket-Protocol: actioncable-v1-json, actioncable-unsupported\r\n\
         Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
    ),
    (
        "python websockets",
        "/",
        "User-Agent: Python/3.11 websockets/16.0\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    ),
    ("tungstenite", "/?room=42", ""),
    (
        "a service with a bearer token",
        "/v1/stream?topics=orders,trades&since=2026-11-27T18:00:00Z",
        "User-Agent: Go-http-client/1.1\r\nAuthorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzY29wZSI6InJlYWQ6YWxsIn0.c2lnbmF0dXJl\r\n\
         X-Trace-Id: 4bf92f3577b34da6a3ce929d0e0e4736\r\n",
    ),
    (
        "graphql",
        "/graphql",
        "User-Agent: node\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\nOrigin: https://app.example.com\r\n",
    ),
];

#[tokio::test]
async fn attacks_in_an_upgrade_are_stopped_or_only_counted_as_the_zone_says() {
    let (blocked, connections) = reflect().await;
    let watched = mirror().await;
    let setup = Setup::new()
        .zone("block.example", blocked)
        .zone("detect.example", watched)
        .zone_lines("firewall.managed = { mode = \"detect\" }")
        .zone("off.example", watched)
        .zone_lines("firewall.managed = { mode = \"off\" }")
        .setting(&managed("mode = \"block\""));
    let proxy = setup.start();
    for (n, (target, rule)) in (1..).zip(ATTACKS) {
        let before = matches(&proxy, rule);
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&upgrade(target, "block.example", "User-Agent: x\r\n")).await;
        assert_eq!(status(&head), 403, "{target}");
        let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&problem["reason"], &problem["rule"]), (&"firewall_managed".into(), &"managed".into()));
        assert!(
            !body.contains(rule) && !body.contains("949110"),
            "which rule it was is told in the log and not to the client: {body}"
        );
        assert_eq!(count(&proxy, "block.example", "blocked"), n);
        assert!(matches(&proxy, rule) > before, "{rule} saw {target}: {:?}", proxy.managed_matches());

        let mut client = Raw::connect(setup.http).await;
        client.send(upgrade(target, "detect.example", "User-Agent: x\r\n")).await;
        assert_eq!(status(&client.head().await), 101, "{target}");
        assert_eq!(count(&proxy, "detect.example", "dry_run"), n);

        let mut client = Raw::connect(setup.http).await;
        client.send(upgrade(target, "off.example", "User-Agent: x\r\n")).await;
        assert_eq!(status(&client.head().await), 101, "{target}");
    }
    assert_eq!(connections.load(Relaxed), 0, "no origin heard of it");
    let attacks = ATTACKS.len() as u64;
    assert_eq!(count(&proxy, "block.example", "matched"), attacks);
    assert_eq!(count(&proxy, "detect.example", "matched"), attacks);
    assert_eq!(count(&proxy, "detect.example", "blocked"), 0);
    assert_eq!(count(&proxy, "off.example", "matched"), 0);
    assert_eq!(proxy.counters().refused_for("firewall_managed"), attacks);
}

#[tokio::test]
async fn ordinary_upgrades_of_browsers_and_libraries_pass() {
    let origin = mirror().await;
    let setup = Setup::new().tls_zone("app.example", origin).setting(&managed("mode = \"block\""));
    let proxy = setup.start();
    for (who, target, fields) in ORDINARY {
        let mut client = Raw::connect(setup.http).await;
        client.send(upgrade(target, "app.example", fields)).await;
        let head = client.head().await;
        assert_eq!(status(&head), 101, "{who}: {head} {:?}", proxy.managed_matches());
    }
    let mut client = Client::tls(&setup, "app.example").await;
    for (who, target, fields) in ORDINARY {
        let fields: Vec<_> = fields
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            // Of HTTP/1.1's handshake.
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let answer =
            client.connect(&format!("https://app.example{target}"), &fields).await.expect("an answer");
        assert_eq!(answer.head.status(), 200, "{who}: {:?}", proxy.managed_matches());
    }
    assert_eq!(count(&proxy, "app.example", "matched"), 0);
}

#[tokio::test]
async fn attacks_over_http2_are_stopped_and_the_connection_goes_on() {
    let setup = Setup::new().tls_zone("app.example", mirror().await).setting(&managed("mode = \"block\""));
    let proxy = setup.start();
    let mut client = Client::tls(&setup, "app.example").await;
    for (n, (target, rule)) in (1..).zip(ATTACKS) {
        let url = format!("https://app.example{target}");
        let mut answer = client.connect(&url, &[("user-agent", "x")]).await.expect("an answer");
        assert_eq!(answer.head.status(), 403, "{target}");
        assert!(answer.text().await.contains("\"firewall_managed\""));
        assert_eq!(count(&proxy, "app.example", "blocked"), n);
        assert!(matches(&proxy, rule) > 0, "{rule}: {:?}", proxy.managed_matches());
    }
    // Cookies may come in several fields: what is split over two is one.
    let parts = [("cookie", "a=1' UNION SELECT"), ("cookie", "b=2"), ("user-agent", "x")];
    let answer = client.connect("https://app.example/", &parts).await.expect("an answer");
    assert_eq!(answer.head.status(), 403);
    let mut answer = client.open("https://app.example/chat").await;
    answer.say("hello");
    answer.expect(b"hello").await;
}

#[tokio::test]
async fn plain_requests_are_inspected_without_their_content() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("app.example", origin).setting(&managed("mode = \"block\""));
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let fields = "Host: app.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n";
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    assert_eq!(status(&client.ask(&get("/a?x=1")).await.0), 200);
    assert_eq!(status(&client.ask(&get(ATTACKS[0].0)).await.0), 403);
    for kind in ["application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x"] {
        let content = "id=1' UNION SELECT password FROM users--";
        let length = content.len();
        let post = format!(
            "POST /form HTTP/1.1\r\n{fields}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{content}"
        );
        let (head, body) = client.ask(&post).await;
        assert_eq!(status(&head), 200, "{kind}: {:?}", proxy.managed_matches());
        assert!(body.ends_with(content));
    }
    let mut client = Client::tls(&setup, "app.example").await;
    let request = |target: &str| {
        Request::get(format!("https://app.example{target}")).header("user-agent", "x").header("accept", "*/*")
    };
    assert_eq!(client.ask(request("/a").body(()).expect("a request")).await.0.status(), 200);
    assert_eq!(client.ask(request(ATTACKS[2].0).body(()).expect("a request")).await.0.status(), 403);
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[tokio::test]
async fn a_reload_reads_rules_that_have_changed_and_a_fault_changes_nothing() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .zone("a.test", origin)
        .zone_lines("[zones.firewall.managed]\nrules = [\"own.conf\"]\nmode = \"block\"");
    let file = setup.folder().join("own.conf");
    write(&file, "SecRule ARGS:x \"@pmFromFile words.data\" \"id:1,phase:1,deny,status:418\"\n");
    write(&setup.folder().join("words.data"), "first\n");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.http).await;
    let get = |word: &str| format!("GET /?x={word} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(status(&client.ask(&get("first")).await.0), 418, "the rule's own status");
    assert_eq!(status(&client.ask(&get("second")).await.0), 200);
    assert!(setup.config().sources.contains(&setup.folder().join("words.data")), "its changes are seen");

    write(&setup.folder().join("words.data"), "second\n");
    proxy.reload(setup.config()).await.expect("reloaded");
    assert_eq!(status(&client.ask(&get("first")).await.0), 200);
    assert_eq!(status(&client.ask(&get("second")).await.0), 418);
    assert_eq!(count(&proxy, "a.test", "blocked"), 2, "counts go on");

    write(&file, "# nothing\nSecRule ARGS:x \"@rx a\" \"id:1,phase:1,frobnicate\"\n");
    let error = proxy.reload(setup.config()).await.expect_err("a fault").to_string();
    assert!(error.starts_with(&format!("zone a.test: managed rules: {}:2:", file.display())), "{error}");
    assert_eq!(status(&client.ask(&get("second")).await.0), 418, "what ran goes on");
    write(&file, "SecRule ARGS:x \"@streq third\" \"id:1,phase:1,redirect:http://b.test/\"\n");
    proxy.reload(setup.config()).await.expect("reloaded");
    let (head, _) = client.ask(&get("third")).await;
    assert_eq!((status(&head), header(&head, "location")), (403, None), "weir does not redirect");
}

#[tokio::test]
async fn zones_of_one_list_share_what_was_compiled() {
    let (origin, _) = reflect().await;
    let mut setup = Setup::new();
    for n in 0..2_000 {
        setup = setup.zone(&format!("z{n}.test"), origin);
        // The zone's own list, which is another's too, or the host's.
        setup = setup.zone_lines(&match n % 2 {
            0 => "firewall.managed = { mode = \"block\" }".to_owned(),
            _ => format!("firewall.managed = {{ mode = \"detect\", {CORE_RULE_SET} }}"),
        });
    }
    let setup = setup.setting(&managed(""));
    // Compiled for each it would be 36 GiB and minutes.
    let proxy = setup.start();
    proxy.reload(setup.config()).await.expect("reloaded");
    let mut client = Raw::connect(setup.http).await;
    let get = |host: &str| {
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n", ATTACKS[0].0)
    };
    assert_eq!(status(&client.ask(&get("z1998.test")).await.0), 403);
    assert_eq!(status(&client.ask(&get("z1999.test")).await.0), 200);
}

/// A rule that takes its time: as many tries as a pattern may make, several times over.
const SLOW: &str = "SecPcreMatchLimit 3000000\nSecRule ARGS:x \"@rx ^(?:a|aa|aaa)+(?:b|c)$\" \"id:1,phase:1,deny\"\n\
                    SecRule ARGS:y \"@streq bad\" \"id:2,phase:1,deny\"\n";

#[tokio::test]
async fn a_request_that_cannot_be_inspected_in_time_is_refused_or_passes_as_configured() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .zone("refuse.test", origin)
        .zone("pass.test", origin)
        .zone_lines("firewall.managed = { uninspected = \"pass\" }")
        .zone("detect.test", origin)
        .zone_lines("firewall.managed = { mode = \"detect\" }")
        .setting(
            "[firewall.managed]\nrules = [\"slow.conf\"]\nmode = \"block\"\nthreads = 1\nmax_wait = \"1ms\"",
        );
    write(&setup.folder().join("slow.conf"), SLOW);
    let proxy = setup.start();
    let get = |host: &str, query: &str| format!("GET /?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let slow: String = (0..6).map(|_| format!("x={}&", "a".repeat(2_000))).collect();
    let mut hogs = Vec::new();
    // Until each zone has met a thread that was busy with one of them.
    let crowded = |zone| count(&proxy, zone, "crowded");
    let mut rounds = 0;
    while ["refuse.test", "pass.test", "detect.test"].into_iter().any(|zone| crowded(zone) == 0) {
        rounds += 1;
        assert!(rounds < 200, "the thread is never busy");
        let mut hog = Raw::connect(setup.http).await;
        hog.send(get("pass.test", &slow)).await;
        hogs.push(hog);
        let mut client = Raw::connect(setup.http).await;
        let before = crowded("refuse.test");
        let (head, body) = client.ask(&get("refuse.test", "y=good")).await;
        if crowded("refuse.test") > before {
            assert_eq!(status(&head), 503);
            assert!(
                header(&head, "retry-after").is_some() && body.contains("\"firewall_busy\""),
                "{head}{body}"
            );
        } else {
            assert_eq!(status(&head), 200);
        }
        for host in ["pass.test", "detect.test"] {
            let (head, _) = Raw::connect(setup.http).await.ask(&get(host, "y=good")).await;
            assert_eq!(status(&head), 200, "{host}");
        }
    }
    drop(hogs);
    // When the thread is free again everything is as before.
    let asked_again = async {
        while count(&proxy, "refuse.test", "blocked") == 0 {
            let (head, _) = Raw::connect(setup.http).await.ask(&get("refuse.test", "y=bad")).await;
            assert!([403, 503].contains(&status(&head)), "{head}");
        }
    };
    soon(asked_again).await;
    soon(proxy.drain()).await;
}

/// What a rule of a stage has done.
fn of_rule(proxy: &Running, stage: &str, outcome: &str) -> u64 {
    let counts = proxy.rule_counts();
    let of_stage = counts.iter().filter(|count| count.stage.label() == stage && count.outcome == outcome);
    of_stage.map(|count| count.n).sum()
}

const STAGES: [&str; 4] = ["access", "custom", "limit", "managed"];

/// A zone with one rule of each stage, those before `first` only counting.
fn one_of_each(first: usize, origin: std::net::SocketAddr, setup: Setup) -> Setup {
    let dry = |stage: usize| stage < first;
    let mode = if dry(3) { "detect" } else { "block" };
    setup
        .no_zones()
        .tls_zone("a.example", origin)
        .zone_lines(&format!(
            "[[zones.firewall.access]]\nid = \"a\"\naction = \"deny\"\nnetworks = [\"192.0.2.0/24\"]\ndry_run = {}\n\
             [[zones.firewall.rules]]\nid = \"c\"\nwhen = 'decode(query).contains(\"UNION\")'\naction = \"block\"\ndry_run = {}\n\
             [[zones.firewall.limits]]\nid = \"l\"\nrate = \"1/1h\"\nkey = [\"header:user-agent\"]\ndry_run = {}\n\
             [zones.firewall.managed]\n{CORE_RULE_SET}\nmode = \"{mode}\"",
            dry(0),
            dry(1),
            dry(2),
        ))
}

/// The fields of a client whom each stage but the custom and the managed rules, which see the target, has something against.
const DENIED: [(&str, &str); 2] = [("x-forwarded-for", "192.0.2.1"), ("user-agent", "the same")];

#[tokio::test]
async fn stages_are_asked_in_their_order_and_the_first_that_refuses_is_the_one() {
    let origin = mirror().await;
    let trusting = Setup::new().setting("trusted_proxies = [\"127.0.0.0/8\"]");
    let mut setup = one_of_each(0, origin, trusting);
    let proxy = setup.start();
    let fields: String = DENIED.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let target = ATTACKS[0].0;
    // The rate's one request; nothing is against it otherwise.
    let mut client = Raw::connect(setup.http).await;
    client.send(upgrade("/chat", "a.example", "user-agent: the same\r\n")).await;
    assert_eq!(status(&client.head().await), 101);

    let reasons = ["firewall_denied", "firewall_rule", "rate_limited", "firewall_managed"];
    let rules = ["a", "c", "l", "managed"];
    for first in 0..=4 {
        setup = one_of_each(first, origin, setup);
        proxy.reload(setup.config()).await.expect("reloaded");
        let before = STAGES
            .map(|stage| ["matched", "blocked", "dry_run"].map(|outcome| of_rule(&proxy, stage, outcome)));
        // Once over HTTP/1.1, once over HTTP/2.
        let mut client = Raw::connect(setup.http).await;
        client.send(upgrade(target, "a.example", &fields)).await;
        let head = client.head().await;
        let mut http2 = Client::tls(&setup, "a.example").await;
        let mut answer =
            http2.connect(&format!("https://a.example{target}"), &DENIED).await.expect("an answer");
        if first < 4 {
            for body in [client.body_of(&head).await, answer.text().await] {
                let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                assert_eq!(
                    (&problem["reason"], &problem["rule"]),
                    (&reasons[first].into(), &rules[first].into())
                );
            }
        } else {
            assert_eq!((status(&head), answer.head.status().as_u16()), (101, 200), "all of them only count");
        }
        for (stage, name) in STAGES.into_iter().enumerate() {
            let now = ["matched", "blocked", "dry_run"].map(|outcome| of_rule(&proxy, name, outcome));
            let since: Vec<_> = now.iter().zip(before[stage]).map(|(now, before)| now - before).collect();
            let expected = match stage.cmp(&first) {
                std::cmp::Ordering::Less => [2, 0, 2],
                std::cmp::Ordering::Equal => [2, 2, 0],
                std::cmp::Ordering::Greater => [0, 0, 0],
            };
            assert_eq!(since, expected, "{name}, with {first} stages that only count");
        }
    }
}

/// A frame of a client, or of a server.
fn frame(text: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    let mut frame = vec![0x81, 126 | mask.map_or(0, |_| 0x80), length[0], length[1]];
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    let key = mask.unwrap_or_default();
    frame.extend(text.bytes().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

#[tokio::test]
async fn after_the_101_none_of_the_four_stages_looks_at_a_byte() {
    let setup = Setup::new().setting("trusted_proxies = [\"127.0.0.0/8\"]");
    let setup = one_of_each(0, echo().await, setup);
    let proxy = setup.start();
    let stream = TcpStream::connect(setup.http).await.expect("connected");
    let (mut socket, _) = soon(client_async("ws://a.example/chat", stream)).await.expect("upgraded");
    let mut http2 = Client::tls(&setup, "a.example").await;
    let answer = http2.connect("https://a.example/chat", &[("user-agent", "another")]).await;
    let mut stream = answer.expect("an answer");
    assert_eq!(stream.head.status(), 200);

    // Each stage refuses a request of this content, asked one by one.
    let fields = |pairs: &[(&str, &str)]| -> String {
        pairs.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    };
    let poison =
        ["id=1%27%20UNION%20SELECT%20password%20FROM%20users--", "q=%3Cscript%3Ealert(1)%3C/script%3E"];
    let hostile = [
        upgrade("/", "a.example", &fields(&DENIED[..1])),
        upgrade(&format!("/?{}", poison[0]), "a.example", "user-agent: x\r\n"),
        upgrade("/", "a.example", "user-agent: another\r\n"),
        upgrade(&format!("/?{}", poison[1]), "a.example", "user-agent: y\r\n"),
    ];
    for (request, stage) in hostile.iter().zip(STAGES) {
        let (head, body) = Raw::connect(setup.http).await.ask(request).await;
        assert!([403, 429].contains(&status(&head)), "{stage}: {head}{body}");
        assert_eq!(of_rule(&proxy, stage, "blocked"), 1, "{stage}: {body}");
    }
    let (rules, managed) = (proxy.rule_counts(), proxy.managed_matches());

    let plain = "1' UNION SELECT password FROM users-- <script>alert(1)</script> ../../../../etc/passwd";
    for round in 0..3 {
        for text in hostile.iter().map(String::as_str).chain([plain]) {
            let text = format!("{round}: {text}{}", " ".repeat(126));
            soon(socket.send(Message::text(text.clone()))).await.expect("sent");
            let back = soon(socket.next()).await.expect("an answer").expect("a message");
            assert_eq!(back, Message::text(text.clone()), "to the origin and back, over HTTP/1.1");
            stream.say(frame(&text, Some([7, 1, 9, 3])));
            let mut got = Vec::new();
            let whole = frame(&text, None);
            while got.len() < whole.len() {
                got.extend(stream.some().await.expect("more").expect("bytes"));
            }
            assert_eq!(got, whole, "and over HTTP/2");
        }
    }
    assert_eq!((proxy.rule_counts(), proxy.managed_matches()), (rules, managed), "no rule was asked");
}
