//! Messages that come back: as fast as they do, for what one costs; and at a pace of their own, for how long one takes.

use std::{cell::RefCell, io, rc::Rc};

use anyhow::Result;
use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, split};

use super::{Crew, Sample, Turn, idle, quantiles};
use crate::{
    clock::{Pace, now_ns},
    frame,
    rows::Figure,
    socket::Reader,
};

/// One message on its way on each connection.
pub async fn echo(turn: &Turn<'_>, bytes: usize, connections: usize) -> Result<Sample> {
    let mut crew = Crew::default();
    for mut socket in idle::open(turn, connections).await? {
        let done = crew.counter();
        crew.join(async move {
            let payload = vec![0x5a; bytes];
            let mut message = BytesMut::new();
            loop {
                message.clear();
                frame::write(&mut message, frame::BINARY, &payload, Some(frame::mask()));
                socket.send(&message).await?;
                let answer = socket.expect().await?;
                if answer.payload[..] != payload[..] {
                    return Err(io::Error::other("another message came back"));
                }
                done.set(done.get() + 1);
            }
        });
    }
    Ok(crew.measure(turn).await?.each())
}

/// Open loop: what is due is sent, and a message's time begins when it was due.
pub async fn latency(turn: &Turn<'_>, a_second: u64, connections: usize) -> Result<Sample> {
    let mut crew = Crew::default();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut writers = Vec::new();
    for socket in idle::open(turn, connections).await? {
        let Reader { stream, buffer } = socket;
        let (read, write) = split(stream);
        writers.push(write);
        let mut reader = Reader { stream: read, buffer };
        let (done, seen) = (crew.counter(), seen.clone());
        crew.join(async move {
            loop {
                let answer = reader.expect().await?;
                let due = answer.payload.get(..8).and_then(|due| due.try_into().ok()).map(u64::from_be_bytes);
                let due = due.ok_or_else(|| io::Error::other("another message came back"))?;
                seen.borrow_mut().push((due, now_ns().saturating_sub(due)));
                done.set(done.get() + 1);
            }
        });
    }
    crew.join(async move {
        let mut pace = Pace::new(std::time::Duration::from_nanos(1_000_000_000 / a_second))?;
        let mut payload = [0x5a; 64];
        let mut message = BytesMut::new();
        let mut turns = (0..writers.len()).cycle();
        loop {
            for due_ns in pace.due().await? {
                payload[..8].copy_from_slice(&due_ns.to_be_bytes());
                message.clear();
                frame::write(&mut message, frame::BINARY, &payload, Some(frame::mask()));
                let Some(writer) = turns.next().and_then(|turn| writers.get_mut(turn)) else { continue };
                writer.write_all(&message).await?;
                writer.flush().await?;
            }
        }
    });
    let begun_ns = now_ns() + turn.sizes.warm.as_nanos() as u64;
    let mut sample = crew.measure(turn).await?.each();
    sample.retain(|(figure, _)| *figure != Figure::Rate);
    let seen = seen.take().into_iter().filter(|(due, _)| *due >= begun_ns).map(|(_, took)| took);
    sample.extend(quantiles(seen.collect()));
    Ok(sample)
}
