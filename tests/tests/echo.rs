//! What goes through a tunnel: byte for byte what the origin gets without weir, whoever the client is.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
    thread,
};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Message,
        protocol::{
            CloseFrame, WebSocketConfig,
            frame::{
                Frame as WsFrame,
                coding::{Data, OpCode},
            },
        },
    },
};
use weir_tests::{
    Agent, HTTP, HTTPS, ORIGIN, Proxy, SOON, World, ZoneConf, eventually,
    frames::{self, Frame, Record},
    http::Answer,
    python,
    tls::{self, Authority},
    websocket, world,
};

const ZONE: &str = "echo.test";
const SIZES: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 16 << 20];

/// Agent, proxy with both kinds of listeners, and an origin that writes down.
struct Setting {
    agent: Agent,
    proxy: Proxy,
    record: Record,
    authority: Authority,
}

fn setting(world: &World) -> Setting {
    let authority = tls::certify(world, ZONE);
    let record = frames::serve(world, ORIGIN);
    let zone = ZoneConf::new(ZONE, "p").tls(&format!("{ZONE}.pem"), &format!("{ZONE}.key"));
    let conf = world.conf().https(&[HTTPS]).plan("p", 100, 1000).with_zone(zone);
    let agent = world.agent(&conf);
    let proxy = world.proxy(&conf, HTTP);
    Setting { agent, proxy, record, authority }
}

/// What the origin wrote down, once the last connection has said that it closes.
fn conversation(record: &Record, connections: usize) -> Vec<Vec<Frame>> {
    let mut all = Vec::new();
    eventually("the close of every connection", SOON, || {
        all.extend(record.take());
        let closed =
            all.iter().filter(|frames: &&Vec<Frame>| frames.last().is_some_and(|f| f.first_byte == 0x88));
        match closed.count() {
            count if count == connections => Ok(()),
            count => Err(format!("{count} of {}", all.len())),
        }
    });
    all
}

/// What a client heard.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message { text: bool, bytes: usize },
    Pong(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<(u16, String)>),
}

fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 % 251) as u8).collect()
}

fn fragment(data: &[u8], kind: Data, last: bool) -> Message {
    Message::Frame(WsFrame::message(data.to_vec(), OpCode::Data(kind), last))
}

/// Everything that a conversation of tungstenite consists of, and what each part of it is answered with.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    heard: &mut Vec<Heard>,
) {
    for size in SIZES {
        let message = payload(size);
        socket.send(Message::binary(message.clone())).await.expect("sent");
        assert!(hear(socket, heard).await == message, "{size} bytes did not come back as they were sent");
    }
    let long_text = "\u{e9}".repeat(70_000);
    for text in ["", "a", "gr\u{fc}\u{df}e, \u{1f30a}", &long_text] {
        socket.send(Message::text(text)).await.expect("sent");
        assert!(hear(socket, heard).await == text.as_bytes(), "a text did not come back as it was sent");
    }
    let fragments: [&[u8]; 4] = [b"one ", b"", &payload(100_000), b"the end"];
    for (n, data) in fragments.iter().enumerate() {
        let kind = if n == 0 { Data::Binary } else { Data::Continue };
        socket.send(fragment(data, kind, n + 1 == fragments.len())).await.expect("sent");
        if n == 1 {
            // A ping may stand between two fragments.
            socket.send(Message::Ping(b"in between".to_vec().into())).await.expect("sent");
            assert_eq!(hear(socket, heard).await, b"in between");
        }
    }
    assert!(hear(socket, heard).await == fragments.concat(), "a fragmented message came back otherwise");
    for ping in [&b""[..], b"are you there?", &[b'x'; 125]] {
        socket.send(Message::Ping(ping.to_vec().into())).await.expect("sent");
        assert_eq!(hear(socket, heard).await, ping);
    }
    socket.send(Message::text("ping me")).await.expect("sent");
    assert_eq!(hear(socket, heard).await, b"ping me");
    assert_eq!(hear(socket, heard).await, b"from the origin");
    assert_eq!(hear(socket, heard).await, frames::PONG_HEARD);
}

