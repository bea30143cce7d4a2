//! Letters and alerts, delivered to servers of other makes: aiosmtpd and Debian's Alertmanager.
#![forbid(unsafe_code)]

use std::{path::Path, time::Duration};

use serde_json::Value;
use time::{OffsetDateTime, macros::datetime};
use weir_config::Config;
use weir_notices::{
    delivery::{Alert, Alertmanager, Mailer, Outcome},
    letter::{About, Letter, Letterhead, Offer, Templates},
    plot::{Plot, PlotSlot, Totals},
};
use weir_reachout::{
    contact::NoticeKind,
    policy::Policy,
    slot::{Judgement, SlotIndex},
};
use weir_tests::{Process, SOON, World, eventually, http, mail::MailServer, python, tls, world};

const AT: OffsetDateTime = datetime!(2026-11-27 00:05 UTC);
const PORT: u16 = 2525;
const KEY: &str = "c-0123456789ab/first/1";

fn letter() -> Letter {
    let until = SlotIndex::containing(AT);
    let from = until.back(288);
    let slot = |n| PlotSlot { index: from.forth(n), mean: 1500.0, max: 1600.0, judgement: Judgement::Over };
    let plot = Plot {
        zone: "chat.example.com".to_owned(),
        plan: "free".to_owned(),
        from,
        until,
        slots: (0..288).map(slot).collect(),
        guidelines: vec![(from, 1000)],
        over_ratio: 1.1,
        spikes: vec![from],
        levels: Vec::new(),
        totals: Totals { over_hours: 24.0, coverage: 1.0 },
    };
    let head = Letterhead {
        kind: NoticeKind::First,
        number: 1,
        sender_name: "Example Edge".to_owned(),
        case: "c-0123456789ab".to_owned(),
        at: AT,
        first_delivered: None,
        client: None,
        offer: Offer::Talk,
        links: None,
        limit: None,
        was_limited: false,
        exempt_until: None,
        new_plan: false,
        resource: None,
    };
    let about = About::new(head, &Policy::default(), &plot);
    Letter::write(&Templates::built_in(), &about, &plot).expect("a letter")
}

/// The configuration of a world's mail, with a customer at `to`.
fn config(world: &World, mail: &str, to: &str) -> Config {
    let text = format!(
        "[proxy]\nhttp = [\"127.0.0.1:80\"]\n[plans.free]\nguideline = 1000\n[[zones]]\nname = \"a.test\"\nplan = \"free\"\n\
         origin = \"ws://127.0.0.1:9001\"\ncontact = \"{to}\"\n[notices]\nsender_name = \"Example Edge\"\n\
         [notices.mail]\nfrom = \"limits@edge.example\"\nreply_to = \"support@edge.example\"\n{mail}\n"
    );
    Config::parse(&text, world.folder()).expect("valid")
}

fn send(world: &World, mail: &str, to: &str) -> Outcome {
    let config = config(world, mail, to);
    let way = config.notices.mail.as_ref().expect("mail");
    let mailer = Mailer::new(way, &config.notices.sender_name, Duration::from_secs(10));
    let to = config.zones[0].contact.clone().expect("a contact");
    world.block_on(mailer.send(KEY, &to, &letter(), AT))
}

fn plain() -> String {
    format!("server = \"127.0.0.1:{PORT}\"\nsecurity = \"none\"")
}

#[test]
fn letter_arrives_whole_with_its_plot_inline_and_a_message_id_of_its_key() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let mut server = MailServer::start(world, PORT, &[]);
        let outcome = send(world, &plain(), "ann@customer.example");
        assert!(
            matches!(&outcome, Outcome::Delivered { reference } if reference.contains("queued as 4711")),
            "{outcome:?}"
        );
        let mail = server.receive();
        let header = |name: &str| mail["headers"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(mail["from"], "limits@edge.example");
        assert_eq!(mail["to"], serde_json::json!(["ann@customer.example"]));
        assert_eq!(header("message-id"), "<c-0123456789ab.first.1@edge.example>");
        assert_eq!(header("subject"), "chat.example.com: your connections and the free plan");
        assert_eq!(header("from"), "Example Edge <limits@edge.example>");
        assert_eq!(header("reply-to"), "support@edge.example");
        assert_eq!(header("auto-submitted"), "auto-generated");
        assert_eq!(header("date"), "Fri, 27 Nov 2026 00:05:00 +0000");
        let kinds = ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"];
        assert_eq!(mail["kinds"], serde_json::json!(kinds));
        let said = |part: &str| mail[part].as_str().unwrap_or_default().replace("\r\n", "\n");
        assert_eq!(said("text").trim_end(), letter().text.trim_end());
        assert!(said("html").contains("cid:evidence@weir"));
        let plot = &mail["plot"];
        assert_eq!(
            (&plot["id"], &plot["disposition"], &plot["png"]),
            (&Value::from("<evidence@weir>"), &Value::from("inline"), &Value::from(true))
        );
    });
}

