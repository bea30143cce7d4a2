//! The operator's hand: caps, blocks and kills, each recorded before it takes effect, and ended by the kernel.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use weir_tests::{
    ADMIN, Agent, Conf, HTTP, ORIGIN, SOON, World, eventually, hand, http,
    origin::{self, Manner},
    websocket, world,
};

const A: &str = "a.test";
const B: &str = "b.test";

fn conf(world: &World) -> Conf {
    world.conf().plan("p", 10, 100).zone(A, "p").zone(B, "p")
}

fn open(zone: &str, count: usize) -> Vec<TcpStream> {
    websocket::connect_many(HTTP, count, |_| zone.to_owned())
}

/// Why the next upgrade is not refused for this reason; `None` if it is.
fn fault_of_refusal(zone: &str, reason: &str) -> Option<String> {
    match websocket::open(HTTP, zone).expect("an answer") {
        websocket::Opened::Switched(_) => Some("it was granted".to_owned()),
        websocket::Opened::Declined(answer) => websocket::fault_of_refusal(&answer, zone, reason),
    }
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("a live tunnel");
    let mut back = [0; 5];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"hello");
}

fn kill(agent: Agent) {
    let Agent { mut process, .. } = agent;
    process.kill();
}

fn cap(world: &World, zone: &str, cap: &str, time: &str) -> hand::Said {
    world.hand(&["cap", "set", zone, cap, "--for", time, "--verdict", "x30 in a minute", "--json"])
}

#[test]
fn a_cap_refuses_what_is_above_it_and_leaves_what_is_established() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf(world));
        let _proxy = world.proxy(&conf(world), HTTP);
        let mut clients = open(A, 3);

        let reply = cap(world, A, "2", "1h").done().json();
        assert_eq!((&reply["act"]["act"], &reply["act"]["websockets"]), (&"cap_set".into(), &2.into()));
        assert_eq!(fault_of_refusal(A, "verdict"), None);
        clients.iter_mut().for_each(echoes);
        assert_eq!(agent.live(A), (3, 3), "whoever was refused is gone, whoever was there stays");
        drop(open(B, 5));

        let zone = agent.zone(A);
        assert_eq!((zone.refused["verdict"], zone.refused_total), (1, 1));
        let event = &agent.events_of("refused")[0];
        assert_eq!((event.reason.as_deref(), event.bound), (Some("verdict"), Some(2)));
        let scrape = agent.scrape();
        let labels = format!("{{zone=\"{A}\",plan=\"p\",kind=\"verdict\"}}");
        assert_eq!(scrape.get(&format!("weir_zone_lease_active{labels}")), Some(2.0));
        assert_eq!((scrape.value("weir_acts_in_force"), scrape.value("weir_ledger_events")), (1.0, 1.0));

        let acts = world.hand(&["acts", "--json"]).done().json();
        let act = &acts["acts"][0];
        assert_eq!((&act["who"], &act["reason"]), (&"root".into(), &"x30 in a minute".into()));
        assert_eq!((&act["zone"], &act["in_force"]), (&A.into(), &true.into()));
        assert!(act["until"].is_string() && act["at"].is_string(), "{act}");
        let table = world.hand(&["acts"]).done().stdout;
        assert!(table.contains("a.test has at most 2 live WebSockets") && table.contains("root"), "{table}");

        world.hand(&["cap", "clear", A, "--reason", "over"]).done();
        clients.extend(open(A, 2));
        assert_eq!(agent.live(A).1, 5);
        assert!(agent.scrape().get(&format!("weir_zone_lease_active{labels}")).is_none());
        let history = world.hand(&["acts", "--history", "--json"]).done().json();
        let named: Vec<_> = history["acts"].as_array().expect("acts").iter().map(|act| &act["act"]).collect();
        assert_eq!(named, ["cap_clear", "cap_set"], "the newest first");
        drop(clients);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn a_cap_ends_in_the_kernel_although_no_agent_lives() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf(world));
        let _proxy = world.proxy(&conf(world), HTTP);
        let _held = open(A, 1);
        cap(world, A, "1", "6s").done();
        assert_eq!(fault_of_refusal(A, "verdict"), None);
        kill(agent);
        let opened =
            eventually("the end of the lease", SOON, || match websocket::open(HTTP, A).expect("an answer") {
                websocket::Opened::Switched(stream) => Ok(stream),
                websocket::Opened::Declined(answer) => Err(answer.text()),
            });
        drop(opened);
        cap(world, A, "1", "1h").failed(3, "start `weir agent`");
    });
}

