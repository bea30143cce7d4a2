//! The plainest WebSocket client: a socket, an upgrade request, and after a 101 nothing but bytes.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use socket2::SockRef;

use crate::http::Answer;

/// The longest that an answer or a byte may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What came of an upgrade request.
pub enum Opened {
    /// 101; the stream stands behind its head.
    Switched(TcpStream),
    Declined(Answer),
}

impl Opened {
    /// # Panics
    /// If it was declined.
    pub fn stream(self) -> TcpStream {
        match self {
            Self::Switched(stream) => stream,
            Self::Declined(answer) => panic!("declined: {} {}", answer.status, answer.text()),
        }
    }

    /// # Panics
    /// If it was not.
    pub fn declined(self) -> Answer {
        match self {
            Self::Switched(_) => panic!("an upgrade was granted that should not be"),
            Self::Declined(answer) => answer,
        }
    }
}

/// The bytes of an upgrade request.
pub fn request(host: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Asks for a WebSocket.
pub fn open(address: SocketAddr, host: &str) -> io::Result<Opened> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(request(host).as_bytes())?;
    let answer = Answer::read(&mut stream)?;
    Ok(if answer.status == 101 { Opened::Switched(stream) } else { Opened::Declined(answer) })
}

/// A WebSocket.
///
/// # Panics
/// If there is none.
pub fn connect(address: SocketAddr, host: &str) -> TcpStream {
    open(address, host).unwrap_or_else(|error| panic!("no WebSocket to {host}: {error}")).stream()
}

/// Many WebSockets, opened by a few threads at once. `host` names the host of the nth.
pub fn connect_many(
    address: SocketAddr,
    count: usize,
    host: impl Fn(usize) -> String + Sync,
) -> Vec<TcpStream> {
    const THREADS: usize = 4;
    let host = &host;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let share = (thread..count).step_by(THREADS);
                scope.spawn(move || share.map(|n| connect(address, &host(n))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client thread")).collect()
    })
}

/// Closes with a RST.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(stream);
}

/// Why an answer is not the refusal at a cap that weir documents; `None` if it is.
pub fn fault_of_refusal(answer: &Answer, zone: &str, reason: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let right = answer.status == 503
        && answer
            .header("retry-after")
            .is_some_and(|after| after.parse::<u32>().is_ok_and(|after| after > 0))
        && answer.header("content-type") == Some("application/problem+json")
        && body["status"] == 503
        && body["zone"] == zone
        && body["reason"] == reason;
    (!right).then(|| format!("no refusal of {zone} because of {reason}: {answer:?}"))
}
