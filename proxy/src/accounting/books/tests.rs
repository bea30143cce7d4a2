//! What the proxy says to the kernel's books, and what it makes of the answers; with a stand-in for the kernel.

use std::{
    os::fd::RawFd,
    sync::{Arc, Mutex},
};

use weir_common::{ABI_VERSION, reason::Refusal, sockopt::Op, zone::ZoneKey};

use crate::{
    Running, StartError, Unavailable,
    accounting::kernel::{Accounts, Denial},
    support::{
        Setup, free_port,
        http2::Client,
        origin::{SWITCH, mirror, origin, reflect},
        raw::{Raw, header, status, tls_config, upgrade_request},
        soon, until,
    },
};

/// Writes down what it is asked, and answers as told.
#[derive(Default)]
struct Clerk {
    asked: Mutex<Vec<(Op, u64)>>,
    sockets: Mutex<Vec<RawFd>>,
    denials: Mutex<Vec<(Op, Denial)>>,
}

impl Accounts for Clerk {
    fn ask(&self, socket: RawFd, op: Op, value: u64) -> Result<(), Denial> {
        self.sockets.lock().expect("sound").push(socket);
        self.asked.lock().expect("sound").push((op, value));
        let denials = self.denials.lock().expect("sound");
        denials.iter().find(|(denied, _)| *denied == op).map_or(Ok(()), |(_, denial)| Err(*denial))
    }
}

impl Clerk {
    fn denying(op: Op, denial: Denial) -> Arc<Self> {
        let clerk = Self::default();
        clerk.deny(op, denial);
        Arc::new(clerk)
    }

    fn deny(&self, op: Op, denial: Denial) {
        self.denials.lock().expect("sound").push((op, denial));
    }

    fn asked(&self) -> Vec<(Op, u64)> {
        self.asked.lock().expect("sound").clone()
    }

    /// What was asked after the probe at the start, each for the zone of `name`.
    fn ops(&self, name: &str) -> Vec<Op> {
        let asked = self.asked();
        assert_eq!(asked[0], (Op::Probe, ABI_VERSION.into()));
        asked[1..]
            .iter()
            .inspect(|(_, key)| assert_eq!(*key, ZoneKey::of(name).to_raw()))
            .map(|(op, _)| *op)
            .collect()
    }
}

fn try_start(setup: &Setup, clerk: &Arc<Clerk>) -> Result<Running, StartError> {
    crate::bind(&setup.config()).expect("bound").start_with(clerk.clone())
}

fn start(setup: &Setup, clerk: &Arc<Clerk>) -> Running {
    try_start(setup, clerk).expect("started")
}

const REQUIRED: &str = "accounting = \"required\"";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn a_socket_is_attributed_once_and_again_when_its_zone_changes() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).zone("b.test", origin);
    let clerk = Arc::new(Clerk::default());
    let _proxy = start(&setup, &clerk);
    let mut client = Raw::connect(setup.http).await;
    for host in ["a.test", "a.test", "b.test", "b.test", "a.test"] {
        client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    }
    let key = |name| (Op::Attribute, ZoneKey::of(name).to_raw());
    assert_eq!(clerk.asked()[1..], [key("a.test"), key("b.test"), key("a.test")]);
}

#[tokio::test]
async fn a_tls_socket_is_attributed_by_its_client_hello() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let clerk = Arc::new(Clerk::default());
    let _proxy = start(&setup, &clerk);
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    assert_eq!(clerk.ops("a.test"), [Op::Attribute], "before any request");
    client.ask(GET).await;
    assert_eq!(clerk.ops("a.test"), [Op::Attribute]);
}

#[tokio::test]
async fn a_tunnels_admission_is_left_to_the_kernel() {
    let setup = Setup::new().zone("a.test", mirror().await);
    let clerk = Arc::new(Clerk::default());
    let proxy = start(&setup, &clerk);
    let mut client = Raw::connect(setup.http).await;
    client.upgrade("a.test").await;
    client.half_close().await;
    client.rest().await.expect("a clean end");
    until("the tunnel has ended", || proxy.counters().tunnels_live.get() == 0).await;
    assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit]);
}

