//! WebSockets over HTTP/2: each stream is one of the books, counted by the socket to its origin, whatever ends it.
#![forbid(unsafe_code)]

use std::{fs, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{Method, Request};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;
use weir_tests::{
    Agent, HTTP, HTTPS, ORIGIN, Process, Proxy, SOON, World, ZoneConf, eventually,
    origin::{self, Manner},
    tls::{self, Authority},
    world,
};

const ZONE: &str = "h2.test";
const CAP: u64 = 20;

struct Setting {
    agent: Agent,
    proxy: Proxy,
    authority: Authority,
}

/// Agent and proxy, with a zone that has room for [`CAP`] WebSockets.
fn setting(world: &World, cap: u64) -> Setting {
    let authority = tls::certify(world, ZONE);
    let zone = ZoneConf::new(ZONE, "p").tls(&format!("{ZONE}.pem"), &format!("{ZONE}.key"));
    let conf = world.conf().https(&[HTTPS]).plan("p", 10, cap).with_zone(zone);
    let agent = world.agent(&conf);
    let proxy = world.proxy(&conf, HTTP);
    agent.await_empty();
    Setting { agent, proxy, authority }
}

/// One connection.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

struct WebSocket {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

impl Client {
    async fn new(authority: &Authority) -> Self {
        let mut config = (*authority.client()).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(HTTPS).await.expect("connected");
        let name = ServerName::try_from(ZONE).expect("a name");
        let stream =
            soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.expect("a handshake");
        let mut builder = Builder::new();
        builder.initial_connection_window_size(64 << 20);
        let (requests, connection) = soon(builder.handshake(stream)).await.expect("a preface");
        let connection = tokio::spawn(async move { drop(connection.await) });
        while !requests.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        Self { requests, connection }
    }

    /// Asks for a WebSocket: it opens, or the status says why not.
    async fn open(&self) -> Result<WebSocket, u16> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{ZONE}/chat"))
            .extension(h2::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .expect("a request");
        let mut requests = soon(self.requests.clone().ready()).await.expect("ready");
        let (response, send) = requests.send_request(request, false).expect("sent");
        let response = soon(response).await.expect("an answer");
        match response.status().as_u16() {
            200 => Ok(WebSocket { send, receive: response.into_body() }),
            status => Err(status),
        }
    }

    async fn open_all(&self, count: u64) -> Vec<WebSocket> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.open().await.expect("it opens"));
        }
        all
    }
}

impl WebSocket {
    /// Says something, and hears it again.
    async fn echo(&mut self, bytes: Bytes) {
        self.send.reserve_capacity(bytes.len());
        while self.send.capacity() < bytes.len() {
            soon(poll_fn(|cx| self.send.poll_capacity(cx))).await.expect("open").expect("sound");
        }
        self.send.send_data(bytes.clone(), false).expect("sent");
        let mut got = 0;
        while got < bytes.len() {
            let data = soon(self.receive.data()).await.expect("more").expect("bytes");
            self.receive.flow_control().release_capacity(data.len()).expect("received");
            got += data.len();
        }
    }

    async fn ends(&mut self) -> Result<(), h2::Error> {
        while let Some(data) = soon(self.receive.data()).await {
            data?;
        }
        Ok(())
    }
}