#[test]
fn a_block_lets_nobody_new_in_until_it_is_lifted() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf(world));
        let _proxy = world.proxy(&conf(world), HTTP);
        let mut clients = open(A, 2);
        world.hand(&["zone", "block", A, "--for", "1h", "--reason", "credentials leaked"]).done();
        let answer = websocket::open(HTTP, A).expect("an answer").declined();
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("\"reason\":\"zone_blocked\""), "{}", answer.text());
        assert_eq!(http::get(HTTP, A, "/").expect("an answer").status, 403, "plain requests neither");
        clients.iter_mut().for_each(echoes);
        clients.extend(open(B, 1));

        // A reload, and an agent that comes back, keep it.
        let longer = conf(world).zone("c.test", "p");
        kill(agent);
        let agent = world.agent(&longer);
        assert_eq!(websocket::open(HTTP, A).expect("an answer").declined().status, 403);
        world.hand(&["zone", "unblock", A, "--reason", "new credentials"]).done();
        clients.extend(open(A, 1));
        world.hand(&["zone", "unblock", A, "--reason", "again"]).failed(1, "not in force");
        drop(clients);
        agent.await_empty();
    });
}

#[test]
fn a_kill_ends_exactly_the_sockets_that_are_meant() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf(world));
        let _proxy = world.proxy(&conf(world), HTTP);
        let (mut of_a, mut of_b) = (open(A, 5), open(B, 3));
        // Not weir's: on a port that it does not listen on.
        let others = TcpListener::bind("127.0.0.1:7777").expect("a listener");
        let mut theirs = TcpStream::connect("127.0.0.1:7777").expect("a connection");
        let (mut accepted, _) = others.accept().expect("a connection");

        let counted = world.hand(&["kill", "--zone", A, "--dry-run", "--json"]).done().json();
        assert_eq!((&counted["sockets"], &counted["act"]), (&5.into(), &serde_json::Value::Null));
        world.hand(&["kill", "--zone", A, "--reason", "hijacked"]).failed(1, "--yes");
        world.hand(&["kill", "--zone", "a.tes", "--yes", "--reason", "x"]).failed(1, "there is `a.test`");
        of_a.iter_mut().for_each(echoes);
        assert_eq!(agent.scrape().value("weir_ledger_events"), 0.0, "nothing was done so far");

        let said =
            world.hand(&["kill", "--zone", A, "--yes", "--reason", "hijacked", "--json"]).done().json();
        assert_eq!((&said["sockets"], &said["ended"]), (&5.into(), &5.into()));
        agent.await_live(A, 0, 0);
        for client in &mut of_a {
            assert!(client.read(&mut [0; 8]).is_ok_and(|bytes| bytes == 0) || client.take_error().is_ok());
        }
        of_b.iter_mut().for_each(echoes);
        assert_eq!(agent.live(B), (3, 3));

        let nobody = world.hand(&["kill", "--source", "192.0.2.0/24", "--dry-run", "--json"]).done().json();
        assert_eq!(nobody["sockets"], 0);
        let said = world.hand(&["kill", "--source", "127.0.0.1", "--yes", "--reason", "bots"]).done().stdout;
        assert!(said.contains("3 sockets from 127.0.0.1 ended"), "{said}");
        agent.await_empty();
        theirs.write_all(b"x").expect("their connection lives");
        accepted.read_exact(&mut [0]).expect("and carries bytes");
        let mut again = open(A, 1);
        again.iter_mut().for_each(echoes);
        agent.assert_never_drifted();
    });
}

