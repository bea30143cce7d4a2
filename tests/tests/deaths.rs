//! The whole dialogue, with its mails and events, by an agent that is killed over and over at moments of chance: at its start, in
//! the middle of a transaction, between sending and recording, in the middle of an operator's act. What the receivers and the
//! ledger have at the end is what an agent that never died would have left.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::Value;
use time::{OffsetDateTime, macros::datetime};
use weir_agent::{CasesReply, LedgerReader};
use weir_reachout::{fact::Fact, ledger::Entry};
use weir_tests::{
    ADMIN, Agent, Conf, HTTP, ORIGIN, Process, World, ZoneConf,
    clock::Clock,
    eventually, hand, hook, host, http,
    mail::MailServer,
    origin::{self, Manner},
    python, websocket, world,
};

const A: &str = "a.test";
const LINKS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9466);
const HOOK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8000);
const SMTP_PORT: u16 = 2525;
const PATIENCE: Duration = Duration::from_secs(180);
/// A life is at most so long: a start takes a good second of it, an hour of the story some milliseconds a minute.
const LONGEST_LIFE: Duration = Duration::from_millis(3500);

/// `WEIR_KILLS` says how often; 24 if it says nothing.
fn kills() -> u32 {
    env::var("WEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24)
}

fn conf(world: &World) -> Conf {
    world
        .conf()
        .plan("open", 10, 100)
        .of_plan("notify = \"automatic\"")
        .with_zone(ZoneConf::new(A, "open").line("contact = \"ann@customer.example\""))
        .policy("detection.sustained_hours = 4")
        .policy("contact.grace_days = 1")
        .policy("contact.case_gap_days = 1")
        .policy("contact.zone_gap_hours = 24")
        .section(&format!(
            "[notices]\nlinks = \"{LINKS}\"\nlink_url = \"http://{LINKS}\"\nlink_keys = \"links.keys\"\ntimeout = \"5s\""
        ))
        .section(&format!(
            "[notices.mail]\nserver = \"127.0.0.1:{SMTP_PORT}\"\nsecurity = \"none\"\nfrom = \"limits@edge.example\""
        ))
        .section(&format!("[notices.webhook]\nurl = \"http://{HOOK}/weir\""))
}

/// What somebody does in the story, as soon as the ledger has what goes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Only time passes.
    None,
    /// The customer, by the link of the first letter.
    Answer,
    Schedule,
    Approve,
    Lift,
    Resolve,
}

/// A chapter: up to which hour time may go, what is done, by which entry it is over, and how much of the kills it gets.
struct Chapter {
    hour: f64,
    deed: Deed,
    over: fn(&Fact) -> bool,
    times: usize,
    share: f64,
}

const STORY: [Chapter; 8] = [
    Chapter {
        hour: 5.0,
        deed: Deed::None,
        over: |fact| matches!(fact, Fact::NoticeDelivered { .. }),
        times: 1,
        share: 0.25,
    },
    Chapter {
        hour: 30.0,
        deed: Deed::None,
        over: |fact| matches!(fact, Fact::NoticeDelivered { .. }),
        times: 2,
        share: 0.25,
    },
    Chapter {
        hour: 31.0,
        deed: Deed::Answer,
        over: |fact| matches!(fact, Fact::Answered { .. }),
        times: 1,
        share: 0.1,
    },
    Chapter {
        hour: 55.0,
        deed: Deed::Schedule,
        // Its letter has to arrive while it is still scheduled: later it would not be true any more.
        over: |fact| matches!(fact, Fact::NoticeDelivered { .. }),
        times: 3,
        share: 0.1,
    },
    Chapter {
        hour: 55.5,
        deed: Deed::Approve,
        over: |fact| matches!(fact, Fact::LimitApproved { .. }),
        times: 1,
        share: 0.1,
    },
    Chapter {
        hour: 58.0,
        deed: Deed::None,
        over: |fact| matches!(fact, Fact::LimitBegan { .. }),
        times: 1,
        share: 0.1,
    },
    Chapter {
        hour: 58.5,
        deed: Deed::Lift,
        over: |fact| matches!(fact, Fact::LimitLifted { .. }),
        times: 1,
        share: 0.05,
    },
    Chapter {
        hour: 59.0,
        deed: Deed::Resolve,
        over: |fact| matches!(fact, Fact::CaseClosed { .. }),
        times: 1,
        share: 0.05,
    },
];

/// Between 0 and 1, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

fn entries(ledger: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let Ok(reader) = LedgerReader::open(ledger) else { return entries };
    reader
        .each(|entry| {
            entries.push(entry);
            Ok(())
        })
        .expect("a ledger that is whole");
    entries
}

fn fact(entry: &Entry) -> Fact {
    entry.fact().expect("a fact")
}

/// The first words of an entry's fact: what it is.
fn name(entry: &Entry) -> String {
    let fact: Value = serde_json::from_str(&entry.fact).expect("JSON");
    fact["fact"].as_str().expect("a name").to_owned()
}

