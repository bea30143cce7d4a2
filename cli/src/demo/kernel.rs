//! The kernel's numbers, as the demo gets them: from the agent's API, like everybody else.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_agent::{EventRecord, EventsReply, HostReply, ZoneRecord, ZonesReply};

use super::scenario::ROLES;
use crate::admin::{Admin, AdminError};

/// Between two questions while something is waited for.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// Seconds that are kept for a zone's curve.
const HISTORY: usize = 120;

/// An audit: the kernel's counts against its own list of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Counted sockets in the list.
    pub sockets: u64,
    /// Sum of all differences.
    pub drift: u64,
    /// Sockets of the demo's ports that are in no count.
    pub untracked: u64,
}

/// What is known of the kernel's numbers.
pub struct Kernel {
    admin: Admin,
    /// Newest last; in the order of the cast.
    pub zones: Vec<ZoneRecord>,
    /// The highest live number of each second that was seen.
    pub history: HashMap<String, VecDeque<u64>>,
    begun: Instant,
    /// Of the newest numbers in `history`.
    second: u64,
    next_event: u64,
}

impl Kernel {
    pub fn new(admin: Admin) -> Self {
        Self {
            admin,
            zones: Vec::new(),
            history: HashMap::new(),
            begun: Instant::now(),
            second: 0,
            next_event: 0,
        }
    }

    /// Reads everything once. Returns what has happened since the last look.
    ///
    /// The zones are read after the events: what they show may be later than an event, never earlier.
    pub async fn look(&mut self) -> Result<Vec<EventRecord>, AdminError> {
        let path = format!("/api/events?since={}", self.next_event);
        let EventsReply { events, next } = self.admin.json(&path).await?;
        self.next_event = next;
        self.read_zones().await?;
        self.keep();
        Ok(events)
    }

    fn keep(&mut self) {
        let second = self.begun.elapsed().as_secs();
        let is_new = std::mem::replace(&mut self.second, second) != second;
        for zone in &self.zones {
            let curve = self.history.entry(zone.zone.clone()).or_default();
            match curve.back_mut() {
                Some(newest) if !is_new => *newest = zone.websockets.max(*newest),
                _ => curve.push_back(zone.websockets),
            }
            if curve.len() > HISTORY {
                curve.pop_front();
            }
        }
    }

    /// Reads the zones again and again until `done` says so, or `patience` is over. True if it said so.
    pub async fn until(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&[ZoneRecord]) -> bool,
    ) -> Result<bool, AdminError> {
        let deadline = Instant::now() + patience;
        let mut ticks = interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.read_zones().await?;
            if done(&self.zones) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
        }
    }

    /// Waits for `count` audits to end from now on, and returns the last of them; nothing if they do not come in `patience`.
    pub async fn audit(&self, count: usize, patience: Duration) -> Result<Option<Audit>, AdminError> {
        let deadline = Instant::now() + patience;
        let mut ticks = interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        let mut ended = 0;
        while Instant::now() < deadline {
            ticks.tick().await;
            let HostReply { audit, .. } = self.admin.json("/api/host").await?;
            if seen.replace(audit.at).is_some_and(|before| before != audit.at) {
                ended += 1;
            }
            if ended == count {
                return Ok(Some(Audit {
                    sockets: audit.sockets,
                    drift: audit.drift_sockets,
                    untracked: audit.untracked_sockets,
                }));
            }
        }
        Ok(None)
    }

    async fn read_zones(&mut self) -> Result<(), AdminError> {
        let ZonesReply { zones, .. } = self.admin.json("/api/zones").await?;
        self.zones = zones;
        // Zones that somebody adds to the demo's configuration come last.
        self.zones
            .sort_by_key(|zone| ROLES.iter().position(|role| role.zone == zone.zone).unwrap_or(usize::MAX));
        Ok(())
    }
}
