//! Reach-out on a real kernel, by a clock that only tests have: usage becomes one case, nobody is limited by accident, and a
//! limit ends with its agent.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    time::Duration,
};

use rusqlite::Connection;
use serde_json::Value;
use weir_agent::{CaseRecord, CasesReply};
use weir_tests::{
    Agent, Conf, HTTP, ORIGIN, World, eventually,
    origin::{self, Manner},
    websocket, world,
};

const A: &str = "a.test";
/// 2026-03-01T00:00:00Z.
const START: i64 = 1_772_323_200;
const HOUR: i64 = 3600;
/// A walk of virtual days takes the agent seconds.
const PATIENCE: Duration = Duration::from_secs(120);

fn conf(world: &World) -> Conf {
    world
        .conf()
        .plan("p", 10, 100)
        .of_plan("notify = \"automatic\"")
        .zone(A, "p")
        .policy("detection.sustained_hours = 4")
        .policy("contact.grace_days = 1")
}

/// The policy's time.
struct Clock {
    file: PathBuf,
    at: i64,
}

impl Clock {
    fn new(world: &World) -> Self {
        let clock = Self { file: world.folder().join("clock"), at: START };
        fs::write(&clock.file, START.to_string()).expect("a clock");
        clock
    }

    /// Lets so many seconds pass, without waiting for it.
    fn set_forward(&mut self, seconds: i64) {
        self.at += seconds;
        fs::write(&self.file, self.at.to_string()).expect("a clock");
    }

    /// Lets so many seconds pass.
    fn pass(&mut self, agent: &Agent, seconds: i64) -> CasesReply {
        self.set_forward(seconds);
        self.arrive(agent)
    }

    fn arrive(&self, agent: &Agent) -> CasesReply {
        eventually("the policy's time", PATIENCE, || {
            let reply = agent.cases();
            let at = reply.now.unix_timestamp();
            if at == self.at && reply.fault.is_none() { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
    }
}

fn agent(world: &World, clock: &Clock) -> Agent {
    world.agent_by_clock(&conf(world), &clock.file)
}

fn only(reply: &CasesReply) -> CaseRecord {
    assert_eq!(reply.cases.len(), 1, "{reply:?}");
    reply.cases[0].clone()
}

fn database(world: &World) -> Connection {
    Connection::open(world.folder().join("ledger.db")).expect("the ledger")
}

/// What the policy has recorded, in order.
fn facts(world: &World) -> Vec<String> {
    let database = database(world);
    let mut statement = database.prepare("SELECT fact FROM events ORDER BY seq").expect("a query");
    let facts = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let name = |fact: rusqlite::Result<String>| {
        let fact: Value = serde_json::from_str(&fact.expect("a row")).expect("JSON");
        fact["fact"].as_str().expect("a name").to_owned()
    };
    facts.map(name).collect()
}

/// What a worker does when a mail server has taken the only notice.
fn deliver(world: &World, at: i64) {
    let changed = database(world).execute(
        "UPDATE outbox SET state = 'delivered', ended_at = ?1, heard = 0 WHERE recipient = 'customer' AND state = 'due'",
        [at],
    );
    assert_eq!(changed, Ok(1), "one notice is due");
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("a live tunnel");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
}

/// The case that a refusal by a limit names; `None` if the upgrade was granted.
fn refused_by() -> Option<String> {
    match websocket::open(HTTP, A).expect("an answer") {
        websocket::Opened::Switched(_) => None,
        websocket::Opened::Declined(answer) => {
            assert_eq!(websocket::fault_of_refusal(&answer, A, "limit"), None);
            let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
            Some(body["case"].as_str().unwrap_or("none is named").to_owned())
        }
    }
}

#[test]
fn usage_becomes_one_case_and_a_limit_needs_contact_grace_and_approval_and_ends_with_its_agent() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let mut clock = Clock::new(world);
        let mut agent = agent(world, &clock);
        let _proxy = world.proxy(&conf(world), HTTP);
        let mut clients = websocket::connect_many(HTTP, 12, |_| A.to_owned());
        agent.await_live(A, 12, 12);

        // Above the guideline for good: one case, one notice, and nobody notices anything.
        let case = only(&clock.pass(&agent, 3 * HOUR + 1800));
        assert_eq!((case.state.as_str(), case.occasions), ("flagged", 1));
        let case = only(&clock.pass(&agent, HOUR));
        assert_eq!((case.state.as_str(), case.rule.as_deref()), ("open", Some("R2")));
        assert_eq!(facts(world), ["spike_counted", "flagged", "case_opened", "notice_queued"]);
        let id = case.case.expect("a case");
        drop(websocket::connect(HTTP, A));
        assert_eq!(agent.zone(A).refused_total, 0);
        let scrape = agent.scrape();
        for family in
            ["weir_zone_over_guideline_ratio", "weir_zone_budget_spent_ratio", "weir_zone_counted_spikes"]
        {
            assert!(
                scrape.get(&format!("{family}{{zone=\"{A}\",plan=\"p\"}}")).is_some_and(|value| value >= 1.0)
            );
        }
        for family in ["weir_case_state", "weir_case_days_in_state", "weir_notices"] {
            assert!(scrape.families().contains(family), "{family}");
        }

        // A limit without contact is refused, whoever asks, and says why.
        let schedule = |from: i64| {
            let from = time_text(from);
            world.hand(&["case", "schedule-limit", &id, "12", "--from", &from, "--reason", "no room"])
        };
        schedule(clock.at + 30 * 24 * HOUR).failed(1, "no notice on this case was delivered");
        world.hand(&["case", "note", A, "--reason", ""]).failed(1, "a reason has to be given");

        // Delivered; still not before the grace is over.
        deliver(world, clock.at);
        assert_eq!(only(&clock.pass(&agent, 120)).state, "contacted");
        schedule(clock.at + HOUR).failed(1, "the grace after the delivered notice");
        let board = world.hand(&["cases"]).done().stdout;
        assert!(board.contains(&id) && board.contains("contacted") && board.contains("R2"), "{board}");
        schedule(clock.at + 25 * HOUR).done();
        let case = only(&clock.pass(&agent, 26 * HOUR));
        assert_eq!(case.state, "limit_scheduled", "nobody has approved it");
        assert_eq!(refused_by(), None);
        world.hand(&["case", "approve", &id, "--reason", "agreed with sales"]).done();
        let case = only(&clock.pass(&agent, 120));
        assert_eq!((case.state.as_str(), case.approved_by.as_deref()), ("limited", Some("root")));

        // It reaches the kernel: new upgrades are told of their case, established ones stay.
        eventually("a limit in the kernel", PATIENCE, || match refused_by() {
            Some(named) if named == id => Ok(()),
            other => {
                clock.pass(&agent, 60);
                Err(format!("{other:?}"))
            }
        });
        clients.iter_mut().for_each(echoes);

        // Without an agent it ends; the next one goes on with it.
        agent.process.kill();
        eventually("the end of the lease", PATIENCE, || match refused_by() {
            None => Ok(()),
            Some(case) => Err(case),
        });
        let agent = self::agent(world, &clock);
        assert_eq!(only(&clock.pass(&agent, 120)).state, "limited");
        world.hand(&["case", "lift", &id, "--reason", "moved to another plan"]).done();
        assert_eq!(only(&clock.pass(&agent, 60)).state, "in_dialogue");
        assert_eq!(refused_by(), None);
        clients.iter_mut().for_each(echoes);
        world.hand(&["ledger", "verify"]).done();
        let report = world.hand(&["zone", "report", A]).done().stdout;
        assert!(report.contains("2026-03-01") && report.contains("in_dialogue"), "{report}");
        let policy = world.hand(&["policy", "show"]).done().stdout;
        assert!(policy.contains("contact.grace_days = 1"), "{policy}");
    });
}