#[test]
fn what_was_recorded_is_done_by_the_next_agent_if_the_first_dies_in_between() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let dying = world.agent_to_die(&conf(world), "recorded");
        let _proxy = world.proxy(&conf(world), HTTP);
        let mut clients = open(A, 2);
        cap(world, A, "1", "1h").failed(1, "went away");
        clients.extend(open(A, 1));
        drop(dying);

        let agent = world.agent(&conf(world));
        assert!(agent.host().adopted);
        assert_eq!(fault_of_refusal(A, "verdict"), None, "the record stands, so the cap does");
        let acts = world.hand(&["acts", "--json"]).done().json();
        assert_eq!(acts["acts"].as_array().map(Vec::len), Some(1));
        // Done twice, it is the same.
        kill(agent);
        let _agent = world.agent(&conf(world));
        assert_eq!(fault_of_refusal(A, "verdict"), None);
        world.hand(&["ledger", "verify"]).done();
    });
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    world(|world| {
        // A disk of its own, in a mount namespace that goes with this thread and its children.
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("mounts of our own");
        let disk = world.folder().join("disk");
        fs::create_dir(&disk).expect("a folder");
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=512k")).expect("a disk");

        origin::serve(world, ORIGIN, Manner::Echo);
        let conf = conf(world).ledger("disk/ledger.db");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let mut clients = open(A, 2);
        cap(world, A, "5", "1h").done();

        let filler = disk.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        drop(file);
        cap(world, A, "1", "1h").failed(1, "cannot be recorded");
        world.hand(&["zone", "block", A, "--for", "1h", "--reason", "x"]).failed(1, "cannot be recorded");
        world.hand(&["kill", "--zone", A, "--yes", "--reason", "x"]).failed(1, "cannot be recorded");
        clients.extend(open(A, 1));
        clients.iter_mut().for_each(echoes);
        let scrape = agent.scrape();
        assert_eq!(scrape.value("weir_ledger_up"), 0.0, "and it is an alarm");
        assert!(scrape.value("weir_ledger_errors_total") >= 3.0);
        assert_eq!(scrape.value("weir_ledger_events"), 1.0);
        assert!(world.hand(&["acts"]).done().stdout.contains("no act can be taken"));
        assert_eq!(agent.get("/readyz").status, 200, "counting goes on");

        fs::remove_file(&filler).expect("room");
        cap(world, A, "1", "1h").done();
        assert_eq!(fault_of_refusal(A, "verdict"), None);
        assert_eq!(agent.scrape().value("weir_ledger_up"), 1.0);
        world.hand(&["ledger", "verify"]).done();
    });
}

#[test]
fn a_ledger_that_was_edited_is_an_alarm_and_changes_no_lease() {
    world(|world| {
        origin::serve(world, ORIGIN, Manner::Echo);
        let agent = world.agent(&conf(world));
        let _proxy = world.proxy(&conf(world), HTTP);
        let _held = open(A, 1);
        cap(world, A, "1", "1h").done();
        cap(world, B, "50", "1h").done();
        let head = world.hand(&["ledger", "verify", "--json"]).done().json()["head"].clone();
        let copy = world.folder().join("copy.db");
        world.hand(&["ledger", "backup", copy.to_str().expect("a path")]).done();
        kill(agent);

        edit(&world.folder().join("ledger.db"), "UPDATE events SET reason = 'nothing' WHERE seq = 1");
        world.hand(&["ledger", "verify"]).failed(1, "ledger entry 1 was changed");
        let agent = world.agent(&conf(world));
        assert_eq!(fault_of_refusal(A, "verdict"), None, "what the kernel has goes on to its end");
        cap(world, A, "9", "1h").failed(1, "ledger entry 1 was changed");
        assert_eq!(agent.scrape().value("weir_ledger_up"), 0.0);
        kill(agent);

        fs::rename(&copy, world.folder().join("ledger.db")).expect("the backup in its place");
        for leftover in ["ledger.db-wal", "ledger.db-shm"] {
            let _ = fs::remove_file(world.folder().join(leftover));
        }
        let _agent = world.agent(&conf(world));
        let head = head.as_str().expect("a head").to_owned();
        world.hand(&["ledger", "verify", "--head", &head]).done();
        cap(world, A, "9", "1h").done();
        let exported = world.hand(&["ledger", "export"]).done().stdout;
        let lines: Vec<serde_json::Value> =
            exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.iter().map(|line| &line["seq"]).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(lines[0]["actor"]["name"], "root");
    });
}

fn edit(ledger: &std::path::Path, sql: &str) {
    let connection = rusqlite::Connection::open(ledger).expect("the ledger");
    connection.execute_batch(&format!("DROP TRIGGER events_are_not_changed; {sql}")).expect("an edit");
}

