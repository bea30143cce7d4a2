//! Ways over HTTP against a receiver on loopback that says what it is told to say.

use std::{
    fs,
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use time::{OffsetDateTime, macros::datetime};
use weir_config::Config;
use weir_notices::delivery::{
    Alert, Alertmanager, Event, Outcome, SIGNATURE_HEADER, Slack, Webhook, signature,
};

const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);
const SOON: Duration = Duration::from_secs(20);

/// A request as it came.
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Answers connections in turn with these texts; the last one's is repeated by nobody.
fn receiver(answers: Vec<&'static str>) -> (SocketAddr, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, requests) = channel();
    thread::spawn(move || {
        for answer in answers {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut reader = BufReader::new(stream);
            if let Some(request) = read(&mut reader) {
                let mut stream = reader.into_inner();
                let _ = stream.write_all(answer.as_bytes());
                if answer.ends_with("ENDLESS") {
                    while stream.write_all(&[b'x'; 4096]).is_ok() {}
                }
                if answer.is_empty() {
                    drop(stream);
                }
                let _ = sender.send(request);
            }
        }
    });
    (address, requests)
}

fn read(reader: &mut impl std::io::BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim_end().to_owned(), headers, body })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn config(folder: &Path, notices: &str) -> weir_config::Notices {
    let text = format!("[proxy]\nhttp = [\"127.0.0.1:80\"]\n[notices]\ntimeout = \"2s\"\n{notices}");
    Config::parse(&text, folder).expect("valid").notices
}

fn event() -> Event {
    Event::new(
        "c-0123456789ab/case_opened",
        "weir:default",
        "case_opened",
        "chat.example.com",
        NOW,
        serde_json::json!({ "rule": "R2" }),
    )
}

fn send(answers: Vec<&'static str>, times: usize) -> (Vec<Outcome>, Receiver<Request>) {
    let (address, requests) = receiver(answers);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hook.key"), "a secret\n").expect("written");
    let text = format!("[notices.webhook]\nurl = \"http://{address}/hook\"\nsecret_file = \"hook.key\"");
    let way = config(folder.path(), &text).webhook.expect("a webhook");
    let webhook = Webhook::new(&way, Duration::from_secs(2)).expect("a way");
    let outcomes = runtime().block_on(async {
        let mut outcomes = Vec::new();
        for _ in 0..times {
            outcomes.push(webhook.send(&event(), NOW).await);
        }
        outcomes
    });
    (outcomes, requests)
}

#[test]
fn webhook_gets_a_signed_cloud_event_and_the_same_id_at_each_attempt() {
    let (outcomes, requests) = send(
        vec![
            "HTTP/1.1 503 Later\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nbusy",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ],
        2,
    );
    let why = "503 Service Unavailable: busy".to_owned();
    assert_eq!(outcomes[0], Outcome::Retry { after: Some(Duration::from_secs(30)), why });
    assert_eq!(outcomes[1], Outcome::Delivered { reference: "c-0123456789ab/case_opened".to_owned() });
    let (first, second) =
        (requests.recv_timeout(SOON).expect("a request"), requests.recv_timeout(SOON).expect("a request"));
    assert_eq!(first.line, "POST /hook HTTP/1.1");
    assert_eq!(first.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    let body: serde_json::Value = serde_json::from_slice(&first.body).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({
            "specversion": "1.0",
            "id": "c-0123456789ab/case_opened",
            "source": "weir:default",
            "type": "dev.weir.case_opened",
            "subject": "chat.example.com",
            "time": "2026-11-27T12:00:00Z",
            "datacontenttype": "application/json",
            "data": { "rule": "R2" },
        })
    );
    assert_eq!(first.body, second.body, "the id is what a receiver knows a repetition by");
    let signed = signature(b"a secret", NOW.unix_timestamp(), &first.body);
    assert_eq!(first.header(SIGNATURE_HEADER), Some(signed.as_str()));
    assert_ne!(signed, signature(b"another", NOW.unix_timestamp(), &first.body));
}

#[test]
fn signature_is_hmac_sha256_of_time_and_body() {
    // By openssl: printf '1.{}' | openssl dgst -sha256 -hmac key
    let known = "t=1,v1=";
    let made = signature(b"key", 1, b"{}");
    assert!(made.starts_with(known) && made.len() == known.len() + 64, "{made}");
    let openssl = std::process::Command::new("sh")
        .args(["-c", "printf '1.{}' | openssl dgst -sha256 -hmac key"])
        .output()
        .expect("openssl starts");
    let said = String::from_utf8_lossy(&openssl.stdout);
    assert!(said.trim_end().ends_with(&made[known.len()..]), "{said} is not {made}");
}

#[test]
fn answers_tell_what_is_for_ever_and_what_is_worth_another_try() {
    let (outcomes, _) = send(
        vec![
            "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 301 Moved\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 429 Slow\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n",
            "",
            "HTTP/1.1 200 OK\r\n\r\nENDLESS",
        ],
        5,
    );
    assert!(matches!(&outcomes[0], Outcome::Refused { why } if why.starts_with("410 Gone")), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Outcome::Refused { .. }), "nobody is followed anywhere");
    let day = Some(Duration::from_secs(86_400));
    assert!(matches!(&outcomes[2], Outcome::Retry { after, .. } if *after == day));
    assert!(matches!(&outcomes[3], Outcome::Retry { after: None, .. }), "{outcomes:?}");
    assert!(matches!(&outcomes[4], Outcome::Delivered { .. }), "an endless answer is cut off: {outcomes:?}");
}