#[tokio::test]
async fn an_admission_is_taken_back_whenever_no_tunnel_comes_of_it() {
    let (declines, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let (silent, _) = origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await;
    let (rude, _) = origin(|mut raw| async move {
        raw.head().await;
    })
    .await;
    let (wrong, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH.replace("websocket", "h2c")).await;
    })
    .await;
    for (address, code) in [(declines, 200), (silent, 504), (rude, 502), (wrong, 502), (free_port(), 502)] {
        let setup = Setup::new().zone("a.test", address).setting("response_timeout = \"100ms\"");
        let clerk = Arc::new(Clerk::default());
        let _proxy = start(&setup, &clerk);
        let mut client = Raw::connect(setup.http).await;
        let (head, _) = client.ask(&upgrade_request("a.test")).await;
        assert_eq!(status(&head), code);
        assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit, Op::Release], "{code}");
        if code == 200 {
            client.ask(&upgrade_request("a.test")).await;
            assert_eq!(
                clerk.ops("a.test")[3..],
                [Op::Admit, Op::Release],
                "a second try on the same connection"
            );
        }
    }
}

#[tokio::test]
async fn a_socket_is_closed_when_its_peer_has_reset_it_and_not_before() {
    use std::os::fd::AsRawFd;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let (near, far) = (near.expect("connected"), far.expect("accepted").0);
    assert!(!super::is_closed(near.as_raw_fd()));
    far.set_zero_linger().expect("set");
    drop(far);
    until("it is closed", || super::is_closed(near.as_raw_fd())).await;
}

#[tokio::test]
async fn a_socket_is_attributed_anew_when_its_books_are_lost() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin);
    let clerk = Clerk::denying(Op::Admit, Denial::Unavailable(Unavailable::CannotFollow));
    let _proxy = start(&setup, &clerk);
    let mut client = Raw::connect(setup.http).await;
    client.ask(GET).await;
    client.ask(&upgrade_request("a.test")).await;
    client.ask(GET).await;
    assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit, Op::Attribute]);
}

#[tokio::test]
async fn nothing_is_said_about_a_socket_that_is_closed() {
    let (silent, connections) = origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await;
    let setup = Setup::new().zone("a.test", silent);
    let clerk = Arc::new(Clerk::default());
    let proxy = start(&setup, &clerk);
    let mut client = Raw::connect(setup.http).await;
    client.send(upgrade_request("a.test")).await;
    until("the origin is dialled", || connections.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    drop(client);
    assert_eq!(soon(proxy.drain()).await.closed, 0);
    assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit]);
}