/// RFC 3339 of seconds since 1970, by SQLite.
fn time_text(seconds: i64) -> String {
    let memory = Connection::open_in_memory().expect("a database");
    let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?1, 'unixepoch')";
    memory.query_row(sql, [seconds], |row| row.get(0)).expect("a time")
}

/// `WEIR_KILLS` says how often; 20 if it says nothing.
fn kills() -> u32 {
    std::env::var("WEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

#[test]
fn an_agent_that_is_killed_at_any_moment_loses_no_event_and_doubles_none() {
    world(|world| {
        let mut clock = Clock::new(world);
        let mut agent = agent(world, &clock);
        let _proxy = world.proxy(&conf(world), HTTP);
        origin::serve(world, ORIGIN, Manner::Echo);
        let _clients = websocket::connect_many(HTTP, 12, |_| A.to_owned());
        agent.await_live(A, 12, 12);
        let kills = kills();
        // 6 h in all, over 4 h of which a case is opened.
        let step = 6 * HOUR / i64::from(kills);
        let mut seed = 1_u64;
        for _ in 0..kills {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            clock.set_forward(step);
            // Somewhere in the walk, or behind it.
            let pause = Duration::from_micros((seed >> 33) % 1_500_000);
            std::thread::sleep(pause);
            agent.process.kill();
            agent = self::agent(world, &clock);
        }
        let case = only(&clock.arrive(&agent));
        assert_eq!(case.state, "open");
        assert_eq!(facts(world), ["spike_counted", "flagged", "case_opened", "notice_queued"]);
        let rows: i64 =
            database(world).query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("rows");
        assert_eq!(rows, 1, "one mail");
        world.hand(&["ledger", "verify"]).done();
        assert_eq!(agent.zone(A).refused_total, 0);
    });
}
