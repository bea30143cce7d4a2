//! Whether something still moves of a request whose answer has begun: the answer towards the client, or what the client goes on to
//! send. The same rule as on a connection of HTTP/1.1, but for each stream of its own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep};
use weir_config::Timeouts;

/// Who has to move next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    ForOrigin,
    /// There is something for the client, which does not take it.
    ForClient,
}

pub(super) struct Pulse {
    timeouts: Arc<Timeouts>,
    timer: Pin<Box<Sleep>>,
    /// Bytes of the answer that the client has had room for.
    pub sent: u64,
    looked: u64,
}

impl Pulse {
    /// Begins with the answer.
    pub fn new(timeouts: Arc<Timeouts>) -> Self {
        Self { timer: Box::pin(sleep(timeouts.stall)), timeouts, sent: 0, looked: 0 }
    }

    /// Ready if too little has moved in the last `stall_timeout`: not a byte either way, or less than
    /// `min_body_bytes_per_second` while the client is waited for. It looks at each end of that time, so it says so at the latest
    /// after twice the time.
    pub fn poll(&mut self, wait: Wait, uploaded: u64, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let all = self.sent + uploaded;
            let moved = all - std::mem::replace(&mut self.looked, all);
            let due = match wait {
                Wait::ForOrigin => 1,
                Wait::ForClient => self.timeouts.least_in_a_stall(),
            };
            if moved < due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + self.timeouts.stall);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    fn pulse() -> Pulse {
        let timeouts = Timeouts { stall: STALL, min_body_bytes_per_second: 100, ..Timeouts::default() };
        Pulse::new(Arc::new(timeouts))
    }

    /// How many looks a stream survives of which so many bytes are sent and come between two looks.
    async fn survives(sent: u64, uploaded: u64, wait: Wait) -> u32 {
        let (mut pulse, mut looks, mut come) = (pulse(), 0, 0);
        for _ in 0..20 {
            pulse.sent += sent;
            come += uploaded;
            let stalled = poll_fn(|cx| pulse.poll(wait, come, cx));
            // A little more than the time, so that there is one look in it.
            if tokio::time::timeout(STALL + Duration::from_millis(5), stalled).await.is_ok() {
                break;
            }
            looks += 1;
        }
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn one_byte_either_way_is_enough_while_the_origin_is_waited_for() {
        assert_eq!(survives(0, 0, Wait::ForOrigin).await, 0);
        assert_eq!(survives(1, 0, Wait::ForOrigin).await, 20);
        assert_eq!(survives(0, 1, Wait::ForOrigin).await, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_waited_for_has_a_least_rate() {
        assert_eq!(survives(999, 0, Wait::ForClient).await, 0);
        assert_eq!(survives(1000, 0, Wait::ForClient).await, 20);
    }
}