#[tokio::test]
async fn a_zone_at_its_cap_gets_503_with_zone_reason_and_when_to_come_back() {
    let (address, connections) = reflect().await;
    for (op, refusal, code) in [
        (Op::Admit, Refusal::AbuseCap, 503),
        (Op::Attribute, Refusal::SocketCap, 503),
        (Op::Attribute, Refusal::ZoneBlocked, 403),
        (Op::Admit, Refusal::ZoneBlocked, 403),
    ] {
        let setup = Setup::new().zone("a.test", address).setting(REQUIRED).setting("retry_after = \"7s\"");
        let clerk = Clerk::denying(op, Denial::Zone(refusal));
        let proxy = start(&setup, &clerk);
        let mut client = Raw::connect(setup.http).await;
        let (head, body) = client.ask(&upgrade_request("a.test")).await;
        assert_eq!(status(&head), code);
        assert_eq!(header(&head, "retry-after"), (code == 503).then_some("7"));
        assert_eq!(header(&head, "content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["zone"], "a.test");
        assert_eq!(problem["reason"], refusal.label());
        assert_eq!(client.rest().await.expect("a clean end"), b"", "the socket is given back");
        assert_eq!(proxy.counters().refused_for(refusal.label()), 1);
        assert!(!clerk.asked().iter().any(|(op, _)| *op == Op::Release));
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 0, "no origin was dialled");
}

#[tokio::test]
async fn plain_requests_pass_a_zone_that_is_at_its_cap_of_websockets() {
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address).setting(REQUIRED);
    let _proxy = start(&setup, &Clerk::denying(Op::Admit, Denial::Zone(Refusal::AbuseCap)));
    assert_eq!(status(&Raw::connect(setup.http).await.ask(GET).await.0), 200);
}

#[tokio::test]
async fn a_blocked_zone_costs_no_handshake() {
    let (address, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", address).setting(REQUIRED);
    let proxy = start(&setup, &Clerk::denying(Op::Attribute, Denial::Zone(Refusal::ZoneBlocked)));
    let error =
        Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.map(drop).expect_err("refused");
    assert!(format!("{error:?}").contains("AccessDenied"), "{error:?}");
    assert_eq!(proxy.counters().refused_for("zone_blocked"), 1);
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_if_it_has_to_be_and_passes_if_not() {
    let (address, _) = reflect().await;
    for why in
        [Unavailable::NoAgent, Unavailable::ZoneUnknown, Unavailable::CannotFollow, Unavailable::NoMemory]
    {
        for (line, code) in [(REQUIRED, 503), ("", 200)] {
            let setup = Setup::new().tls_zone("a.test", address).setting(line);
            let clerk = Clerk::denying(Op::Attribute, Denial::Unavailable(why));
            let proxy = start(&setup, &clerk);
            let (head, body) = Raw::connect(setup.http).await.ask(GET).await;
            assert_eq!(status(&head), code, "{why:?}");
            let mut secure =
                Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
            assert_eq!(status(&secure.ask(GET).await.0), code, "{why:?}");
            assert_eq!(body.contains("accounting_unavailable"), code == 503);
            assert_eq!(proxy.counters().untracked.get(), if code == 200 { 2 } else { 0 });
        }
    }
}

#[tokio::test]
async fn an_upgrade_that_cannot_be_counted_opens_only_if_that_is_optional() {
    let setup = Setup::new().zone("a.test", mirror().await);
    let clerk = Clerk::denying(Op::Attribute, Denial::Unavailable(Unavailable::NoAgent));
    clerk.deny(Op::Admit, Denial::Unavailable(Unavailable::NoAgent));
    let proxy = start(&setup, &clerk);
    Raw::connect(setup.http).await.upgrade("a.test").await;
    assert_eq!(proxy.counters().untracked.get(), 1, "one socket, however often it is tried");
}

#[tokio::test]
async fn without_accounting_a_start_fails_only_if_it_is_required() {
    for (why, word) in [
        (Unavailable::NoAgent, "weir agent"),
        (Unavailable::CallerNotAllowed, "uid"),
        (Unavailable::AbiMismatch, "same release"),
    ] {
        let clerk = Clerk::denying(Op::Probe, Denial::Unavailable(why));
        let setup = Setup::new().zone("a.test", free_port());
        start(&setup, &clerk);
        let setup = Setup::new().zone("a.test", free_port()).setting(REQUIRED);
        let error = try_start(&setup, &clerk).expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_reload_does_not_require_what_is_not_there() {
    let (address, _) = reflect().await;
    let setup = Setup::new().zone("a.test", address);
    let clerk = Clerk::denying(Op::Probe, Denial::Unavailable(Unavailable::NoAgent));
    let proxy = start(&setup, &clerk);
    let setup = setup.setting(REQUIRED);
    let error = proxy.reload(setup.config()).await.expect_err("refused").to_string();
    assert!(error.contains("weir agent"), "{error}");
    assert_eq!(status(&Raw::connect(setup.http).await.ask(GET).await.0), 200);
}

const URL: &str = "http://a.test/";

fn h2c(origin: std::net::SocketAddr) -> Setup {
    Setup::new()
        .zone("a.test", origin)
        .setting("h2c = true")
        .setting(REQUIRED)
        .setting("response_timeout = \"100ms\"")
}

#[tokio::test]
async fn over_http2_each_websocket_counts_by_the_socket_to_its_origin() {
    let setup = h2c(mirror().await);
    let clerk = Arc::new(Clerk::default());
    let proxy = start(&setup, &clerk);
    let mut client = Client::cleartext(setup.http).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(client.open(URL).await);
    }
    assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit, Op::Admit, Op::Admit]);
    let mut named = clerk.sockets.lock().expect("sound")[1..].to_vec();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), 4, "the client's, and one of each stream");
    drop((sockets, client));
    until("the tunnels have ended", || proxy.counters().tunnels_live.get() == 0).await;
    assert_eq!(clerk.ops("a.test").len(), 4, "what is open is the kernel's to settle");
}