#[test]
fn only_operators_may_act_and_only_through_the_socket() {
    world(|world| {
        let agent = world.agent(&conf(world));
        let socket = world.socket();
        let mode = fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let knock = |name: &str, uid: &str| {
            let path = socket.to_str().expect("a path in UTF-8");
            world.helper(name, ["knock", uid, path]).hear()
        };
        assert_eq!(knock("root", "0"), "200 200");
        assert_eq!(knock("nobody", "65534"), "PermissionDenied PermissionDenied");

        // Others may connect as soon as others may act; the kernel says who they are.
        let named = conf(world).agent("operators = [\"daemon\"]");
        world.write("weir.toml", &named.to_string());
        eventually("a socket for others", SOON, || match knock("daemon", "1").as_str() {
            "200 200" => Ok(()),
            other => Err(other.to_owned()),
        });
        assert_eq!(knock("nobody-again", "65534"), "403 403");

        let act = r#"{"act":"zone_block","zone":"a.test","for_seconds":60,"reason":"x"}"#;
        let answer = http::post(ADMIN, "admin", "/api/acts", act).expect("an answer");
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("for reading only"), "{}", answer.text());
        assert_eq!(agent.get("/api/acts").status, 200);

        // What is not understood is refused with its reason.
        for (content, status, why) in [
            ("{", 400, ""),
            (r#"{"act":"explode"}"#, 422, "explode"),
            (r#"{"act":"zone_block","zone":"a.test","for_seconds":60,"reason":" "}"#, 422, "reason"),
            (r#"{"act":"zone_block","zone":"a.test","for_seconds":0,"reason":"x"}"#, 422, "30 days"),
            (r#"{"act":"zone_block","zone":"z.test","for_seconds":60,"reason":"x"}"#, 404, "z.test"),
            (r#"{"act":"zone_block","zone":"a.test","for_seconds":60,"reason":"x","more":1}"#, 422, "more"),
            (
                r#"{"act":"cap_set","zone":"a.test","websockets":100,"for_seconds":60,"verdict":"x"}"#,
                422,
                "already",
            ),
        ] {
            let answer = hand::ask(&socket, "/api/acts", Some(content)).expect("an answer");
            assert_eq!(answer.status, status, "{content}: {}", answer.text());
            assert!(answer.text().contains(why), "{content}: {}", answer.text());
        }
        let long = format!(r#"{{"act":"zone_unblock","zone":"a.test","reason":"{}"}}"#, "x".repeat(20_000));
        assert_eq!(hand::ask(&socket, "/api/acts", Some(&long)).expect("an answer").status, 413);
        assert_eq!(agent.scrape().value("weir_ledger_events"), 0.0, "nothing of it was recorded");
    });
}

#[test]
fn a_crowd_of_strangers_keeps_no_operator_out() {
    // What an operator's connection may keep its place for without a word.
    const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
    world(|world| {
        let agent = world.agent(&conf(world).agent("operators = [\"daemon\"]"));
        let socket = world.socket();
        let path = socket.to_str().expect("a path in UTF-8");
        let began = Instant::now();
        let mut crowd = world.helper("crowd", ["crowd", "65534", path, "200"]);
        assert_eq!(crowd.hear(), "there");
        world.hand(&["acts"]).done();
        assert_eq!(world.helper("daemon", ["knock", "1", path]).hear(), "200 200");
        assert_eq!(crowd.hear(), "let go");
        assert!(began.elapsed() < HEAD_TIMEOUT, "nobody waited for a stranger: {:?}", began.elapsed());

        // An operator who connects and says nothing keeps out nobody but himself.
        let mut held = world.helper("held", ["crowd", "1", path, "30"]);
        assert_eq!(held.hear(), "there");
        world.hand(&["acts"]).done();
        let warnings = agent.process.log().matches("no operator connected").count();
        assert!(warnings <= 3, "{warnings} warnings");
    });
}

#[test]
fn a_stale_socket_is_replaced_and_a_stopped_agent_leaves_none() {
    world(|world| {
        let agent = world.agent(&conf(world));
        kill(agent);
        assert!(world.socket().exists(), "a killed agent cannot tidy up");
        let mut agent = world.agent(&conf(world));
        world.hand(&["acts"]).done();
        agent.process.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(agent.process.wait(SOON).success());
        assert!(!world.socket().exists());
        world.hand(&["acts"]).failed(3, "no weir agent answers");
    });
}