impl Chapter {
    fn is_over(&self, entries: &[Entry]) -> bool {
        entries.iter().filter(|entry| (self.over)(&fact(entry))).count() >= self.times
    }
}

/// What an operator or a customer does who is not answered: he asks again, until he is or the agent is gone.
struct Doing {
    /// By the agent's clock, which may still be on its way there.
    not_before: OffsetDateTime,
    conf: PathBuf,
    from: String,
    page: Option<String>,
}

impl Doing {
    fn until(&self, deed: Deed, gone: &AtomicBool) {
        while !gone.load(Relaxed) {
            let done = match (deed, &self.page) {
                (Deed::None, _) | (Deed::Answer, None) => return,
                _ if !self.is_time() => false,
                (Deed::Answer, Some(page)) => {
                    http::post(LINKS, "notices", page, "answer=event&words=A+launch")
                        .is_ok_and(|answer| answer.status == 200)
                }
                (Deed::Schedule, _) => {
                    self.case(&["schedule-limit", A, "5", "--from", &self.from, "--reason", "far above"])
                }
                (Deed::Approve, _) => self.case(&["approve", A, "--reason", "agreed"]),
                (Deed::Lift, _) => self.case(&["lift", A, "--reason", "they moved it"]),
                (Deed::Resolve, _) => self.case(&["resolve", A, "--reason", "all is well"]),
            };
            if done {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_time(&self) -> bool {
        let Ok(answer) = http::get(ADMIN, "admin", "/api/cases") else { return false };
        let reply = serde_json::from_slice::<CasesReply>(&answer.body);
        // An agent that does not know its past yet does not know its time either.
        reply.is_ok_and(|reply| !reply.cases.is_empty() && reply.now >= self.not_before)
    }

    fn case(&self, args: &[&str]) -> bool {
        hand::run(&self.conf, &[&["case"], args].concat()).code == Some(0)
    }
}

/// What came to a receiver, by its idempotency key; all that came under one key are the same.
#[derive(Default)]
struct Received(BTreeMap<String, (Value, u32)>);

impl Received {
    fn take(&mut self, key: &str, what: Value) {
        let (first, times) = self.0.entry(key.to_owned()).or_insert_with(|| (what.clone(), 0));
        assert_eq!(*first, what, "{key} is not what it was");
        *times += 1;
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// How often something came that had come before.
    fn again(&self) -> u32 {
        self.0.values().map(|(_, times)| times - 1).sum()
    }
}

/// The link to the page, out of a letter.
fn link(mail: &Value) -> String {
    let text = mail["text"].as_str().expect("a text");
    let start = text.find("/n/").expect("a link");
    text[start..].split(['#', '\r', '\n', ' ']).next().expect("a link").to_owned()
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_the_dialogue_loses_and_doubles_nothing() {
    // Made, if it has to be, while there is a network.
    python::interpreter();
    world(|world| {
        let clock = Clock::new(world, datetime!(2026-03-01 00:00 UTC));
        let events = hook::listen(HOOK);
        // So that there is time to die in between taking a letter and hearing of it.
        let mut server = MailServer::start(world, SMTP_PORT, &["--slow", "0.4"]);
        let letters = server.0.lines();
        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world);
        let ledger = world.folder().join("ledger.db");
        let (mut mails, mut told) = (Received::default(), Received::default());
        let hear = |mails: &mut Received, told: &mut Received| {
            for line in letters.try_iter() {
                let mail: Value = serde_json::from_str(&line).expect("JSON");
                let key = mail["headers"]["message-id"].as_str().expect("an id").to_owned();
                mails.take(&key, mail);
            }
            events.try_iter().for_each(|event| {
                let key = event["id"].as_str().expect("an id").to_owned();
                told.take(&key, event);
            });
        };

        let agent = world.agent_by_clock(&conf, clock.file());
        let _proxy = world.proxy(&conf, HTTP);
        let _clients = websocket::connect_many(HTTP, 12, |_| A.to_owned());
        agent.await_live(A, 12, 12);
        drop(agent);

        let (kills, mut chance, mut killed) = (kills(), Chance(1), 0);
        let page = |mails: &Received| {
            mails.0.iter().find(|(id, _)| id.contains(".first.1@")).map(|(_, (mail, _))| link(mail))
        };
        let doing = |mails: &Received, hour: f64| Doing {
            not_before: clock.at(hour),
            conf: world.folder().join("weir.toml"),
            from: clock.hour(57.0),
            page: page(mails),
        };
        let mut hour = 0.0;
        for chapter in &STORY {
            let mut lives = (f64::from(kills) * chapter.share).ceil() as u32;
            let until = f64::max(chapter.hour, hour);
            // The second half of the lives is at the chapter's end, where somebody does something.
            let step = (until - hour) / f64::from(lives.div_ceil(2));
            // What is left after them is done by one that nobody kills.
            while lives > 0 && killed < kills {
                (lives, killed) = (lives - 1, killed + 1);
                hour = f64::min(hour + step, until);
                clock.set(hour);
                hear(&mut mails, &mut told);
                let gone = Arc::new(AtomicBool::new(false));
                let actor = {
                    let (deed, doing, gone) = (chapter.deed, doing(&mails, until), Arc::clone(&gone));
                    thread::spawn(move || doing.until(deed, &gone))
                };
                let mut process = start(world, &clock);
                thread::sleep(LONGEST_LIFE.mul_f64(chance.next()));
                process.kill();
                gone.store(true, Relaxed);
                actor.join().expect("whoever acts ends");
            }
            hour = until;
            clock.set(hour);
            let agent = world.agent_by_clock(&conf, clock.file());
            let gone = Arc::new(AtomicBool::new(chapter.is_over(&entries(&ledger))));
            let actor = {
                hear(&mut mails, &mut told);
                let (deed, doing, gone) = (chapter.deed, doing(&mails, until), Arc::clone(&gone));
                thread::spawn(move || doing.until(deed, &gone))
            };
            eventually("the end of a chapter", PATIENCE, || {
                hear(&mut mails, &mut told);
                // What was under way when somebody died is sent again minutes later.
                hour += 0.01;
                clock.set(hour);
                let entries = entries(&ledger);
                if chapter.is_over(&entries) {
                    return Ok(());
                }
                Err(entries.iter().map(name).collect::<Vec<_>>().join(", "))
            });
            gone.store(true, Relaxed);
            actor.join().expect("whoever acts ends");
            drop(agent);
        }

        let agent = world.agent_by_clock(&conf, clock.file());
        let rows = eventually("the outbox is empty", PATIENCE, || {
            hour += 0.05;
            clock.set(hour);
            hear(&mut mails, &mut told);
            let rows = rows(&ledger);
            if rows.iter().all(|(_, state)| state == "delivered") {
                Ok(rows)
            } else {
                Err(format!("{rows:?}"))
            }
        });
        hear(&mut mails, &mut told);
        check(&agent, &entries(&ledger), rows.len(), &mails, &told);
        world.hand(&["ledger", "verify"]).done();
        println!(
            "{killed} kills: {} letters, {} of them once more under the same key; {} events, {} once more",
            mails.0.len(),
            mails.again(),
            told.0.len(),
            told.again()
        );
    });
}

fn start(world: &World, clock: &Clock) -> Process {
    let variable = format!("WEIR_TEST_CLOCK={}", clock.file().display());
    let (weir, conf) = (host::weir(), world.folder().join("weir.toml"));
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let args = [variable, text(&weir), "agent".to_owned(), "--config".to_owned(), text(&conf)];
    Process::start(world.folder(), "agent", Path::new("/usr/bin/env"), args.iter().map(String::as_str))
}

fn rows(ledger: &Path) -> Vec<(String, String)> {
    let database = rusqlite::Connection::open(ledger).expect("the ledger");
    let mut statement = database.prepare("SELECT key, state FROM outbox ORDER BY id").expect("a query");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

fn check(agent: &Agent, entries: &[Entry], rows: usize, mails: &Received, told: &Received) {
    let case = entries.iter().find_map(|entry| match fact(entry) {
        Fact::CaseOpened { case, .. } => Some(case.to_string()),
        _ => None,
    });
    let case = case.expect("a case");
    // Deliveries are heard of when they are; everything else has its place.
    let names: Vec<String> = entries.iter().map(name).filter(|name| name != "notice_delivered").collect();
    assert_eq!(
        names,
        [
            "spike_counted",
            "flagged",
            "case_opened",
            "notice_queued",
            "notice_queued",
            "answered",
            "limit_scheduled",
            "notice_queued",
            "limit_approved",
            "limit_began",
            "limit_lifted",
            "case_closed"
        ]
    );
    let mut delivered: Vec<String> = entries
        .iter()
        .filter_map(|entry| match fact(entry) {
            Fact::NoticeDelivered { notice } => Some(notice.to_string()),
            _ => None,
        })
        .collect();
    delivered.sort();
    let keys = ["first/1", "limit_scheduled/3", "reminder/2"].map(|key| format!("{case}/{key}"));
    assert_eq!(delivered, keys, "each delivery is heard of once");
    let ids = keys.map(|key| format!("<{}@edge.example>", key.replace('/', ".")));
    assert_eq!(mails.keys(), ids, "each letter came, and no other");
    let kinds: Vec<&str> = told.0.values().filter_map(|(event, _)| event["type"].as_str()).collect();
    let mut kinds = kinds;
    kinds.sort_unstable();
    assert_eq!(kinds, ["dev.weir.answered", "dev.weir.case_closed", "dev.weir.case_opened"]);
    assert_eq!(rows, 6, "rows of the outbox");
    let case = &agent.cases().cases[0];
    assert_eq!((case.state.as_str(), case.closing.as_deref()), ("closed", Some("resolved")));
    let zone = agent.zone(A);
    assert_eq!(
        (zone.refused_total, zone.lease_cap),
        (0, None),
        "nobody was refused, and nothing is in force"
    );
}