#[test]
fn starttls_and_tls_with_a_login_reach_a_server_of_the_named_authority_and_no_other() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        tls::certify(world, "localhost");
        let file = |name: &str| world.folder().join(name).display().to_string();
        let (cert, key) = (file("localhost.pem"), file("localhost.key"));
        world.write("password", "secret\n");
        for (security, port) in [("starttls", 2525), ("tls", 2526)] {
            let args = ["--cert", &cert, "--key", &key, "--how", security, "--user", "weir", "secret"];
            let mut server = MailServer::start(world, port, &args);
            let mail = format!("server = \"localhost:{port}\"\nsecurity = \"{security}\"\nca = \"ca.pem\"");
            let login = format!("{mail}\nuser = \"weir\"\npassword_file = \"password\"");
            let outcome = send(world, &login, "ann@customer.example");
            assert!(matches!(&outcome, Outcome::Delivered { .. }), "{security}: {outcome:?}");
            assert_eq!(server.receive()["tls"], true);
            world.write("password", "wrong\n");
            let outcome = send(world, &login, "ann@customer.example");
            assert!(matches!(&outcome, Outcome::Retry { .. }), "a person can mend it: {outcome:?}");
            world.write("password", "secret\n");
            // The certificate is another authority's: nothing is said to it.
            let stranger = login.replace("ca = \"ca.pem\"", "");
            let outcome = send(world, &stranger, "ann@customer.example");
            assert!(matches!(&outcome, Outcome::Retry { .. }), "{security}: {outcome:?}");
        }
        // A server without STARTTLS gets no letter in the clear.
        let mut bare = MailServer::start(world, 2527, &[]);
        let outcome = send(world, "server = \"localhost:2527\"\nca = \"ca.pem\"", "ann@customer.example");
        assert!(matches!(&outcome, Outcome::Retry { .. }), "{outcome:?}");
        bare.0.assert_running();
    });
}

#[test]
fn refusal_for_ever_is_no_contact_and_one_for_now_is_another_try_under_the_same_id() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let mut server = MailServer::start(world, PORT, &[]);
        let refused = send(world, &plain(), "nobody@customer.example");
        assert!(
            matches!(&refused, Outcome::Refused { why } if why.contains("no such mailbox")),
            "{refused:?}"
        );
        let full = send(world, &plain(), "full@customer.example");
        assert!(matches!(&full, Outcome::Retry { why, .. } if why.contains("mailbox full")), "{full:?}");
        let later = send(world, &plain(), "later@customer.example");
        assert!(matches!(&later, Outcome::Retry { .. }), "{later:?}");
        let now = send(world, &plain(), "later@customer.example");
        assert!(matches!(&now, Outcome::Delivered { .. }), "{now:?}");
        let first = server.receive();
        // Taken, and the word on it was lost: whoever sends it again sends the same letter.
        let cut = send(world, &plain(), "cut@customer.example");
        assert!(matches!(&cut, Outcome::Retry { .. }), "{cut:?}");
        let lost = server.receive();
        assert!(matches!(send(world, &plain(), "cut@customer.example"), Outcome::Delivered { .. }));
        let again = server.receive();
        for mail in [&lost, &again] {
            assert_eq!(mail["headers"]["message-id"], first["headers"]["message-id"]);
        }
        assert_eq!(lost, again, "byte for byte: the plot too");
    });
}

#[test]
fn mail_server_that_is_not_there_is_another_try() {
    world(|world| {
        let outcome = send(world, &plain(), "ann@customer.example");
        assert!(matches!(&outcome, Outcome::Retry { after: None, .. }), "{outcome:?}");
    });
}

fn alerts(port: u16) -> Result<Vec<Value>, String> {
    let address = ([127, 0, 0, 1], port).into();
    let answer = http::get(address, "localhost", "/api/v2/alerts").map_err(|error| error.to_string())?;
    serde_json::from_str(&answer.text()).map_err(|error| error.to_string())
}

#[test]
fn alertmanager_has_one_alert_however_often_it_is_told_and_none_when_it_is_over() {
    world(|world| {
        let config_file = world.write("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
        let config_file = format!("--config.file={}", config_file.display());
        let storage = format!("--storage.path={}", world.folder().join("am").display());
        let program = Path::new("/usr/bin/prometheus-alertmanager");
        let args = [
            config_file.as_str(),
            storage.as_str(),
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
        ];
        let _process = Process::start(world.folder(), "alertmanager", program, args);
        eventually("Alertmanager answers", SOON * 2, || alerts(9093));
        let text =
            "[proxy]\nhttp = [\"127.0.0.1:80\"]\n[notices.alertmanager]\nurls = [\"http://127.0.0.1:9093\"]";
        let way = Config::parse(text, world.folder()).expect("valid").notices.alertmanager.expect("a way");
        let alertmanager = Alertmanager::new(&way, Duration::from_secs(10)).expect("a way");
        let now = OffsetDateTime::now_utc();
        let alert = |ends_at| Alert {
            labels: [("alertname", "WeirCase".to_owned()), ("zone", "chat.example.com".to_owned())].into(),
            annotations: [("summary", "a case was opened".to_owned())].into(),
            starts_at: now - Duration::from_secs(60),
            ends_at,
        };
        let send = |alert| world.block_on(alertmanager.send("k", &[alert]));
        for minutes in [10, 20, 30] {
            let outcome = send(alert(now + Duration::from_secs(minutes * 60)));
            assert!(matches!(&outcome, Outcome::Delivered { .. }), "{outcome:?}");
        }
        let one = eventually("the alert", SOON, || match alerts(9093)?.as_slice() {
            [alert] => Ok(alert.clone()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(one["labels"]["zone"], "chat.example.com");
        assert!(matches!(send(alert(now)), Outcome::Delivered { .. }));
        eventually("no alert", SOON, || match alerts(9093)?.len() {
            0 => Ok(()),
            n => Err(format!("{n} alerts")),
        });
    });
}
