//! A client of HTTP/2 of which a test writes every frame.

use tokio::net::TcpStream;

use super::{Setup, raw::Raw};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field as HPACK has it without any compression (RFC 7541, 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        match text.len() {
            short @ 0..127 => bytes.push(short as u8),
            long => {
                bytes.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];

pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET))
}

/// What a connection says to a stream, or to all of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Answered,
    Reset(u32),
    GoAway(u32),
    Closed,
}

pub struct Hostile(pub Raw<TcpStream>);

impl Hostile {
    pub async fn new(setup: &Setup) -> Self {
        let mut raw = Raw::connect(setup.http).await;
        raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send([frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat()).await;
        Self(raw)
    }

    pub async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let head = self.take(9).await?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], stream, self.take(len).await?))
    }

    pub async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        self.0.try_exactly(len).await
    }

    /// What the next frame of a kind carries; `None` if there is none before the end.
    pub async fn until(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (found, _, payload) = self.next().await?;
            if found == kind {
                return Some(payload);
            }
        }
    }

    /// What comes of a stream, or of the connection with it.
    pub async fn verdict(&mut self, of: u32) -> Verdict {
        let code = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().expect("a code"));
        loop {
            match self.next().await {
                None => return Verdict::Closed,
                Some((GOAWAY, _, payload)) => return Verdict::GoAway(code(&payload[4..])),
                Some((RST_STREAM, stream, payload)) if stream == of => return Verdict::Reset(code(&payload)),
                Some((HEADERS, stream, _)) if stream == of => return Verdict::Answered,
                Some(_) => {}
            }
        }
    }
}
