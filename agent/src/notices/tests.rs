//! The worker and the pages on a ledger of their own, with a mail server that takes everything and says what it took.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::Runtime;
use weir_config::Config;
use weir_notices::answer::Answered;
use weir_reachout::{
    command::Command,
    contact::NoticeKind,
    decision::{Decision, Event, Rule},
    fact::Answer,
    outbox::{NewMessage, Recipient, Subject},
    policy::Policy,
    slot::{Judgement, SlotIndex},
    zone::{Input, Terms, Zone},
};

use super::{AnswerDesk, Links, Pending, Tally, pages, post::Post, serve};
use crate::{
    ledger::{Batch, CaseRow, GuidelineRow, Ledger, Packed, pack_row},
    state::lock,
};

const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);
const ZONE: &str = "a.test";
const SOON: Duration = Duration::from_secs(60);

struct Bench {
    folder: TempDir,
    runtime: Runtime,
    ledger: Ledger,
    case: String,
    mail: Receiver<String>,
    post: Arc<Post>,
}

impl Bench {
    /// A zone with a day far above its guideline, a case, and its first notice in the outbox.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (server, mail) = mail_server();
        let text = format!(
            r#"
[proxy]
http = ["127.0.0.1:80"]
[plans.free]
guideline = 100
[plans.pro]
guideline = 1000
[[zones]]
name = "{ZONE}"
plan = "free"
origin = "ws://127.0.0.1:9001"
contact = "ann@a.test"
[notices]
sender_name = "Example Edge"
links = "127.0.0.1:9466"
link_url = "https://notices.example.com"
link_keys = "links.keys"
timeout = "5s"
[notices.mail]
server = "{server}"
security = "none"
from = "limits@edge.example"
"#
        );
        let config = Config::parse(&text, folder.path()).unwrap();
        let post = Arc::new(Post::new(&config, Policy::default(), None, NOW).unwrap());
        let (ledger, loaded) = Ledger::start(folder.path().join("ledger.db"));
        loaded.unwrap();
        let case = runtime.block_on(seed(&ledger));
        Self { folder, runtime, ledger, case, mail, post }
    }

    fn states(&self) -> Vec<String> {
        let tally = self.runtime.block_on(self.ledger.run(|store| store.outbox_tally())).unwrap();
        tally.into_iter().map(|(_, _, state, _)| state).collect()
    }

    /// Lets the worker work until it is told to stop.
    fn work(&self) -> (tokio::task::JoinHandle<()>, Arc<Tally>) {
        let (ledger, post, tally) = (self.ledger.clone(), Arc::clone(&self.post), Arc::<Tally>::default());
        let worker = serve(ledger, Arc::clone(&tally), move || Arc::clone(&post), || NOW);
        (self.runtime.spawn(worker), tally)
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = std::time::Instant::now() + SOON;
        while !holds() {
            assert!(std::time::Instant::now() < end, "waited for this: {what}; rows are {:?}", self.states());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn page(&self) -> String {
        let draft = self.runtime.block_on(async {
            let about = self.post.dossier(&self.ledger, ZONE, NOW).await.unwrap();
            self.post.about(&about, &self.case, (NoticeKind::First, 1), NOW).unwrap()
        });
        draft.links.unwrap().page.strip_prefix("https://notices.example.com").unwrap().to_owned()
    }
}

async fn seed(ledger: &Ledger) -> String {
    let policy = Policy::default();
    let until = SlotIndex::containing(NOW);
    let decision = Decision {
        at: until.start(),
        event: Event::CaseOpened,
        rule: Some(Rule::R2),
        over_hours: 36.1,
        counted_spikes: 1,
        coverage: 1.0,
    };
    let input = Input::Decided { decision, evidence: "{}".to_owned() };
    let terms = Terms { automatic_notices: true };
    let step = Zone::new(ZONE).decide(&policy, terms, NOW, input).unwrap();
    let case = step.next.case().unwrap().id().to_string();
    let messages = step.commands.iter().filter_map(|command| match command {
        Command::SendNotice { notice } => Some(NewMessage {
            key: notice.to_string(),
            way: "mail".to_owned(),
            recipient: Recipient::Customer,
            subject: Subject::Notice(notice.kind),
            zone: ZONE.to_owned(),
            case: Some(notice.case.to_string()),
            number: Some(notice.number),
            content: "{}".to_owned(),
            queued_at: NOW,
        }),
        _ => None,
    });
    let batch = Batch {
        policy: Some((policy.version().to_string(), serde_json::to_string(policy.params()).unwrap())),
        messages: messages.collect(),
        drafts: step.entries,
        cases: vec![CaseRow {
            id: case.clone(),
            zone: ZONE.to_owned(),
            state: "open",
            opened_at: NOW.unix_timestamp(),
            limit: None,
        }],
        zones: vec![(0, ZONE.to_owned())],
        guidelines: vec![GuidelineRow {
            zone: 0,
            slot: until.back(600),
            guideline: 100,
            plan: "free".to_owned(),
        }],
        ..Batch::default()
    };
    ledger.run(move |store| store.commit(&batch)).await.unwrap();
    for n in 1..=288 {
        let row = pack_row(&[Packed::new(Judgement::Over, 250.0, 300.0)]);
        let batch = Batch { slot: Some((until.back(n), vec![row])), ..Batch::default() };
        ledger.run(move |store| store.commit(&batch)).await.unwrap();
    }
    case
}

/// Takes every mail and tells its content.
fn mail_server() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mail) = channel();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = stream.write_all(b"220 mail\r\n");
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                let answer = if line.starts_with("DATA") { "354 go on\r\n" } else { "250 taken\r\n" };
                let _ = stream.write_all(answer.as_bytes());
                if line.starts_with("DATA") {
                    let mut content = String::new();
                    while reader.read_line(&mut content).is_ok_and(|read| read > 0)
                        && !content.ends_with("\r\n.\r\n")
                    {}
                    let _ = sender.send(content);
                    let _ = stream.write_all(b"250 taken\r\n");
                }
                line.clear();
            }
        }
    });
    (address, mail)
}

