//! What the proxy counts of its own work. The kernel counts sockets and WebSockets; nothing here is used for a decision.
//!
//! Written with relaxed atomics, never per message; read at any time by [`Counters`]' getters and summed up at exit.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::request::reason::Reason;

/// One number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that is counted; all but `tunnels_live` only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// TLS handshakes that did not come to an end: no zone for the SNI, refused, timed out or broken off.
    pub tls_failed: Counter,
    /// Connections that were closed because a request's head, or the next request, did not come in time, or because an answer
    /// stalled.
    pub timed_out: Counter,
    /// Connections that ended with what is not HTTP (400 and 431 of hyper).
    pub malformed: Counter,
    /// Requests read, upgrades included.
    pub requests: Counter,
    /// Upgrade requests to `websocket`.
    pub upgrades: Counter,
    /// Tunnels opened.
    pub tunnels: Counter,
    /// Tunnels open now.
    pub tunnels_live: Counter,
    /// Sockets that passed without being counted by the kernel (`accounting = "optional"`).
    pub untracked: Counter,
    /// Times that accepting paused for want of file descriptors or memory.
    pub accept_paused: Counter,
    refused: [Counter; Reason::ALL.len()],
}

impl Counters {
    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].add(1);
    }

    /// Answers that weir gave itself, by the `reason` of their body.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.label(), self.refused[reason as usize].get()))
    }

    /// Answers of one reason.
    pub fn refused_for(&self, label: &str) -> u64 {
        self.refused().find(|(name, _)| *name == label).map_or(0, |(_, count)| count)
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("accepted", &self.accepted),
            ("tls_failed", &self.tls_failed),
            ("timed_out", &self.timed_out),
            ("malformed", &self.malformed),
            ("requests", &self.requests),
            ("upgrades", &self.upgrades),
            ("tunnels", &self.tunnels),
            ("tunnels_live", &self.tunnels_live),
            ("untracked", &self.untracked),
            ("accept_paused", &self.accept_paused),
        ] {
            write!(f, "{name}={} ", counter.get())?;
        }
        f.write_str("refused={")?;
        let mut between = "";
        for (label, count) in self.refused().filter(|(_, count)| *count > 0) {
            write!(f, "{between}{label}={count}")?;
            between = " ";
        }
        f.write_str("}")
    }
}