#[tokio::test]
async fn over_http2_an_admission_is_taken_back_whenever_no_tunnel_comes_of_it() {
    let (declines, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        raw.rest().await.ok();
    })
    .await;
    let (silent, _) = origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await;
    let (wrong, _) = origin(|mut raw| async move {
        raw.head().await;
        raw.send(SWITCH).await;
        raw.rest().await.ok();
    })
    .await;
    for (address, code) in [(declines, 403), (silent, 504), (wrong, 502)] {
        let setup = h2c(address);
        let clerk = Arc::new(Clerk::default());
        let _proxy = start(&setup, &clerk);
        let mut client = Client::cleartext(setup.http).await;
        assert_eq!(client.connect(URL, &[]).await.expect("an answer").head.status(), code);
        assert_eq!(clerk.ops("a.test"), [Op::Attribute, Op::Admit, Op::Release], "{code}");
        let sockets = clerk.sockets.lock().expect("sound").clone();
        assert_eq!(sockets[2], sockets[3], "{code}");
        assert_ne!(sockets[1], sockets[2], "{code}");
    }
    // A client that takes its request back.
    let (silent, connections) = origin(|mut raw| async move {
        raw.rest().await.ok();
    })
    .await;
    let setup = Setup::new().zone("a.test", silent).setting("h2c = true");
    let clerk = Arc::new(Clerk::default());
    let _proxy = start(&setup, &clerk);
    let mut client = Client::cleartext(setup.http).await;
    tokio::select! {
        _ = client.connect(URL, &[]) => panic!("an answer"),
        () = until("dialled", || connections.load(std::sync::atomic::Ordering::Relaxed) == 1) => {}
    }
    until("released", || clerk.ops("a.test") == [Op::Attribute, Op::Admit, Op::Release]).await;
}

#[tokio::test]
async fn over_http2_a_cap_refuses_a_stream_and_not_its_connection() {
    let (address, connections) = reflect().await;
    for (denial, code, label) in [
        (Denial::Zone(Refusal::AbuseCap), 503, "abuse_cap"),
        (Denial::Zone(Refusal::ZoneBlocked), 403, "zone_blocked"),
        (Denial::Unavailable(Unavailable::NoMemory), 503, "accounting_unavailable"),
    ] {
        let setup = h2c(address);
        let clerk = Clerk::denying(Op::Admit, denial);
        let _proxy = start(&setup, &clerk);
        let mut client = Client::cleartext(setup.http).await;
        let mut refused = client.connect(URL, &[]).await.expect("an answer");
        assert_eq!(refused.head.status(), code);
        assert_eq!(refused.head.headers()["content-type"], "application/problem+json");
        assert_eq!(refused.head.headers().contains_key("retry-after"), code == 503);
        assert!(refused.text().await.contains(label));
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 0, "no origin was dialled");
        assert!(!clerk.asked().iter().any(|(op, _)| *op == Op::Release));
    }
    let setup = h2c(address);
    let _proxy = start(&setup, &Clerk::denying(Op::Admit, Denial::Zone(Refusal::AbuseCap)));
    let mut client = Client::cleartext(setup.http).await;
    assert_eq!(client.connect(URL, &[]).await.expect("an answer").head.status(), 503);
    assert_eq!(client.get(URL).await.0.status(), 200, "the connection serves on");
}

#[tokio::test]
async fn over_http2_what_cannot_be_counted_passes_if_that_is_optional() {
    let setup = Setup::new().zone("a.test", mirror().await).setting("h2c = true");
    let clerk = Clerk::denying(Op::Admit, Denial::Unavailable(Unavailable::NoAgent));
    let proxy = start(&setup, &clerk);
    let mut client = Client::cleartext(setup.http).await;
    for n in 1..=2 {
        client.open(URL).await.finish();
        assert_eq!(proxy.counters().untracked.get(), n, "each stream has a socket of its own");
    }
}
