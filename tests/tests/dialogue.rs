//! The dialogue from the kernel's counts to a customer's answer and back to the kernel, with servers of other makes: aiosmtpd,
//! Debian's Alertmanager and Prometheus. Time is a test's; everything else is real.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use weir_tests::{
    ADMIN, Agent, Conf, HTTP, ORIGIN, Process, SOON, World, ZoneConf,
    clock::Clock,
    eventually, hook, http,
    mail::MailServer,
    origin::{self, Manner},
    python, websocket, world,
};

/// Its plan writes by itself, another's waits for a person.
const A: &str = "a.test";
const B: &str = "b.test";
const LINKS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9466);
const HOOK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);
const SMTP_PORT: u16 = 2525;
/// A test's day is 17 s of walking.
const PATIENCE: Duration = Duration::from_secs(180);

fn conf(world: &World) -> Conf {
    world
        .conf()
        .plan("open", 10, 100)
        .of_plan("notify = \"automatic\"")
        .plan("shy", 10, 100)
        .plan("large", 50, 500)
        .with_zone(ZoneConf::new(A, "open").line("contact = \"ann@customer.example\""))
        .with_zone(ZoneConf::new(B, "shy").line("contact = \"bob@customer.example\""))
        .policy("detection.sustained_hours = 3")
        .policy("contact.grace_days = 1")
        .section(&format!(
            "[notices]\nsender_name = \"Example Edge\"\nlinks = \"{LINKS}\"\nlink_url = \"http://{LINKS}\"\nlink_keys = \"links.keys\""
        ))
        .section(&format!(
            "[notices.mail]\nserver = \"127.0.0.1:{SMTP_PORT}\"\nsecurity = \"none\"\nfrom = \"limits@edge.example\""
        ))
        .section(&format!("[notices.webhook]\nurl = \"http://{HOOK}/weir\""))
        .section("[notices.alertmanager]\nurls = [\"http://127.0.0.1:9093\"]")
}

fn cases() -> Result<Vec<Value>, String> {
    let answer = http::get(ADMIN, "admin", "/api/cases").map_err(|error| error.to_string())?;
    let reply: Value = serde_json::from_str(&answer.text()).map_err(|error| error.to_string())?;
    Ok(reply["cases"].as_array().cloned().unwrap_or_default())
}

/// The one case of a zone.
fn case_of(zone: &str) -> Result<Value, String> {
    let cases = cases()?;
    let of_zone: Vec<&Value> =
        cases.iter().filter(|case| case["zone"] == zone && !case["case"].is_null()).collect();
    match of_zone.as_slice() {
        [case] => Ok((*case).clone()),
        _ => Err(format!("{cases:?}")),
    }
}

fn in_state(zone: &str, state: &str) -> Result<Value, String> {
    let case = case_of(zone)?;
    if case["state"] == state { Ok(case) } else { Err(case.to_string()) }
}

fn json(address: SocketAddr, path: &str) -> Result<Value, String> {
    let answer = http::get(address, "localhost", path).map_err(|error| error.to_string())?;
    serde_json::from_str(&answer.text()).map_err(|error| error.to_string())
}

/// Alertmanager with nobody to tell, and Prometheus that reads the agent.
fn observers(world: &World) -> [Process; 2] {
    let file = |name: &str, text: &str| format!("--config.file={}", world.write(name, text).display());
    let folder = |name: &str| world.folder().join(name).display().to_string();
    let am = file("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let storage = format!("--storage.path={}", folder("am"));
    let args = [&am, &storage, "--web.listen-address=127.0.0.1:9093", "--cluster.listen-address="];
    let alertmanager =
        Process::start(world.folder(), "alertmanager", Path::new("/usr/bin/prometheus-alertmanager"), args);
    let targets = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: weir, static_configs: [{{targets: ['{ADMIN}']}}]}}]\n"
    );
    let prom = file("prometheus.yml", &targets);
    let storage = format!("--storage.tsdb.path={}", folder("tsdb"));
    let args = [&prom, &storage, "--web.listen-address=127.0.0.1:9090"];
    let prometheus = Process::start(world.folder(), "prometheus", Path::new("/usr/bin/prometheus"), args);
    eventually("Alertmanager answers", SOON * 3, || json(([127, 0, 0, 1], 9093).into(), "/api/v2/alerts"));
    [alertmanager, prometheus]
}

