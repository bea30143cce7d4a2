//! Every command that a case, a policy or a ledger has, on the real agent: what it does, that it is recorded with who did it and
//! why, and that what cannot be is refused with a way out and changes nothing.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rusqlite::Connection;
use serde_json::Value;
use time::macros::datetime;
use weir_agent::CaseRecord;
use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, SOON, World, ZoneConf,
    clock::Clock,
    eventually,
    hand::Said,
    mail::MailServer,
    origin::{self, Manner},
    python, websocket, world,
};

const A: &str = "a.test";
/// Its customer's mailbox is not there.
const B: &str = "b.test";
/// Nobody knows its customer's mailbox.
const C: &str = "c.test";
const QUIET: &str = "quiet.test";
const SMTP_PORT: u16 = 2525;
const PATIENCE: Duration = Duration::from_secs(180);

fn conf(world: &World) -> Conf {
    world
        .conf()
        .plan("p", 10, 100)
        .plan("large", 50, 500)
        .with_zone(ZoneConf::new(A, "p").line("contact = \"ann@customer.example\""))
        .with_zone(ZoneConf::new(B, "p").line("contact = \"nobody@customer.example\""))
        .zone(C, "p")
        .zone(QUIET, "p")
        .policy("detection.sustained_hours = 3")
        .policy("contact.grace_days = 1")
        .section("[notices]\nsender_name = \"Example Edge\"")
        .section(&format!(
            "[notices.mail]\nserver = \"127.0.0.1:{SMTP_PORT}\"\nsecurity = \"none\"\nfrom = \"limits@edge.example\""
        ))
}

fn clock(world: &World) -> Clock {
    Clock::new(world, datetime!(2026-03-01 00:00 UTC))
}

/// The case, or the flagged zone.
fn case(agent: &Agent, zone: &str) -> Result<CaseRecord, String> {
    let reply = agent.cases();
    let found = reply.cases.iter().find(|case| case.zone == zone).cloned();
    found.ok_or_else(|| format!("{reply:?}"))
}

fn in_state(agent: &Agent, zone: &str, state: &str) -> Result<CaseRecord, String> {
    let case = case(agent, zone)?;
    if case.state == state { Ok(case) } else { Err(format!("{case:?}")) }
}

/// The ledger's entries.
fn entries(world: &World) -> Vec<Value> {
    let exported = world.hand(&["ledger", "export"]).done().stdout;
    exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Operators at a world's commands.
struct Desk<'a> {
    world: &'a World,
    agent: &'a Agent,
}

impl Desk<'_> {
    fn case(&self, args: &[&str]) -> Said {
        self.world.hand(&[&["case"], args].concat())
    }

    /// An act that is done: it is the ledger's newest entry of its kind, with who and why.
    fn does(&self, fact: &str, args: &[&str]) -> Value {
        let before = entries(self.world).len();
        let reply = self.case(&[args, &["--reason", "as agreed by phone", "--json"]].concat()).done().json();
        let entries = entries(self.world);
        let is = |entry: &&Value| {
            let said: Value = serde_json::from_str(entry["fact"].as_str().expect("a fact")).expect("JSON");
            said["fact"] == fact
        };
        let entry = entries[before..].iter().find(is);
        let entry = entry.unwrap_or_else(|| panic!("no {fact} in {:?}", &entries[before..]));
        assert_eq!(entry["actor"], serde_json::json!({"kind": "person", "name": "root"}), "{entry}");
        assert_eq!(entry["reason"], "as agreed by phone");
        assert!(entry["policy"].as_str().is_some_and(|version| !version.is_empty()), "{entry}");
        reply["case"].clone()
    }

    /// An act that cannot be: it says why, and neither ledger nor case have changed.
    fn cannot(&self, why: &str, zone: &str, args: &[&str]) {
        self.fails(why, zone, &[args, &["--reason", "as agreed by phone"]].concat());
    }

    fn fails(&self, why: &str, zone: &str, args: &[&str]) {
        // Days go on, and so do the hours of usage.
        let still = |zone: &str| {
            let Ok(case) = case(self.agent, zone) else { return String::new() };
            let CaseRecord { state, closing, notices, answered, cap, limit_from, approved_by, .. } = case;
            format!("{state} {closing:?} {notices:?} {answered} {cap:?} {limit_from:?} {approved_by:?}")
        };
        let before = (entries(self.world).len(), still(zone));
        self.case(args).failed(1, why);
        assert_eq!((entries(self.world).len(), still(zone)), before, "{args:?}");
    }
}

