//! Whether a silent client is still there. What its TCP acknowledges says little behind a load balancer, and a tunnel may be silent
//! by right, so it is asked: a PING (RFC 9113, 6.7), which every client has to answer. Whatever comes is an answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client has for an answer, if it is not asked more often.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks a client that has been silent for an interval, and gives up one that stays so.
pub(super) struct Alive {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    reads: u32,
    asked: bool,
}

impl Alive {
    pub fn new(interval: Duration) -> Self {
        Self { interval, timer: Box::pin(sleep(interval)), reads: 0, asked: false }
    }

    /// `reads` is what has come so far. Ready if the client is gone; `ask` sends it a PING.
    pub fn poll(&mut self, reads: u32, mut ask: impl FnMut(), cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let silent = self.reads == reads;
            self.reads = reads;
            if silent && self.asked {
                return Poll::Ready(());
            }
            self.asked = silent;
            let wait = if silent { self.interval.min(PATIENCE) } else { self.interval };
            self.timer.as_mut().reset(Instant::now() + wait);
            if silent {
                ask();
            }
        }
        Poll::Pending
    }
}

/// Sends a PING, if none is on its way.
pub(super) fn ask(pings: &mut PingPong, cx: &mut Context<'_>) {
    // Takes the answer to the one before, without which no other can be sent. An error is the connection's to tell.
    let _ = pings.poll_pong(cx);
    let _ = pings.send_ping(Ping::opaque());
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_asked_and_given_up_if_it_stays_silent() {
        let (begun, asked) = (Instant::now(), Cell::new(None));
        let mut alive = Alive::new(INTERVAL);
        let given_up = poll_fn(|cx| alive.poll(0, || asked.set(Some(begun.elapsed())), cx));
        tokio::time::timeout(INTERVAL * 10, given_up).await.expect("it is given up");
        let asked = asked.get().expect("asked");
        assert!(asked >= INTERVAL && asked < INTERVAL + PATIENCE, "{asked:?}");
        assert!(begun.elapsed() >= INTERVAL + PATIENCE, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < INTERVAL * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_or_speaks_lives() {
        let (begun, reads, asked) = (Instant::now(), Cell::new(0_u32), Cell::new(0));
        let mut alive = Alive::new(INTERVAL);
        let answers = || {
            asked.set(asked.get() + 1);
            reads.set(reads.get() + 1);
        };
        let given_up = poll_fn(|cx| {
            let now = reads.get();
            alive.poll(now, answers, cx)
        });
        assert!(tokio::time::timeout(INTERVAL * 100, given_up).await.is_err(), "{:?}", begun.elapsed());
        assert!(asked.get() >= 30, "{}", asked.get());
    }
}