#[test]
fn receiver_that_never_answers_or_is_not_there_costs_its_time_limit_and_no_more() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let folder = tempfile::tempdir().expect("a folder");
    for address in [silent.local_addr().expect("an address"), gone] {
        let text = format!("[notices.webhook]\nurl = \"http://{address}/\"");
        let way = config(folder.path(), &text).webhook.expect("a webhook");
        let webhook = Webhook::new(&way, Duration::from_millis(300)).expect("a way");
        let outcome = runtime().block_on(webhook.send(&event(), NOW));
        assert!(matches!(&outcome, Outcome::Retry { after: None, .. }), "{outcome:?}");
    }
}

#[test]
fn secret_is_read_at_each_attempt_and_an_event_never_goes_unsigned() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("hook.key"), "s").expect("written");
    let (address, requests) = receiver(vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
    let text = format!("[notices.webhook]\nurl = \"http://{address}/\"\nsecret_file = \"hook.key\"");
    let way = config(folder.path(), &text).webhook.expect("a webhook");
    let webhook = Webhook::new(&way, Duration::from_secs(2)).expect("a way");
    fs::write(folder.path().join("hook.key"), "").expect("emptied");
    let outcome = runtime().block_on(webhook.send(&event(), NOW));
    assert!(
        matches!(&outcome, Outcome::Retry { why, .. } if why.contains("hook.key is empty")),
        "{outcome:?}"
    );
    assert!(requests.try_recv().is_err());
    fs::write(folder.path().join("hook.key"), "new\n").expect("written");
    assert!(matches!(runtime().block_on(webhook.send(&event(), NOW)), Outcome::Delivered { .. }));
    let request = requests.recv_timeout(SOON).expect("a request");
    let signed = signature(b"new", NOW.unix_timestamp(), &request.body);
    assert_eq!(request.header(SIGNATURE_HEADER), Some(signed.as_str()));
}

#[test]
fn slack_gets_text_in_which_nobody_is_called() {
    let (address, requests) = receiver(vec!["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("slack.url"), format!("http://{address}/services/T0/B0/SECRET\n"))
        .expect("written");
    let way = config(folder.path(), "[notices.slack]\nurl_file = \"slack.url\"").slack.expect("a way");
    let slack = Slack::new(&way, Duration::from_secs(2));
    let outcome = runtime().block_on(slack.send("c-1/case_opened", "<!channel>.example & co: case opened"));
    assert_eq!(outcome, Outcome::Delivered { reference: "c-1/case_opened".to_owned() });
    let request = requests.recv_timeout(SOON).expect("a request");
    assert_eq!(request.line, "POST /services/T0/B0/SECRET HTTP/1.1");
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body["text"], "&lt;!channel&gt;.example &amp; co: case opened\n_c-1/case_opened_");
    fs::write(folder.path().join("slack.url"), "ftp://x.example/SECRET\n").expect("written");
    let outcome = runtime().block_on(slack.send("k", "t"));
    assert!(matches!(&outcome, Outcome::Retry { why, .. } if !why.contains("SECRET")), "{outcome:?}");
}

#[test]
fn alert_goes_to_every_alertmanager_and_counts_if_one_took_it() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (first, _) = receiver(vec!["HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]);
    let (second, requests) = receiver(vec![ok]);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("token"), "t0ken\n").expect("written");
    let text = format!(
        "[notices.alertmanager]\nurls = [\"http://{first}\", \"http://{second}/am/\"]\ntoken_file = \"token\""
    );
    let way = config(folder.path(), &text).alertmanager.expect("a way");
    let alertmanager = Alertmanager::new(&way, Duration::from_secs(2)).expect("a way");
    let alert = Alert {
        labels: [("alertname", "WeirCase".to_owned()), ("zone", "chat.example.com".to_owned())].into(),
        annotations: [("summary", "s".to_owned())].into(),
        starts_at: NOW,
        ends_at: NOW + Duration::from_secs(3600),
    };
    let outcome = runtime().block_on(alertmanager.send("k", &[alert]));
    assert_eq!(outcome, Outcome::Delivered { reference: "k".to_owned() });
    let request = requests.recv_timeout(SOON).expect("a request");
    assert_eq!(request.line, "POST /am/api/v2/alerts HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(body[0]["startsAt"], "2026-11-27T12:00:00Z");
    assert_eq!(body[0]["endsAt"], "2026-11-27T13:00:00Z");
    assert_eq!(body[0]["labels"]["alertname"], "WeirCase");
}

#[test]
fn only_a_certificate_of_the_named_authority_is_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(folder.path().join("ours.pem"), issued.cert.pem()).expect("written");
    fs::write(folder.path().join("other.pem"), other.cert.pem()).expect("written");
    let key = rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a server");
    let server = std::sync::Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut tls = rustls::ServerConnection::new(server.clone()).expect("a connection");
            let mut stream = BufReader::new(rustls::Stream::new(&mut tls, &mut stream));
            if read(&mut stream).is_some() {
                let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let send = |ca: &str| {
        let text = format!("[notices.webhook]\nurl = \"https://{address}/\"\nca = \"{ca}\"");
        let way = config(folder.path(), &text).webhook.expect("a webhook");
        runtime().block_on(Webhook::new(&way, Duration::from_secs(5)).expect("a way").send(&event(), NOW))
    };
    assert!(matches!(send("ours.pem"), Outcome::Delivered { .. }), "{:?}", send("ours.pem"));
    let other = send("other.pem");
    assert!(matches!(&other, Outcome::Retry { why, .. } if why.contains("TLS with")), "{other:?}");
}