/// Three zones above their guideline, each with a case of its own that nobody has written about.
fn three_cases(world: &World, clock: &Clock) -> (Agent, weir_tests::Proxy, Vec<TcpStream>) {
    origin::serve(world, ORIGIN, Manner::Echo);
    let conf = conf(world);
    let agent = world.agent_by_clock(&conf, clock.file());
    let proxy = world.proxy(&conf, HTTP);
    let zones = [A, B, C];
    let clients = websocket::connect_many(HTTP, 36, |n| zones[n % 3].to_owned());
    clock.set(3.5);
    for zone in zones {
        eventually("a case", PATIENCE, || in_state(&agent, zone, "open"));
    }
    (agent, proxy, clients)
}

#[test]
fn every_act_on_a_case_is_recorded_with_who_and_why_and_what_cannot_be_changes_nothing() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let clock = clock(world);
        let mut mail = MailServer::start(world, SMTP_PORT, &[]);
        let (agent, _proxy, _clients) = three_cases(world, &clock);
        let desk = Desk { world, agent: &agent };
        let id = case(&agent, A).expect("a case").case.expect("an id");

        // Without a reason nothing is done.
        let (soon, later) = (clock.hour(4.0), clock.hour(40.0));
        let acts: [&[&str]; 9] = [
            &["note", A],
            &["contact", A],
            &["reply", A, "--answer", "talk"],
            &["bounce", A],
            &["exempt", A, "--for", "1d"],
            &["resolve", A],
            &["schedule-limit", A, "5", "--from", &later],
            &["approve", A],
            &["lift", A],
        ];
        for act in acts {
            desk.fails("a reason has to be given", A, &[act, &["--reason", "  "]].concat());
            let said = desk.case(act);
            assert!(said.code == Some(2) && said.stderr.contains("--reason"), "{said:?}");
        }
        desk.cannot("no case and no zone is called `c-000000000000`", A, &["note", "c-000000000000"]);

        // Before anybody was written to.
        desk.cannot("no notice on this case was delivered", A, &["schedule-limit", A, "5", "--from", &later]);
        desk.cannot("only a notice that was delivered", A, &["bounce", A]);
        desk.cannot("not possible while the case is open", A, &["approve", A]);
        desk.cannot("not possible while the case is open", A, &["lift", A]);
        desk.cannot("the zone is not exempt", A, &["end-exemption", A]);
        assert_eq!(desk.does("noted", &["note", &id])["state"], "open");

        // The letter that would leave, in words and for a browser; looking at it sends nothing.
        let preview = desk.case(&["preview", &id]).done().stdout;
        assert!(preview.starts_with("Subject: a.test: your connections and the p plan\n"), "{preview}");
        assert!(preview.contains("Nothing is limited, and nothing was refused"), "{preview}");
        let settled = desk.case(&["preview", &id, "--kind", "resolved"]).done().stdout;
        assert!(settled.starts_with("Subject: a.test: this is settled\n"), "{settled}");
        let html = desk.case(&["preview", &id, "--html"]).done().stdout;
        assert!(html.contains("<img src=\"data:image/png;base64,"), "{html}");
        let none = desk.case(&["preview", &id, "--kind", "limit-scheduled"]);
        assert_eq!(none.code, Some(1), "{none:?}");
        desk.case(&["preview", "c-000000000000"]).failed(1, "c-000000000000");

        // Sent by a person, once: not again before its time.
        desk.does("notice_queued", &["contact", A]);
        let contacted = eventually("a contact", SOON, || in_state(&agent, A, "contacted"));
        assert_eq!(mail.receive()["headers"]["message-id"], format!("<{id}.first.1@edge.example>"));
        assert!(contacted.notices.len() == 1 && contacted.notices[0].outcome == "delivered");
        desk.cannot("the next notice may go out at", A, &["contact", A]);
        desk.cannot("the grace after the delivered notice", A, &["schedule-limit", A, "5", "--from", &soon]);
        desk.cannot("the case has no notice number 2", A, &["bounce", A, "--notice", "2"]);

        // A limit is announced, approved, and taken back.
        let scheduled = desk.does("limit_scheduled", &["schedule-limit", A, "5", "--from", &later]);
        assert_eq!((&scheduled["state"], &scheduled["cap"]), (&"limit_scheduled".into(), &5.into()));
        desk.cannot(
            "not possible while the case is limit_scheduled",
            A,
            &["schedule-limit", A, "6", "--from", &later],
        );
        assert_eq!(desk.does("limit_approved", &["approve", A])["approved_by"], "root");
        assert_eq!(desk.does("limit_lifted", &["lift", A])["state"], "in_dialogue");

        // What came back was no contact.
        desk.does("notice_failed", &["bounce", A]);
        let shown = desk.case(&["show", A]).done().stdout;
        assert!(shown.contains("1: first, queued") && shown.contains("bounced"), "{shown}");
        desk.cannot("only a notice that was delivered", A, &["bounce", A]);
        desk.cannot("no notice on this case was delivered", A, &["schedule-limit", A, "5", "--from", &later]);

        let closed = desk.does("case_closed", &["resolve", A, "--how", "false-alarm"]);
        assert_eq!((&closed["state"], &closed["closing"]), (&"closed".into(), &"false_alarm".into()));
        desk.cannot("the zone has no open case", A, &["resolve", A]);
        desk.cannot("the zone has no open case", A, &["note", A]);

        // Refused by the mail server: no contact, and the reason can be read.
        desk.does("notice_queued", &["contact", B]);
        let refused = eventually("the end of the notice", SOON, || {
            let case = case(&agent, B)?;
            if case.notices.iter().all(|notice| notice.outcome == "refused") {
                Ok(case)
            } else {
                Err(format!("{case:?}"))
            }
        });
        assert_eq!(refused.state, "open");
        desk.cannot("no notice on this case was delivered", B, &["schedule-limit", B, "5", "--from", &later]);
        desk.cannot("only a notice that was delivered", B, &["bounce", B]);
        let why: String = Connection::open(world.folder().join("ledger.db"))
            .and_then(|ledger| {
                ledger.query_row("SELECT why FROM outbox WHERE zone = ?1", [B], |row| row.get(0))
            })
            .expect("a row");
        assert!(why.contains("no such mailbox"), "{why}");
        let failed = entries(world)
            .into_iter()
            .find(|entry| entry["fact"].to_string().contains("notice_failed") && entry["zone"] == B);
        assert_eq!(failed.expect("an entry")["actor"]["kind"], "delivery");

        // Answered by phone, and exempt for its event.
        assert_eq!(desk.does("answered", &["reply", C, "--answer", "event"])["state"], "in_dialogue");
        assert_eq!(desk.case(&["reply", C, "--answer", "maybe", "--reason", "x"]).code, Some(2));
        let exempt = desk.does("exempted", &["exempt", C, "--for", "10d"]);
        assert_eq!((&exempt["state"], &exempt["closing"]), (&"closed".into(), &"exempted".into()));
        assert!(
            exempt["exempt_until"].as_str().is_some_and(|until| until.starts_with("2026-03-11T")),
            "{exempt}"
        );
        desk.does("exemption_ended", &["end-exemption", C]);
        let board = world.hand(&["cases", "--all"]).done().stdout;
        for part in [A, B, C, "closed", "open", "R2", "over", "occasions", "next"] {
            assert!(board.contains(part), "{part}: {board}");
        }
        assert_eq!(agent.scrape().value("weir_reachout_limits"), 0.0);
        world.hand(&["ledger", "verify"]).done();
    });
}

