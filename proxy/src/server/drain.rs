//! The way out: no new connections, then time for those that are there, then closes that are spread.
//!
//! Thousands of clients that are closed at once come back at once, somewhere else. So when `drain_timeout` is over, the tunnels that
//! are left are asked to end one after the other, evenly over `close_spread` and each a little off its turn. How a
//! tunnel ends is [`farewell`](crate::tunnel::farewell)'s. What is still there after all that is closed where it stands.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::{
    server::roster::Roster,
    tunnel::farewell::{self, Leave},
};

/// How long aborted connections may take to be gone.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// How long the way out may take, and what clients are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub timeout: Duration,
    pub spread: Duration,
    pub code: u16,
}

/// Waits for everybody to leave, asks them to, and makes them. Returns how many did not leave by themselves.
pub(crate) async fn run(roster: &Roster, plan: Plan) -> usize {
    let (timeout_seconds, spread_seconds) = (plan.timeout.as_secs_f64(), plan.spread.as_secs_f64());
    info!(live = roster.live(), timeout_seconds, spread_seconds, "draining");
    if timeout(plan.timeout, roster.emptied()).await.is_ok() {
        return 0;
    }
    let closed = roster.live();
    info!(live = closed, "closing what is left");
    tokio::select! {
        biased;
        () = roster.emptied() => return closed,
        () = ask_in_turn(roster, plan) => {}
    }
    // The timers of the last ones may be behind ours.
    let last = farewell::LIMIT + farewell::LIMIT / 4;
    if timeout(last, roster.emptied()).await.is_ok() {
        return closed;
    }
    roster.abort_all();
    // A task that was polled just then ends as soon as it returns.
    if timeout(ABORT_TIME, roster.emptied()).await.is_err() {
        warn!(live = roster.live(), "connections did not end when they were closed");
    }
    closed
}

async fn ask_in_turn(roster: &Roster, plan: Plan) {
    let begun = Instant::now();
    let tunnels = roster.tunnels();
    let turns = tunnels.len();
    let random = RandomState::new();
    for (turn, tunnel) in tunnels.iter().enumerate() {
        let off = (random.hash_one(turn) >> 11) as f64 / (1_u64 << 53) as f64;
        sleep_until(begun + moment(plan.spread, turn, turns, off)).await;
        tunnel.ask(plan.code);
    }
    sleep_until(begun + plan.spread).await;
    // Upgrades that were under way.
    roster.tunnels().iter().for_each(|tunnel: &std::sync::Arc<Leave>| tunnel.ask(plan.code));
}

/// When it is the turn of one of so many. `off`, 0 to 1, is where within its share of the time.
fn moment(spread: Duration, turn: usize, turns: usize, off: f64) -> Duration {
    spread.mul_f64(((turn as f64 + off) / turns as f64).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_even_and_within_the_spread() {
        let spread = Duration::from_secs(10);
        let all: Vec<_> = (0..1000).map(|turn| moment(spread, turn, 1000, (turn % 7) as f64 / 7.0)).collect();
        assert!(all.is_sorted() && all[999] <= spread);
        for second in 0..10 {
            let within = all.iter().filter(|moment| moment.as_secs() == second).count();
            assert_eq!(within, 100, "in second {second}");
        }
    }
}
