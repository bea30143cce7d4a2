//! The origin: a process of its own beside the load, which answers every upgrade and does what the path says.
//!
//! | path | it |
//! | --- | --- |
//! | `/echo` | sends each message back |
//! | `/up` | takes messages |
//! | `/down` | sends messages of 64 KiB for as long as they are taken |
//! | `/both` | does both |
//! | `/stamps` | takes messages, and sends one of 8 bytes every millisecond: the time at which it was due |
//!
//! It answers a close with a close and ends the stream, as a server does. Its ports are all the same; there are several because a proxy
//! has 55,000 local ports towards each.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    client::{ACCEPT, KEY},
    clock::Pace,
    frame,
    socket::{Reader, Stream},
    tls,
};

/// A message of a bulk transfer. Bytes.
pub const BULK: usize = 64 * 1024;
/// Between two stamps.
pub const STAMPS_EVERY: Duration = Duration::from_millis(1);

/// Serves until it is killed. Says so on standard output.
pub async fn serve(folder: &Path, http: &[SocketAddr], https: &[SocketAddr]) -> Result<()> {
    let tls = tls::server(folder)?;
    for (addresses, tls) in [(http, None), (https, Some(tls))] {
        for address in addresses {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            tokio::task::spawn_local(accept(listener, tls.clone()));
        }
    }
    println!("ready");
    std::future::pending().await
}

async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    loop {
        // A connection that is gone, or no descriptor: the client's end tells of it.
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        // One that breaks off ends here; whoever measures sees it.
        tokio::task::spawn_local(async move { _ = answer(tcp, tls).await });
    }
}

async fn answer(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(tls) => Stream::Server(Box::new(TlsAcceptor::from(tls).accept(tcp).await?)),
    };
    let mut socket = Reader::new(stream);
    let head = socket.head().await?;
    if !head.contains(KEY) {
        return socket.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    socket.send(answer.as_bytes()).await?;
    match head.split(' ').nth(1) {
        Some("/up") => take(&mut socket).await?,
        Some("/down" | "/both") => send_and_take(socket, false).await?,
        Some("/stamps") => send_and_take(socket, true).await?,
        _ => echo(socket).await?,
    }
    Ok(())
}

async fn echo(mut socket: Reader<Stream>) -> io::Result<()> {
    let mut out = BytesMut::new();
    while let Some(frame) = socket.frame().await? {
        frame::write(&mut out, frame.opcode, &frame.payload, None);
        // What has come already is answered in one go.
        while frame.opcode != frame::CLOSE
            && let Some(frame) = frame::take(&mut socket.buffer)
        {
            frame::write(&mut out, frame.opcode, &frame.payload, None);
        }
        socket.send(&out).await?;
        if frame.opcode == frame::CLOSE {
            break;
        }
        out = if out.capacity() > 1024 { BytesMut::new() } else { out };
        out.clear();
    }
    socket.stream.shutdown().await
}

/// Takes messages up to the close, which it answers.
async fn take<R: AsyncRead + Unpin>(socket: &mut Reader<R>) -> io::Result<()> {
    while let Some(frame) = socket.frame().await? {
        if frame.opcode == frame::CLOSE {
            break;
        }
    }
    Ok(())
}

async fn send_and_take(socket: Reader<Stream>, stamps: bool) -> io::Result<()> {
    let Reader { stream, buffer } = socket;
    let (read, write) = split(stream);
    let mut reader = Reader { stream: read, buffer };
    tokio::select! {
        taken = take(&mut reader) => taken,
        sent = async { if stamps { send_stamps(write).await } else { send_bulk(write).await } } => sent,
    }
}

async fn send_bulk<W: AsyncWrite + Unpin>(mut stream: W) -> io::Result<()> {
    let mut message = BytesMut::new();
    frame::write(&mut message, frame::BINARY, &[0x5a; BULK], None);
    loop {
        stream.write_all(&message).await?;
        // Others of this thread have their turn.
        tokio::task::yield_now().await;
    }
}

async fn send_stamps<W: AsyncWrite + Unpin>(mut stream: W) -> io::Result<()> {
    let mut pace = Pace::new(STAMPS_EVERY)?;
    let mut out = BytesMut::new();
    loop {
        for due_ns in pace.due().await? {
            frame::write(&mut out, frame::BINARY, &due_ns.to_be_bytes(), None);
        }
        stream.write_all(&out).await?;
        stream.flush().await?;
        out.clear();
    }
}
