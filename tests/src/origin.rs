//! Origins: servers that do one thing, in the test's own runtime.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{Process, World};

/// What an origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// 101, and then every byte comes back.
    Echo,
    /// 101, and then bytes until the end of the connection, whether somebody reads them or not.
    Pour,
    /// 101, and then nothing: neither reads nor writes nor closes.
    Mute,
    /// 200 with a body instead of 101.
    Ok200,
    /// 403.
    Forbid403,
    /// Closes as soon as the request is there.
    HangUp,
}

const BODY: &str = "no WebSocket here\n";

impl Manner {
    /// By the name that the helper takes.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Echo, Self::Pour, Self::Mute, Self::Ok200, Self::Forbid403, Self::HangUp];
        all.into_iter().find(|manner| format!("{manner:?}") == name)
    }
}

/// Serves on an address until the test is through.
pub fn serve(world: &World, address: SocketAddr, manner: Manner) {
    let listener = world.block_on(async { listen(address) });
    world.spawn(accept(listener, manner));
}

/// An origin that can be killed: a process of its own.
pub fn process(world: &World, address: SocketAddr, manner: Manner) -> Process {
    let mut origin = world.helper(
        &format!("origin-{}", address.port()),
        ["origin", &address.to_string(), &format!("{manner:?}")],
    );
    assert_eq!(origin.hear(), "listening");
    origin
}

/// Answers every connection.
pub async fn accept(listener: TcpListener, manner: Manner) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // A client that vanishes is what many tests are about.
                let _ = answer(stream, manner).await;
            });
        }
    }
}

/// Listens with room for many connections at once.
pub fn listen(address: SocketAddr) -> TcpListener {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
    let socket = socket.expect("a socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(address).unwrap_or_else(|error| panic!("no origin can listen on {address}: {error}"));
    socket.listen(4096).expect("a listening socket")
}

async fn answer(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head = request_head(&mut stream).await?;
    match manner {
        Manner::Ok200 => return decline(stream, "200 OK").await,
        Manner::Forbid403 => return decline(stream, "403 Forbidden").await,
        Manner::HangUp => return Ok(()),
        Manner::Echo | Manner::Pour | Manner::Mute => stream.write_all(switch(&head).as_bytes()).await?,
    }
    match manner {
        Manner::Pour => loop {
            stream.write_all(&[0x5a; 16 * 1024]).await?;
        },
        Manner::Mute => std::future::pending().await,
        _ => {
            let (mut read, mut write) = split(stream);
            copy(&mut read, &mut write).await?;
            write.shutdown().await
        }
    }
}

/// The same answer to this request and to every other that comes on the connection.
async fn decline(mut stream: TcpStream, status: &str) -> std::io::Result<()> {
    let length = BODY.len();
    loop {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{BODY}"
        );
        stream.write_all(answer.as_bytes()).await?;
        request_head(&mut stream).await?;
    }
}

/// The head of a request, and not a byte more.
pub async fn request_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The answer that grants an upgrade to the request with this head.
pub fn switch(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| derive_accept_key(value.trim().as_bytes()))
    });
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        key.unwrap_or_default()
    )
}