/// Whether a new upgrade is answered 503.
fn refused(zone: &str) -> Result<bool, String> {
    match websocket::open(HTTP, zone).map_err(|error| error.to_string())? {
        websocket::Opened::Switched(_) => Ok(false),
        websocket::Opened::Declined(answer) if answer.status == 503 => Ok(true),
        websocket::Opened::Declined(answer) => Err(answer.text()),
    }
}

/// Leases are renewed as time goes on, and it does for as long as one is waited for.
fn await_limit(clock: &Clock, mut hour: f64) -> f64 {
    eventually("a refusal", PATIENCE, || {
        hour += 1.0 / 60.0;
        clock.set(hour);
        if refused(A)? { Ok(hour) } else { Err("it was granted".to_owned()) }
    })
}

fn await_no_limit() {
    eventually("no refusal", SOON * 3, || {
        if refused(A)? { Err("it was refused") } else { Ok(()) }.map_err(str::to_owned)
    });
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("a live tunnel");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
}

fn edit(ledger: &Path, sql: &str) {
    let connection = Connection::open(ledger).expect("the ledger");
    let triggers = "DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed;";
    connection.execute_batch(&format!("{triggers} {sql}")).expect("an edit");
}

#[test]
fn a_limit_ends_when_its_letter_comes_back_and_rests_on_no_ledger_that_was_edited() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let clock = clock(world);
        let _mail = MailServer::start(world, SMTP_PORT, &[]);
        let (mut agent, _proxy, mut clients) = three_cases(world, &clock);
        let case_act = |args: &[&str]| world.hand(&[&["case"], args, &["--reason", "agreed"]].concat());
        case_act(&["contact", A]).done();
        eventually("a contact", SOON, || in_state(&agent, A, "contacted"));
        case_act(&["schedule-limit", A, "5", "--from", &clock.hour(29.0)]).done();
        case_act(&["approve", A]).done();
        clock.set(29.5);
        let limited = eventually("the limit", PATIENCE, || in_state(&agent, A, "limited"));
        let hour = await_limit(&clock, 29.5);
        assert_eq!(agent.scrape().value("weir_reachout_limits"), 1.0);

        // Somebody edits the ledger while no agent has it: the next one says so, and limits nobody by it.
        let copy = world.folder().join("copy.db");
        world.hand(&["ledger", "backup", copy.to_str().expect("a path")]).done();
        let head = world.hand(&["ledger", "verify", "--json"]).done().json()["head"].clone();
        agent.process.kill();
        let ledger = world.folder().join("ledger.db");
        edit(&ledger, "UPDATE events SET reason = 'nothing' WHERE fact LIKE '%limit_approved%'");
        world.hand(&["ledger", "verify"]).failed(1, "was changed after it was written");
        assert_eq!(
            world.hand(&["ledger", "export"]).code,
            Some(1),
            "what follows an edit is not told as the ledger's"
        );
        agent = world.agent_by_clock(&conf(world), clock.file());
        eventually("an alarm", SOON, || {
            let reply = agent.cases();
            reply.fault.filter(|fault| fault.contains("was changed")).ok_or_else(|| "no fault".to_owned())
        });
        await_no_limit();
        let scrape = agent.scrape();
        assert_eq!((scrape.value("weir_ledger_up"), scrape.value("weir_reachout_limits")), (0.0, 0.0));
        case_act(&["lift", A]).failed(1, "not done");
        let board = world.hand(&["cases"]).done().stdout;
        assert!(board.contains("nothing is decided at present"), "{board}");
        agent.process.kill();

        // The copy in its place, all is as it was, the limit too.
        fs::rename(&copy, &ledger).expect("the backup in its place");
        for leftover in ["ledger.db-wal", "ledger.db-shm"] {
            let _ = fs::remove_file(world.folder().join(leftover));
        }
        world.hand(&["ledger", "verify", "--head", head.as_str().expect("a head")]).done();
        agent = world.agent_by_clock(&conf(world), clock.file());
        let again = eventually("the limit", PATIENCE, || in_state(&agent, A, "limited"));
        assert_eq!(
            (again.case, again.cap, again.limit_from),
            (limited.case, limited.cap, limited.limit_from)
        );
        let hour = await_limit(&clock, hour);

        // The letter comes back: it was no contact, so there is no limit.
        clients.iter_mut().step_by(3).for_each(echoes);
        case_act(&["bounce", A]).done();
        let open = in_state(&agent, A, "open").expect("nobody was contacted");
        assert_eq!((open.notices[0].outcome.as_str(), open.cap), ("bounced", None));
        await_no_limit();
        clock.set(hour + 0.2);
        case_act(&["schedule-limit", A, "5", "--from", &clock.hour(60.0)])
            .failed(1, "no notice on this case was delivered");
        eventually("the count of notices", SOON, || {
            let labels = "{way=\"mail\",subject=\"notice_first\",outcome=\"bounced\"}";
            match agent.scrape().get(&format!("weir_notices{labels}")) {
                Some(1.0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        world.hand(&["ledger", "verify"]).done();
    });
}

#[test]
fn a_full_disk_is_an_alarm_and_what_it_kept_from_being_written_is_decided_afterwards() {
    world(|world| {
        // A disk of its own, in a mount namespace that goes with this thread and its children.
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("mounts of our own");
        let disk = world.folder().join("disk");
        fs::create_dir(&disk).expect("a folder");
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=2m")).expect("a disk");

        let clock = clock(world);
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world).ledger("disk/ledger.db");
        let agent = world.agent_by_clock(&conf, clock.file());
        let _proxy = world.proxy(&conf, HTTP);
        let mut clients = websocket::connect_many(HTTP, 12, |_| A.to_owned());
        clock.set(2.5);
        eventually("a flagged zone", PATIENCE, || in_state(&agent, A, "flagged"));
        let before = entries(world);

        let filler = disk.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        while file.write_all(&[0; 1024]).is_ok() {}
        drop(file);
        clock.set(4.0);
        eventually("an alarm", PATIENCE, || {
            let reply = agent.cases();
            let up = agent.scrape().value("weir_ledger_up");
            if reply.fault.is_some() && up == 0.0 { Ok(()) } else { Err(format!("{up} {reply:?}")) }
        });
        let board = world.hand(&["cases"]).done().stdout;
        assert!(board.contains("nothing is decided at present"), "{board}");
        world.hand(&["case", "note", A, "--reason", "x"]).failed(1, "not done");
        assert_eq!(entries(world), before);
        clients.iter_mut().for_each(echoes);
        clients.push(websocket::connect(HTTP, A));
        assert_eq!(agent.zone(A).refused_total, 0, "counting and serving go on");

        fs::remove_file(&filler).expect("room");
        clock.set(4.1);
        let open = eventually("the case", PATIENCE, || in_state(&agent, A, "open"));
        // Just past the third hour, as if nothing had been: no slot is lost.
        assert_eq!(open.opened_at.expect("a date"), clock.at(3.0 + 5.0 / 60.0));
        assert_eq!(agent.scrape().value("weir_ledger_up"), 1.0);
        assert_eq!(agent.cases().fault, None);
        world.hand(&["ledger", "verify"]).done();
    });
}

