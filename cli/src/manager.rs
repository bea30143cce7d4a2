//! What a service manager is told, if one asks (sd_notify(3)): that this process serves, that it lives, that it ends.
//!
//! systemd hands the socket over in `NOTIFY_SOCKET`. A process without it says nothing; nobody waits for an answer, and a message
//! that cannot be sent changes nothing for those who are served.

use std::{future::pending, time::Duration};

use sd_notify::NotifyState::{self, Ready, Status, Stopping, Watchdog};
use tokio::{
    process::Command,
    time::{Interval, MissedTickBehavior, interval},
};

/// What the manager's words stand in; a child of ours must not speak in our place.
const ENVIRONMENT: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The process does what it is there for; units that come after it may start.
pub fn serves(status: &str) {
    tell(&[Ready, Status(status)]);
}

/// The process ends, and may take its time.
pub fn ends(status: &str) {
    tell(&[Stopping, Status(status)]);
}

/// The loop that sends this turns. Says nothing where no watchdog waits for it.
pub fn lives() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[Watchdog]);
    }
}

/// Keeps the manager to ourselves.
pub fn hide_from(child: &mut Command) {
    for name in ENVIRONMENT {
        child.env_remove(name);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Signs of life in half the time that the manager gives; none if it gives none.
pub struct Pulse(Option<Interval>);

impl Pulse {
    /// Call it inside of a runtime.
    pub fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|limit| {
            let mut ticks = interval((limit / 2).max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        }))
    }

    /// Gives one sign when it is due. To be dropped and called again at will.
    pub async fn beat(&mut self) {
        match &mut self.0 {
            Some(ticks) => drop(ticks.tick().await),
            None => return pending().await,
        }
        lives();
    }

    /// Gives signs for as long as `work` takes.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.beat() => {}
            }
        }
    }
}
