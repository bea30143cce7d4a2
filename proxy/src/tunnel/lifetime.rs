//! How long a tunnel may live: by what moves in it, and in all.
//!
//! One timer a tunnel, which a message never touches: each time that it goes off it compares what has moved with what had moved
//! before, and is set again. It looks [`LOOKS`] times in the time that a tunnel may be idle, so one that is idle ends after
//! that time, at the latest after a quarter of it more.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use weir_config::Timeouts;

/// Looks at a tunnel in the time that it may be idle.
const LOOKS: u32 = 4;

/// Why a tunnel that nobody ended has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// Nothing has moved for `tunnel_idle_timeout`.
    Idle,
    /// `tunnel_max_life` is over.
    Life,
}

impl Expired {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Life => "max_life",
        }
    }
}

pub(super) struct Lifetime {
    /// `None` if the tunnel may live for ever.
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
    idle: Option<Duration>,
    ends: Option<Instant>,
    moved: (u64, u64),
    quiet_looks: u32,
}

impl Lifetime {
    /// Begins now.
    pub fn new(timeouts: &Timeouts) -> Self {
        let now = Instant::now();
        let ends = timeouts.tunnel_max_life.map(|life| now + life);
        let mut lifetime = Self {
            timer: None,
            armed: false,
            idle: timeouts.tunnel_idle,
            ends,
            moved: (0, 0),
            quiet_looks: 0,
        };
        lifetime.timer = lifetime.next_look(now).map(|at| Box::pin(sleep_until(at)));
        lifetime
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        let look = self.idle.map(|idle| now + idle / LOOKS);
        look.into_iter().chain(self.ends).min()
    }

    /// `moved` is what the tunnel has moved so far, either way. Has to be polled by the task that polls the tunnel: as long as
    /// the timer runs, only whether it has gone off is asked, which is one read of memory.
    pub fn poll(&mut self, moved: (u64, u64), cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            if self.armed && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if timer.as_mut().poll(cx).is_pending() {
                self.armed = true;
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.ends.is_some_and(|end| end <= now) {
                return Poll::Ready(Expired::Life);
            }
            if self.moved == moved {
                self.quiet_looks += 1;
            } else {
                self.quiet_looks = 0;
                self.moved = moved;
            }
            if self.idle.is_some() && self.quiet_looks >= LOOKS {
                return Poll::Ready(Expired::Idle);
            }
            self.armed = false;
            let next = self.next_look(now);
            if let (Some(timer), Some(at)) = (&mut self.timer, next) {
                timer.as_mut().reset(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    };

    use tokio::time::{sleep, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn timeouts(idle: Option<Duration>, life: Option<Duration>) -> Timeouts {
        Timeouts { tunnel_idle: idle, tunnel_max_life: life, ..Timeouts::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_one_ends_after_its_time_and_a_quarter_at_most() {
        let begun = Instant::now();
        let mut lifetime = Lifetime::new(&timeouts(Some(HOUR), None));
        assert_eq!(poll_fn(|cx| lifetime.poll((0, 0), cx)).await, Expired::Idle);
        let lived = begun.elapsed();
        assert!(HOUR <= lived && lived <= HOUR * 5 / 4 + Duration::from_secs(1), "{lived:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_which_a_byte_moves_now_and_then_lives_until_its_longest_life() {
        let moved = AtomicU64::new(0);
        let begun = Instant::now();
        let mut lifetime = Lifetime::new(&timeouts(Some(HOUR), Some(HOUR * 30)));
        let drip = async {
            loop {
                sleep(HOUR - Duration::from_secs(1)).await;
                moved.fetch_add(1, Relaxed);
            }
        };
        tokio::select! {
            () = drip => {}
            expired = poll_fn(|cx| lifetime.poll((moved.load(Relaxed), 0), cx)) => {
                assert_eq!(expired, Expired::Life);
            }
        }
        let lived = begun.elapsed();
        assert!(HOUR * 30 <= lived && lived < HOUR * 30 + Duration::from_secs(1), "{lived:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_has_no_timer() {
        let mut lifetime = Lifetime::new(&timeouts(None, None));
        assert!(lifetime.timer.is_none());
        assert!(timeout(HOUR * 1000, poll_fn(|cx| lifetime.poll((0, 0), cx))).await.is_err());
    }
}