#[test]
fn reports_and_the_policy_are_told_in_words_and_in_json() {
    world(|world| {
        let clock = clock(world);
        let (agent, _proxy, _clients) = three_cases(world, &clock);

        let report = world.hand(&["zone", "report", A, "--json"]).done().json();
        assert_eq!((&report["record"]["zone"], &report["record"]["rule"]), (&A.into(), &"R2".into()));
        let day = &report["days"][0];
        // Counts of the past are kept to 1 %.
        let about = |of: &Value| of.as_f64().is_some_and(|count| (11.8..12.2).contains(&count));
        assert!(day["day"] == "2026-03-01" && about(&day["max"]) && about(&day["mean"]), "{report}");
        assert!(day["over_hours"].as_f64().is_some_and(|hours| (3.0..=3.5).contains(&hours)), "{report}");
        assert!(about(&report["p95"]) && about(&report["highest"]), "{report}");
        let text = world.hand(&["zone", "report", A]).done().stdout;
        for part in ["a.test (p, guideline 10)", "R2", "2026-03-01", "p95", "highest", "h over in the window"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let svg = world.hand(&["zone", "report", A, "--svg"]).done().stdout;
        assert!(svg.starts_with("<svg ") && svg.contains(A) && svg.trim_end().ends_with("</svg>"), "{svg}");
        // Of a zone that was never above its guideline, and of none.
        let quiet = world.hand(&["zone", "report", QUIET, "--json"]).done().json();
        assert_eq!(
            (&quiet["record"]["state"], &quiet["record"]["over_hours"]),
            (&"none".into(), &0.0.into())
        );
        for form in ["--json", "--svg"] {
            world.hand(&["zone", "report", "z.test", form]).failed(1, "z.test");
        }

        let shown = world.hand(&["policy", "show"]).done().stdout;
        let lines = [
            "# version ",
            "detection.sustained_hours = 3.0",
            "contact.grace_days = 1",
            "abuse.top_prefixes = 3",
        ];
        assert!(lines.iter().all(|line| shown.contains(line)), "{shown}");
        let file = world.folder().join("weir.toml").display().to_string();
        assert_eq!(world.hand(&["policy", "show", "--file", &file]).done().stdout, shown);
        let same = world.hand(&["policy", "diff", &file]).done().stdout;
        assert!(same.starts_with("no difference: "), "{same}");

        let other = conf(world).policy("contact.per_case = 2");
        let new = world.write("new.toml", &other.to_string()).display().to_string();
        let diff = world.hand(&["policy", "diff", &new]);
        assert_eq!(diff.code, Some(1), "{diff:?}");
        assert!(
            diff.stdout.contains("contact.per_case: 3 -> 2\n") && diff.stdout.starts_with("version: "),
            "{diff:?}"
        );
        assert_eq!(diff.stdout.lines().count(), 2, "{diff:?}");
        let between = world.hand(&["policy", "diff", &file, "--from", &new]);
        assert!(
            between.code == Some(1) && between.stdout.contains("contact.per_case: 2 -> 3"),
            "{between:?}"
        );
        let bad = world.write("bad.toml", &conf(world).policy("contact.grace_days = \"two\"").to_string());
        world.hand(&["policy", "diff", &bad.display().to_string()]).failed(1, "bad.toml:");
        // A policy that no case can rest on is refused by the agent too, and the one in force stays.
        world.write("weir.toml", &other.to_string());
        eventually("the new policy", SOON, || {
            let now = world.hand(&["policy", "show"]).done().stdout;
            if now.contains("contact.per_case = 2") && now != shown { Ok(()) } else { Err(now) }
        });
        assert_eq!(
            case(&agent, A).expect("its case").state,
            "open",
            "a policy's change decides nothing by itself"
        );
    });
}