fn message_id(mail: &str) -> &str {
    mail.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().trim()
}

#[test]
fn a_due_notice_leaves_once_with_its_plot_and_its_row_says_so() {
    let bench = Bench::new();
    assert_eq!(bench.states(), ["due"]);
    let (worker, tally) = bench.work();
    let mail = bench.mail.recv_timeout(SOON).unwrap();
    bench.until("the row is delivered", || bench.states() == ["delivered"]);
    assert_eq!(message_id(&mail), format!("<{}.first.1@edge.example>", bench.case));
    assert!(mail.contains("Subject: a.test: your connections and the free plan"), "{mail}");
    assert!(mail.contains("24.0 hours") && mail.contains("\"pro\" would fit"), "{mail}");
    assert!(mail.contains("https://notices.example.com/n/") && mail.contains("image/png"));
    assert_eq!(tally.counts(), [("mail".to_owned(), "delivered", 1)]);
    worker.abort();
    assert!(bench.mail.try_recv().is_err(), "one mail");
}

#[test]
fn whoever_died_between_sending_and_recording_sends_again_under_the_same_id() {
    let bench = Bench::new();
    // An agent noted its attempt, sent, and died; its time is up.
    let earlier = NOW - time::Duration::HOUR;
    let begun = bench.ledger.run(move |store| {
        let due = store.outbox_due(NOW, 10)?;
        due.iter().try_for_each(|message| store.outbox_attempt(message.id, earlier))
    });
    bench.runtime.block_on(begun).unwrap();
    assert_eq!(bench.states(), ["sending"]);
    let (worker, _) = bench.work();
    let again = bench.mail.recv_timeout(SOON).unwrap();
    bench.until("the row is delivered", || bench.states() == ["delivered"]);
    worker.abort();
    assert_eq!(message_id(&again), format!("<{}.first.1@edge.example>", bench.case));
}

