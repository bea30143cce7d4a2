//! What just happened: the last events of the kernel, and the agent's own, for the API.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use weir_common::{
    event::{Event, KIND_ABOVE_GUIDELINE, KIND_REFUSED},
    gate::DropEvent,
    listener::Address,
    reason::Refusal,
    verdict::Outcome,
};

use crate::api::EventRecord;

/// Events that are kept; older ones are dropped.
const KEPT: usize = 512;

/// A bounded log, numbered without gaps.
#[derive(Default)]
pub struct EventLog {
    records: VecDeque<EventRecord>,
    next_id: u64,
}

impl EventLog {
    /// Records an event of the kernel. `zone` is its zone's name.
    pub fn kernel(&mut self, event: &Event, zone: String) {
        let (kind, reason) = match event.kind {
            KIND_REFUSED => {
                ("refused", Refusal::from_raw(event.reason).map(|reason| reason.label().to_owned()))
            }
            KIND_ABOVE_GUIDELINE => ("above_guideline", None),
            _ => ("unknown", None),
        };
        self.push(EventRecord {
            id: 0,
            at: wall_clock(ClockId::CLOCK_MONOTONIC, event.at_ns),
            kind: kind.to_owned(),
            zone: Some(zone),
            reason,
            websockets: Some(event.websockets),
            bound: Some(event.bound),
            source: None,
            message: None,
        });
    }

    /// Records a sample of what the gate dropped. `zone` is the name of the dedicated listener's zone.
    pub fn dropped(&mut self, event: &DropEvent, zone: Option<String>) {
        let destination = SocketAddr::new(ip(event.destination), event.port as u16);
        self.push(EventRecord {
            id: 0,
            at: wall_clock(ClockId::CLOCK_BOOTTIME, event.at_boot_ns),
            kind: if event.dry == 0 { "syn_dropped" } else { "syn_would_drop" }.to_owned(),
            zone,
            reason: Outcome::from_raw(event.outcome).map(|outcome| outcome.label().to_owned()),
            websockets: None,
            bound: None,
            source: Some(ip(event.source)),
            message: Some(format!("to {destination}")),
        });
    }

    /// Records what the agent itself did or found.
    pub fn agent(&mut self, kind: &str, message: String) {
        self.push(EventRecord {
            id: 0,
            at: OffsetDateTime::now_utc(),
            kind: kind.to_owned(),
            zone: None,
            reason: None,
            websockets: None,
            bound: None,
            source: None,
            message: Some(message),
        });
    }

    fn push(&mut self, mut record: EventRecord) {
        record.id = self.next_id;
        self.next_id += 1;
        if self.records.len() == KEPT {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// Events with at least this number, oldest first.
    pub fn since(&self, id: u64) -> Vec<EventRecord> {
        self.records.iter().filter(|record| record.id >= id).cloned().collect()
    }

    /// The number that the next event will have.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }
}

/// An address as the kernel programs see it.
fn ip(address: Address) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(address) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(octets).to_canonical()
}

/// The time of day of a time of another clock, in nanoseconds.
fn wall_clock(clock: ClockId, at_ns: u64) -> OffsetDateTime {
    let now_ns = clock_gettime(clock).map_or(at_ns, |now| Duration::from(now).as_nanos() as u64);
    (SystemTime::now() - Duration::from_nanos(now_ns.saturating_sub(at_ns))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_numbered() {
        let mut log = EventLog::default();
        for n in 0..KEPT + 3 {
            log.agent("reload", format!("{n}"));
        }
        assert_eq!(log.since(0).len(), KEPT);
        assert_eq!(log.since(0)[0].id, 3);
        assert_eq!(log.since(log.next_id() - 1).len(), 1);
        assert!(log.since(log.next_id()).is_empty());
    }

    #[test]
    fn kernel_events_are_told_in_the_contracts_words() {
        let mut log = EventLog::default();
        let event = Event { at_ns: 1, zone_key: 7, websockets: 10, bound: 10, kind: KIND_REFUSED, reason: 2 };
        log.kernel(&event, "example.com".to_owned());
        let record = &log.since(0)[0];
        assert_eq!((record.kind.as_str(), record.reason.as_deref()), ("refused", Some("abuse_cap")));
        assert!(record.at <= OffsetDateTime::now_utc());
    }
}
