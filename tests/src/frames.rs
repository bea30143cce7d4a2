//! An origin that writes down every WebSocket frame that it gets, and answers by the book of RFC 6455: it sends data frames
//! back as they came, one by one, answers pings and closes, pings who says [`PING_ME`], and says [`PONG_HEARD`].

use std::{
    fmt::{self, Debug, Formatter},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{World, origin};

/// A text that is answered with a ping, after its echo.
pub const PING_ME: &[u8] = b"ping me";

/// What a pong is answered with, so that a client can wait until its pong has come.
pub const PONG_HEARD: &[u8] = b"pong heard";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame, unmasked.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the three reserved bits, and the opcode, as they are sent.
    pub first_byte: u8,
    pub payload: Vec<u8>,
}

impl Debug for Frame {
    /// Short also for 16 MiB.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let begin = &self.payload[..self.payload.len().min(16)];
        write!(f, "{:#04x} with {} bytes: {begin:x?}", self.first_byte, self.payload.len())
    }
}

/// What the origin wrote down: the frames of each connection, in the order of the connections.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Vec<Frame>>>>);

impl Record {
    /// Takes everything that was written down.
    pub fn take(&self) -> Vec<Vec<Frame>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self) -> usize {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(Vec::new());
        connections.len() - 1
    }

    fn push(&self, connection: usize, frame: Frame) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connections[connection].push(frame);
    }
}

/// Serves on an address until the test is through.
pub fn serve(world: &World, address: SocketAddr) -> Record {
    let record = Record::default();
    let shared = record.clone();
    let listener = world.block_on(async { origin::listen(address) });
    world.spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let record = shared.clone();
                tokio::spawn(async move { drop(converse(stream, record).await) });
            }
        }
    });
    record
}

async fn converse(mut stream: TcpStream, record: Record) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let head = origin::request_head(&mut stream).await?;
    let connection = record.open();
    stream.write_all(origin::switch(&head).as_bytes()).await?;
    loop {
        let frame = read(&mut stream).await?;
        record.push(connection, frame.clone());
        let first_byte = frame.first_byte;
        match first_byte & 0x0f {
            PING => write(&mut stream, first_byte ^ PING ^ PONG, &frame.payload).await?,
            PONG => write(&mut stream, 0x80 | TEXT, PONG_HEARD).await?,
            CLOSE => {
                write(&mut stream, first_byte, &frame.payload).await?;
                return stream.shutdown().await;
            }
            kind => {
                write(&mut stream, first_byte, &frame.payload).await?;
                if kind == TEXT && frame.payload == PING_ME {
                    write(&mut stream, 0x80 | PING, b"from the origin").await?;
                }
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Frame> {
    let first_byte = stream.read_u8().await?;
    let second_byte = stream.read_u8().await?;
    let length = match second_byte & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let masked = second_byte & 0x80 != 0;
    let mut mask = [0; 4];
    if masked {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await?;
    for chunk in payload.chunks_mut(4) {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    // A client's frame is masked. One that is not must not look like one that is.
    Ok(Frame { first_byte: if masked { first_byte } else { first_byte ^ 0x70 }, payload })
}

async fn write(stream: &mut TcpStream, first_byte: u8, payload: &[u8]) -> io::Result<()> {
    let mut head = vec![first_byte];
    match payload.len() {
        short if short < 126 => head.push(short as u8),
        medium if medium <= usize::from(u16::MAX) => {
            head.push(126);
            head.extend((medium as u16).to_be_bytes());
        }
        long => {
            head.push(127);
            head.extend((long as u64).to_be_bytes());
        }
    }
    stream.write_all(&head).await?;
    stream.write_all(payload).await
}
