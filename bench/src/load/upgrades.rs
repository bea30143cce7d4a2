//! WebSockets that come and go: connect, handshakes, closing handshake, end.

use std::{cell::RefCell, rc::Rc, time::Instant};

use anyhow::{Result, bail};
use bytes::BytesMut;

use super::{Crew, Sample, Turn, idle, quantiles};
use crate::{client, frame, rows::Figure};

/// Clients beside those that stand.
const COMING_AND_GOING: usize = 8;
/// Messages in a life.
const MESSAGES: usize = 4;

/// As many at a time as are asked for, and nobody else.
pub async fn alone(turn: &Turn<'_>, at_once: usize) -> Result<Sample> {
    let mut crew = Crew::default();
    let times = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..at_once {
        let (target, done, times) = (turn.target.own(), crew.counter(), times.clone());
        crew.join(async move {
            // A full handshake, whose ticket the next one comes back with.
            client::close(target.open("/echo").await?).await?;
            loop {
                let begun = Instant::now();
                let socket = target.open("/echo").await?;
                times.borrow_mut().push(begun.elapsed().as_nanos() as u64);
                client::close(socket).await?;
                done.set(done.get() + 1);
            }
        });
    }
    let mut sample = crew.measure(turn).await?.each();
    if at_once == 1 {
        let p50 = quantiles(times.take()).into_iter().filter(|(figure, _)| *figure == Figure::P50Micros);
        sample.extend(p50);
    }
    let (all, resumed) = (turn.target.handshakes().all.get(), turn.target.handshakes().resumed.get());
    // The first of each, and those that are on their way.
    if turn.target.resumes() && resumed + 2 * at_once as u32 + all / 20 < all {
        bail!("only {resumed} of {all} handshakes resumed a session");
    }
    Ok(sample)
}

/// A few that come, say something and go, beside many that stay.
pub async fn churn(turn: &Turn<'_>, standing: usize) -> Result<Sample> {
    let _standing = idle::open(turn, standing).await?;
    let mut crew = Crew::default();
    for _ in 0..COMING_AND_GOING {
        let (target, done) = (turn.target.clone(), crew.counter());
        crew.join(async move {
            loop {
                let mut socket = target.open("/echo").await?;
                for _ in 0..MESSAGES {
                    let mut message = BytesMut::new();
                    frame::write(&mut message, frame::BINARY, &[b'x'; 64], Some(frame::mask()));
                    socket.send(&message).await?;
                    socket.expect().await?;
                }
                client::close(socket).await?;
                done.set(done.get() + 1);
            }
        });
    }
    Ok(crew.measure(turn).await?.each())
}