#[test]
fn each_stream_is_a_websocket_and_the_cap_is_exact() {
    world(|world| {
        let Setting { agent, proxy: _proxy, authority } = setting(world, CAP);
        origin::serve(world, ORIGIN, Manner::Echo);
        let (client, mut open) = world.block_on(async {
            let client = Client::new(&authority).await;
            let (mut open, mut refused) = (Vec::new(), 0);
            for _ in 0..CAP + 5 {
                match client.open().await {
                    Ok(socket) => open.push(socket),
                    Err(503) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            assert_eq!((open.len() as u64, refused), (CAP, 5));
            for socket in &mut open {
                socket.echo(Bytes::from_static(b"hello")).await;
            }
            (client, open)
        });
        agent.await_live(ZONE, 1 + CAP, CAP);
        let zone = agent.zone(ZONE);
        assert_eq!((zone.admitted_total, zone.websockets_peak), (CAP, CAP), "not one too many, ever");

        // A stream that is reset, and one that ends: each leaves room for one more.
        world.block_on(async {
            for socket in &mut open[..5] {
                socket.send.send_reset(Reason::CANCEL);
            }
        });
        agent.await_live(ZONE, 1 + CAP - 5, CAP - 5);
        world.block_on(async {
            for socket in &mut open[5..10] {
                socket.send.send_data(Bytes::new(), true).expect("sent");
                socket.ends().await.expect("a clean end");
            }
        });
        agent.await_live(ZONE, 1 + CAP - 10, CAP - 10);
        world.block_on(async { open.extend(client.open_all(10).await) });
        agent.await_live(ZONE, 1 + CAP, CAP);
        assert_eq!(world.block_on(client.open()).err(), Some(503));

        // The connection is lost with all that is left on it.
        client.connection.abort();
        agent.await_empty();
        assert_eq!(agent.zone(ZONE).websockets_peak, CAP);
        drop((client, open));
        agent.assert_never_drifted();
    });
}

#[test]
fn a_place_that_a_refusing_origin_took_is_given_back_before_the_next_is_tried() {
    world(|world| {
        let authority = tls::certify(world, ZONE);
        let mut nobody = ORIGIN;
        nobody.set_port(ORIGIN.port() + 50);
        let zone = ZoneConf::new(ZONE, "p").origin(nobody).also(ORIGIN);
        let zone = zone.tls(&format!("{ZONE}.pem"), &format!("{ZONE}.key"));
        // Never left out, so that half of all begin with the one that refuses.
        let conf = world.conf().https(&[HTTPS]).proxy("origin_max_fails = 0").plan("p", 10, CAP);
        let conf = conf.with_zone(zone);
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        agent.await_empty();
        origin::serve(world, ORIGIN, Manner::Echo);
        let (client, mut open) = world.block_on(async {
            let client = Client::new(&authority).await;
            let open = client.open_all(CAP).await;
            for _ in 0..4 {
                assert_eq!(client.open().await.err(), Some(503));
            }
            (client, open)
        });
        agent.await_live(ZONE, 1 + CAP, CAP);
        assert_eq!(agent.zone(ZONE).websockets_peak, CAP);
        world.block_on(async { open[0].echo(Bytes::from_static(b"hello")).await });
        client.connection.abort();
        agent.await_empty();
        drop((client, open));
        agent.assert_never_drifted();
    });
}

#[test]
fn streams_of_several_connections_race_for_the_cap() {
    world(|world| {
        let Setting { agent, proxy: _proxy, authority } = setting(world, CAP);
        origin::serve(world, ORIGIN, Manner::Echo);
        let held = world.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..4 {
                clients.push(Arc::new(Client::new(&authority).await));
            }
            let asks: Vec<_> = (0..100)
                .map(|n| {
                    let client: Arc<Client> = clients[n % 4].clone();
                    tokio::spawn(async move { client.open().await })
                })
                .collect();
            let mut open = Vec::new();
            for ask in asks {
                open.extend(soon(ask).await.expect("joined").map_err(|status| assert_eq!(status, 503)));
            }
            (clients, open)
        });
        assert_eq!(held.1.len() as u64, CAP);
        agent.await_live(ZONE, 4 + CAP, CAP);
        assert_eq!(agent.zone(ZONE).websockets_peak, CAP);
        held.0.iter().for_each(|client| client.connection.abort());
        drop(held);
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

#[test]
fn what_an_origin_declines_or_breaks_counts_no_more() {
    world(|world| {
        let Setting { agent, proxy: _proxy, authority } = setting(world, CAP);
        let client = world.block_on(Client::new(&authority));
        for (manner, status) in [(Manner::Forbid403, 403), (Manner::Ok200, 502), (Manner::HangUp, 502)] {
            let mut declining: Process = origin::process(world, ORIGIN, manner);
            for _ in 0..3 {
                assert_eq!(world.block_on(client.open()).err(), Some(status), "{manner:?}");
            }
            eventually("no WebSocket", SOON, || match agent.live(ZONE) {
                (_, 0) => Ok(()),
                live => Err(format!("{manner:?}: {live:?}")),
            });
            declining.kill();
        }
        // Nobody listens.
        assert_eq!(world.block_on(client.open()).err(), Some(502));
        agent.await_live(ZONE, 1, 0);

        let mut echo = origin::process(world, ORIGIN, Manner::Echo);
        let mut open = world.block_on(client.open_all(5));
        agent.await_live(ZONE, 6, 5);
        echo.kill();
        world.block_on(async {
            for socket in &mut open {
                // However it ends: here the kernel closes for a process that is gone.
                drop(socket.ends().await);
            }
        });
        // What the origin has closed, the client closes, too.
        drop(open);
        agent.await_live(ZONE, 1, 0);
        client.connection.abort();
        agent.await_empty();
        agent.assert_never_drifted();
    });
}

/// A line of `/proc/PID/status`, in KiB.
fn memory_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the key");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn streams_that_are_not_read_cost_a_bounded_amount_of_memory() {
    const STALLED: u64 = 100;
    world(|world| {
        let Setting { agent, proxy, authority } = setting(world, 1000);
        let pouring = origin::process(world, ORIGIN, Manner::Pour);
        let pid = proxy.process.pid();
        let (client, stalled) = world.block_on(async {
            let client = Client::new(&authority).await;
            // What a first connection costs is not what is asked for.
            drop(client.open_all(1).await);
            let before = memory_kib(pid, "VmRSS");
            let mut stalled = client.open_all(STALLED).await;
            // Each pours as fast as it can; one of them is read, and the others would be in memory but for their windows.
            let mut read = 0;
            while read < 64 << 20 {
                let data = soon(stalled[0].receive.data()).await.expect("more").expect("bytes");
                stalled[0].receive.flow_control().release_capacity(data.len()).expect("received");
                read += data.len();
            }
            let grown = memory_kib(pid, "VmHWM").saturating_sub(before);
            // Window, send buffer, scratch: 160 KiB, and as much again for what allocators keep.
            assert!(grown < STALLED * 320, "{grown} KiB for {STALLED} streams");
            (client, stalled)
        });
        agent.await_live(ZONE, 1 + STALLED, STALLED);
        client.connection.abort();
        drop((stalled, pouring));
        agent.await_empty();
    });
}