fn case_alerts() -> Result<Vec<Value>, String> {
    let alerts = json(([127, 0, 0, 1], 9093).into(), "/api/v2/alerts")?;
    let alerts = alerts.as_array().cloned().unwrap_or_default();
    Ok(alerts.into_iter().filter(|alert| alert["labels"]["alertname"] == "WeirCaseOpen").collect())
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("a live tunnel");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
}

/// The link to the page, out of a letter.
fn link(mail: &Value) -> String {
    let text = mail["text"].as_str().expect("a text");
    let start = text.find("/n/").expect("a link");
    text[start..].split(['#', '\n', ' ']).next().expect("a link").to_owned()
}

#[test]
fn usage_in_the_kernel_becomes_one_case_one_alert_one_mail_and_an_answer_and_a_limit_that_ends_with_weir() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let clock = Clock::of_today(world);
        let _observers = observers(world);
        let events = hook::listen(HOOK);
        let mut mail = MailServer::start(world, SMTP_PORT, &[]);
        let letters = mail.0.lines();
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world);
        let agent = world.agent_by_clock(&conf, clock.file());
        let _proxy = world.proxy(&conf, HTTP);
        let mut theirs = websocket::connect_many(HTTP, 15, |_| A.to_owned());
        let _others = websocket::connect_many(HTTP, 15, |_| B.to_owned());

        let mut opened: Vec<Value> = Vec::new();
        // More than 3 hours above 11: a case, a letter, an alert, an event.
        clock.set(4.0);
        let case = eventually("a case that has heard of its letter", PATIENCE, || in_state(A, "contacted"));
        let id = case["case"].as_str().expect("an id").to_owned();
        let letter = letters.recv_timeout(SOON).expect("a letter");
        let letter: Value = serde_json::from_str(&letter).expect("JSON");
        assert_eq!(letter["headers"]["message-id"], format!("<{id}.first.1@edge.example>"));
        assert_eq!(letter["to"], serde_json::json!(["ann@customer.example"]));
        assert_eq!(letter["plot"]["png"], true);
        let opened = eventually("the event of each case", SOON, || {
            opened.extend(events.try_iter().filter(|event| event["type"] == "dev.weir.case_opened"));
            if opened.len() >= 2 { Ok(opened.clone()) } else { Err(format!("{opened:?}")) }
        });
        let of = |zone: &str| opened.iter().filter(|event| event["subject"] == zone).count();
        assert_eq!((of(A), of(B), opened.len()), (1, 1, 2), "{opened:?}");
        assert!(
            opened
                .iter()
                .all(|event| event["specversion"] == "1.0" && event["source"] == opened[0]["source"])
        );
        eventually("an alert for each case", SOON, || {
            let alerts = case_alerts()?;
            let of_case = alerts.iter().filter(|alert| alert["labels"]["case"] == id.as_str()).count();
            if (of_case, alerts.len()) == (1, 2) { Ok(()) } else { Err(format!("{alerts:?}")) }
        });
        eventually("Prometheus has the count", SOON * 2, || {
            let answer = json(([127, 0, 0, 1], 9090).into(), "/api/v1/query?query=weir_zone_websockets")?;
            if answer.to_string().contains("\"15\"") { Ok(()) } else { Err(answer.to_string()) }
        });
        // Nothing is refused meanwhile.
        let mut more = websocket::connect(HTTP, A);
        echoes(&mut more);
        for zone in [A, B] {
            assert_eq!((agent.zone(zone).refused_total, agent.zone(zone).lease_cap), (0, None), "{zone}");
        }

        // What an operator sees: the letter that would come next, and the plot.
        let preview = world.hand(&["case", "preview", &id]).done();
        assert!(preview.stdout.starts_with("Subject: a.test: a reminder"), "{}", preview.stdout);
        assert!(preview.stdout.contains("/n/PREVIEW"), "{}", preview.stdout);
        assert!(world.hand(&["zone", "report", A, "--svg"]).done().stdout.starts_with("<svg "));

        // A limit without a contact is refused: nobody has written to the other zone yet.
        let limit = |zone: &str, from: &str| {
            world.hand(&["case", "schedule-limit", zone, "5", "--from", from, "--reason", "far above"])
        };
        limit(B, &clock.hour(168.0)).failed(1, "no notice on this case was delivered");
        assert_eq!(case_of(B).expect("its case")["notices"], serde_json::json!([]), "a person writes here");

        // The page shows, and changes nothing; the answer moves the case, once.
        let page = link(&letter);
        let shown = http::get(LINKS, "notices", &page).expect("a page");
        assert!(shown.status == 200 && shown.text().contains("<svg"), "{}", shown.text());
        assert_eq!(case_of(A).expect("the case")["state"], "contacted");
        for _ in 0..2 {
            let thanks = http::post(LINKS, "notices", &page, "answer=talk&words=A+launch").expect("a page");
            assert_eq!(thanks.status, 200, "{}", thanks.text());
        }
        eventually("the dialogue", SOON, || in_state(A, "in_dialogue"));
        let answered = |event: &Value| event["type"] == "dev.weir.answered" && event["subject"] == A;
        eventually("operators hear of the answer", SOON, || {
            if events.try_iter().any(|event| answered(&event)) { Ok(()) } else { Err("nothing".to_owned()) }
        });
        let ledger = rusqlite::Connection::open(world.folder().join("ledger.db")).expect("the ledger");
        let sql = "SELECT count(*) FROM events WHERE fact LIKE '%\"answered\"%'";
        let count: i64 = ledger.query_row(sql, [], |row| row.get(0)).expect("a count");
        assert_eq!(count, 1, "a second press is not a second answer");
        let words: String = ledger
            .query_row("SELECT reason FROM events WHERE fact LIKE '%\"answered\"%'", [], |row| row.get(0))
            .expect("a reason");
        assert_eq!(words, "by link: A launch");

        // With contact, grace and approval it reaches the kernel.
        limit(A, &clock.hour(12.0)).failed(1, "grace");
        limit(A, &clock.hour(30.0)).done();
        world.hand(&["case", "approve", A, "--reason", "agreed"]).done();
        clock.set(31.0);
        eventually("the limit", PATIENCE, || in_state(A, "limited"));
        let refused =
            eventually("a refusal", SOON, || match websocket::open(HTTP, A).map_err(|e| e.to_string())? {
                websocket::Opened::Declined(answer) => Ok(answer),
                websocket::Opened::Switched(_) => Err("it was granted".to_owned()),
            });
        assert_eq!(refused.status, 503);
        assert!(refused.text().contains(&id), "the body names the case: {}", refused.text());
        theirs.iter_mut().for_each(echoes);
        echoes(&mut more);

        // One mail, however long it took.
        assert_eq!(case_of(A).expect("the case")["notices"].as_array().map(Vec::len), Some(1));
        assert_eq!(letters.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
        let again: Vec<Value> =
            events.try_iter().filter(|event| event["type"] == "dev.weir.case_opened").collect();
        assert_eq!(again, Vec::<Value>::new(), "one case each");
        assert_eq!(case_alerts().expect("alerts").len(), 2, "and one alert");
        assert_eq!(agent.zone(B).refused_total, 0);
        // weir is killed, and the lease ends.
        let Agent { mut process, .. } = agent;
        process.kill();
        eventually("an upgrade", SOON * 2, || match websocket::open(HTTP, A).map_err(|e| e.to_string())? {
            websocket::Opened::Switched(_) => Ok(()),
            websocket::Opened::Declined(answer) => Err(answer.text()),
        });
    });
}