async fn hear<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    heard: &mut Vec<Heard>,
) -> Vec<u8> {
    let message = socket.next().await.expect("a message").expect("a sound one");
    let data = message.clone().into_data().to_vec();
    heard.push(match message {
        Message::Text(_) | Message::Binary(_) => {
            Heard::Message { text: message.is_text(), bytes: data.len() }
        }
        Message::Pong(_) => Heard::Pong(data.clone()),
        Message::Ping(_) => Heard::Ping(data.clone()),
        Message::Close(frame) => {
            Heard::Close(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
        }
        Message::Frame(_) => unreachable!("never read"),
    });
    data
}

/// Closes with this code and reason, and hears the answer to its end.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    frame: Option<(u16, &str)>,
    heard: &mut Vec<Heard>,
) {
    let frame = frame.map(|(code, reason)| CloseFrame { code: code.into(), reason: reason.into() });
    socket.close(frame).await.expect("sent");
    hear(&mut socket, heard).await;
    assert!(socket.next().await.is_none(), "the connection ends behind the close");
}

const CLOSES: [Option<(u16, &str)>; 6] = [
    Some((1000, "")),
    None,
    Some((1000, "done")),
    Some((1001, "going away")),
    Some((3000, "registered")),
    Some((4999, LONG)),
];
/// As long as a reason can be.
const LONG: &str = match std::str::from_utf8(&[b'x'; 123]) {
    Ok(text) => text,
    Err(_) => "",
};

/// A conversation over every connection that `connect` makes: one for each way to close.
async fn talk<S, F>(connect: impl Fn() -> F) -> Vec<Heard>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = S>,
{
    let mut heard = Vec::new();
    for (n, closes) in CLOSES.into_iter().enumerate() {
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let url = format!("ws://{ZONE}/chat?room=1");
        let (mut socket, answer) =
            client_async_with_config(url, connect().await, Some(config)).await.expect("a WebSocket");
        assert_eq!(answer.status(), 101);
        if n == 0 {
            converse(&mut socket, &mut heard).await;
        }
        close(socket, closes, &mut heard).await;
    }
    heard
}

async fn tcp(address: SocketAddr) -> tokio::net::TcpStream {
    let stream =
        tokio::net::TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream
}

#[test]
fn tungstenite_cannot_tell_whether_weir_is_in_between() {
    world(|world| {
        let Setting { agent, proxy: _proxy, record, authority } = setting(world);
        let connector = TlsConnector::from(authority.client());
        let name = ServerName::try_from(ZONE).expect("a name");

        let direct = world.block_on(talk(|| tcp(ORIGIN)));
        let expected = conversation(&record, CLOSES.len());
        assert_eq!(expected.len(), CLOSES.len());
        assert!(expected[0].len() > SIZES.len() + 10, "the origin heard all of it: {:?}", expected[0]);

        let cleartext = world.block_on(talk(|| tcp(HTTP)));
        assert_eq!(cleartext, direct, "what the client hears over ws");
        assert_same(&conversation(&record, CLOSES.len()), &expected, "ws");

        let encrypted = world.block_on(talk(|| async {
            connector.connect(name.clone(), tcp(HTTPS).await).await.expect("a TLS handshake")
        }));
        assert_eq!(encrypted, direct, "what the client hears over wss");
        assert_same(&conversation(&record, CLOSES.len()), &expected, "wss");

        agent.await_empty();
        assert_eq!(agent.zone(ZONE).admitted_total, 2 * CLOSES.len() as u64);
        agent.assert_never_drifted();
    });
}

