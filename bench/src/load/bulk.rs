//! Messages of 64 KiB without an end, and small ones beside them.

use std::{cell::RefCell, io, rc::Rc};

use anyhow::Result;
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    task::yield_now,
};

use super::{Crew, Sample, Turn, quantiles};
use crate::{
    clock::now_ns,
    frame,
    origin::BULK,
    rows::{Figure, Way},
    socket::Reader,
};

const GIB: f64 = (1u64 << 30) as f64;
/// WebSockets that transfer at a time.
const CONNECTIONS: usize = 4;

pub async fn transfer(turn: &Turn<'_>, way: Way) -> Result<Sample> {
    let path = match way {
        Way::Down => "/down",
        Way::Up => "/up",
        Way::Both => "/both",
    };
    let mut crew = Crew::default();
    for _ in 0..CONNECTIONS {
        let Reader { stream, .. } = turn.target.open(path).await?;
        let (read, write) = split(stream);
        let (taken, given) = (crew.counter(), crew.counter());
        if way != Way::Up {
            crew.join(take(read, move |bytes| taken.set(taken.get() + bytes)));
        } else {
            crew.join(hold(read));
        }
        if way != Way::Down {
            crew.join(send(write, move |bytes| given.set(given.get() + bytes)));
        } else {
            crew.join(hold(write));
        }
    }
    let measured = crew.measure(turn).await?;
    let gib = measured.done / GIB;
    Ok(vec![
        (Figure::CpuSecondsPerGib, measured.cpu_seconds / gib),
        (Figure::Rate, measured.done / (1 << 20) as f64 / measured.seconds),
    ])
}

/// A half that has nothing to do stays, so that its stream does.
async fn hold<T>(half: T) -> io::Result<()> {
    std::future::pending::<()>().await;
    drop(half);
    Ok(())
}

/// What comes is counted and thrown away: frames are no matter here.
async fn take<R: AsyncRead + Unpin>(mut stream: R, count: impl Fn(u64)) -> io::Result<()> {
    let mut scratch = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut scratch).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => count(read as u64),
        }
        yield_now().await;
    }
}

async fn send<W: AsyncWrite + Unpin>(mut stream: W, count: impl Fn(u64)) -> io::Result<()> {
    let payload = vec![0x5a; BULK];
    let mut message = BytesMut::new();
    loop {
        message.clear();
        frame::write(&mut message, frame::BINARY, &payload, Some(frame::mask()));
        stream.write_all(&message).await?;
        count(message.len() as u64);
        yield_now().await;
    }
}

/// The time from when the origin's stamp was due to its arrival, while the same WebSocket uploads all that it can.
pub async fn against(turn: &Turn<'_>) -> Result<Sample> {
    let mut crew = Crew::default();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let Reader { stream, buffer } = turn.target.open("/stamps").await?;
    let (read, write) = split(stream);
    let (done, times) = (crew.counter(), seen.clone());
    crew.join(async move {
        let mut reader = Reader { stream: read, buffer };
        loop {
            let stamp = reader.expect().await?;
            let due = stamp.payload[..].try_into().map(u64::from_be_bytes);
            let due = due.map_err(|_| io::Error::other("another message came"))?;
            times.borrow_mut().push((due, now_ns().saturating_sub(due)));
            done.set(done.get() + 1);
        }
    });
    crew.join(send(write, |_| {}));
    let begun_ns = now_ns() + turn.sizes.warm.as_nanos() as u64;
    crew.measure(turn).await?;
    let seen = seen.take().into_iter().filter(|(due, _)| *due >= begun_ns).map(|(_, took)| took);
    Ok(quantiles(seen.collect()))
}