#[test]
fn preview_is_the_letter_without_a_link_that_is_good() {
    let bench = Bench::new();
    let preview =
        |kind| bench.runtime.block_on(bench.post.preview(&bench.ledger, &bench.case, kind, NOW)).unwrap();
    let letter = preview(None).unwrap();
    assert!(letter.preview_text().starts_with("Subject: a.test: your connections and the free plan\n"));
    assert!(letter.text.contains("https://notices.example.com/n/PREVIEW#event"));
    assert!(preview(Some(NoticeKind::Resolved)).unwrap().subject.contains("this is settled"));
    assert_eq!(preview(Some(NoticeKind::LimitScheduled)), None, "there is no limit to announce");
    let other = bench.runtime.block_on(bench.post.preview(&bench.ledger, "c-none", None, NOW));
    assert_eq!(other, Ok(None));
}

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<(String, Answered)>>>);

impl AnswerDesk for Notes {
    fn take<'a>(&'a self, case: &'a str, answered: &'a Answered) -> Pending<'a, Result<bool, String>> {
        lock(&self.0).push((case.to_owned(), answered.clone()));
        Box::pin(async { Ok(true) })
    }
}

/// Serves the pages; asks, and returns the answer whole.
fn pages_of(bench: &Bench) -> (SocketAddr, Notes) {
    let notes = Notes::default();
    let post = Arc::clone(&bench.post);
    let links = Links {
        ledger: bench.ledger.clone(),
        post: Box::new(move || Arc::clone(&post)),
        now: Box::new(|| NOW),
        desk: Box::new(notes.clone()),
    };
    let listener = bench.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    bench.runtime.spawn(weir_admin::serve(listener, pages(Arc::new(links))));
    (address, notes)
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A form that is too long is answered before it is read.
    let _ = stream.write_all(body.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn get_shows_and_changes_nothing_and_post_answers_once_or_twice() {
    let bench = Bench::new();
    let (address, notes) = pages_of(&bench);
    let page = bench.page();
    let shown = ask(address, "GET", &page, "");
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
    assert!(shown.contains("<svg xmlns") && shown.contains("24.0 hours"), "{shown}");
    for header in [
        "content-security-policy: default-src 'none'",
        "referrer-policy: no-referrer",
        "x-robots-tag: noindex",
        "cache-control: no-store",
    ] {
        assert!(shown.contains(header), "{header} in {shown}");
    }
    assert!(ask(address, "HEAD", &page, "").starts_with("HTTP/1.1 200"));
    assert!(lock(&notes.0).is_empty(), "looking is no answer");
    for _ in 0..2 {
        let thanks = ask(address, "POST", &page, "answer=talk&words=A+launch+on+Monday");
        assert!(thanks.starts_with("HTTP/1.1 200") && thanks.contains("Thank you"), "{thanks}");
    }
    let said = Answered { answer: Answer::Talk, words: Some("A launch on Monday".to_owned()) };
    let expected = (bench.case.clone(), said);
    assert_eq!(*lock(&notes.0), [expected.clone(), expected]);
}

#[test]
fn bad_links_and_bad_forms_reach_nobody() {
    let bench = Bench::new();
    let (address, notes) = pages_of(&bench);
    let page = bench.page();
    let status = |method: &str, path: &str, body: &str| ask(address, method, path, body)[9..12].to_owned();
    assert_eq!(status("GET", "/n/AAAA", ""), "404");
    assert_eq!(status("GET", "/metrics", ""), "404");
    assert_eq!(status("POST", "/n/PREVIEW", "answer=event"), "404");
    assert_eq!(status("POST", &page[..page.len() - 2], "answer=event"), "404");
    assert_eq!(status("POST", &page, "answer=limit"), "400");
    assert_eq!(status("POST", &page, &format!("answer=talk&words={}", "a".repeat(60_000))), "400");
    assert_eq!(status("DELETE", &page, ""), "405");
    assert!(lock(&notes.0).is_empty());
    assert_eq!(
        status("POST", &format!("/a/prefix{page}"), "answer=event"),
        "200",
        "behind a proxy with a path"
    );
    assert_eq!(lock(&notes.0).len(), 1);
}

#[test]
fn keys_are_made_for_the_agent_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let mode = fs::metadata(bench.folder.path().join("links.keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