#[test]
fn a_client_of_another_language_cannot_tell_either() {
    // From here, as there is no way out of the test's namespace to where packages are.
    let interpreter = python::interpreter();
    world(move |world| {
        let Setting { agent, proxy: _proxy, record, .. } = setting(world);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/converse.py");
        let authority = world.folder().join("ca.pem");
        let talk = |url: &str, address: SocketAddr, encrypted: bool| {
            let mut command = Command::new(interpreter);
            command.arg(script).arg(url).args([address.ip().to_string(), address.port().to_string()]);
            if encrypted {
                command.arg(&authority);
            }
            let output = command.output().expect("Python starts");
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{url} at {address}: {why}");
            let frames = conversation(&record, 5);
            (String::from_utf8_lossy(&output.stdout).into_owned(), frames)
        };
        let (direct, expected) = talk("ws://echo.test/chat", ORIGIN, false);
        assert!(expected[0].len() > SIZES.len() + 10, "the origin heard all of it: {:?}", expected[0]);
        let (cleartext, frames) = talk("ws://echo.test/chat", HTTP, false);
        assert_eq!(cleartext, direct, "what the client hears over ws");
        assert_same(&frames, &expected, "ws");
        let (encrypted, frames) = talk("wss://echo.test/chat", HTTPS, true);
        assert_eq!(encrypted, direct, "what the client hears over wss");
        assert_same(&frames, &expected, "wss");

        agent.await_empty();
        assert_eq!(agent.zone(ZONE).admitted_total, 2 * 5);
        agent.assert_never_drifted();
    });
}

#[test]
fn a_client_of_another_language_speaks_http_2() {
    let interpreter = python::interpreter();
    world(move |world| {
        let Setting { agent, proxy: _proxy, .. } = setting(world);
        let mut command = Command::new(interpreter);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/converse_h2.py")).arg(ZONE);
        command.args([HTTPS.ip().to_string(), HTTPS.port().to_string()]).arg(world.folder().join("ca.pem"));
        let output = command.output().expect("Python starts");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{why}");
        let opened: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
        agent.await_empty();
        assert_eq!((opened, agent.zone(ZONE).admitted_total), (3, 3));
        agent.assert_never_drifted();
    });
}

fn assert_same(frames: &[Vec<Frame>], expected: &[Vec<Frame>], way: &str) {
    assert_eq!(frames.len(), expected.len(), "connections over {way}");
    for (connection, (frames, expected)) in frames.iter().zip(expected).enumerate() {
        for (n, (frame, expected)) in frames.iter().zip(expected).enumerate() {
            assert!(
                frame == expected,
                "frame {n} of connection {connection} over {way}: {frame:?}, not {expected:?}"
            );
        }
        assert_eq!(frames.len(), expected.len(), "frames of connection {connection} over {way}");
    }
}

#[test]
fn every_byte_passes_those_that_come_with_the_handshakes_and_behind_a_fin_too() {
    world(|world| {
        const MANY: usize = 3 << 20;
        let (up, down) = (Arc::new(payload(MANY)), Arc::new(payload(MANY + 1)));
        let conf = world.conf().plan("p", 100, 1000).zone(ZONE, "p");
        let agent = world.agent(&conf);
        let _proxy = world.proxy(&conf, HTTP);
        let origin = std::net::TcpListener::bind(ORIGIN).expect("an origin");
        let (expected_up, sent_down) = (up.clone(), down.clone());
        let serving = thread::spawn(move || {
            let (mut stream, _) = origin.accept().expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            // The first bytes come in one piece with the head of the answer.
            let mut first =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                    .to_vec();
            first.extend(&sent_down[..1000]);
            stream.write_all(&first).expect("sent");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("everything, and the client's FIN");
            assert!(received == *expected_up, "the origin got {} other bytes", received.len());
            // The client has said goodbye; the answer still goes to it.
            sent_down[1000..].chunks(7919).for_each(|chunk| stream.write_all(chunk).expect("sent"));
        });
        let mut client = TcpStream::connect(HTTP).expect("a connection");
        let mut first = websocket::request(ZONE).into_bytes();
        first.extend(&up[..1000]);
        client.write_all(&first).expect("sent");
        let answer = Answer::read(&mut client).expect("an answer");
        assert_eq!(answer.status, 101);
        up[1000..].chunks(6007).for_each(|chunk| client.write_all(chunk).expect("sent"));
        client.shutdown(Shutdown::Write).expect("a FIN");
        let mut received = Vec::new();
        client.read_to_end(&mut received).expect("everything, and the origin's FIN");
        assert!(received == *down, "the client got {} other bytes", received.len());
        serving.join().expect("the origin");
        drop(client);
        agent.await_empty();
        assert!(agent.zone(ZONE).received_bytes_total > MANY as u64);
        agent.assert_never_drifted();
    });
}
