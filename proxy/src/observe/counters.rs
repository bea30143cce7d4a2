//! What the proxy counts of its own work. The kernel counts sockets and WebSockets; nothing here is used for a decision.
//!
//! Written with relaxed atomics, never per message; read at any time by [`Counters`]' getters and summed up at exit.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use rustls::ProtocolVersion;

use crate::{
    observe::{
        outcome::{Classes, OriginError, TunnelEnd},
        timing::Timing,
    },
    request::reason::Reason,
    upstream::DialError,
};

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

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything that is counted; all but `tunnels_live` and `last_reload_s` only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// TLS handshakes that did not come to an end: no zone for the SNI, refused, timed out or broken off.
    pub tls_failed: Counter,
    /// Connections that were closed because a request's head, or the next request, did not come in time, or because an answer
    /// stalled.
    pub timed_out: Counter,
    /// Connections without the PROXY protocol header that they had to begin with.
    pub proxy_protocol_failed: Counter,
    /// Connections that ended with what is not HTTP (400 and 431 of hyper), or with an error of HTTP/2.
    pub malformed: Counter,
    /// Connections that spoke HTTP/2.
    pub http2: Counter,
    /// Connections of HTTP/2 that were closed because their client sent floods of frames.
    pub flooded: Counter,
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
    /// TLS handshakes of version 1.2.
    pub tls12: Counter,
    /// TLS handshakes of version 1.3.
    pub tls13: Counter,
    /// From the accept to the end of a TLS handshake.
    pub handshake_time: Timing,
    /// From an upgrade request to its 101.
    pub upgrade_time: Timing,
    /// Lines of the access log that found no room or no disk.
    pub log_lines_lost: Counter,
    /// Configurations that were taken over; the start counts.
    pub reloads: Counter,
    /// Configurations that were not.
    pub reloads_failed: Counter,
    /// When one was last taken over, in seconds of the Unix time.
    pub last_reload_s: Counter,
    pub(crate) requests_without_zone: Classes,
    pub(crate) origin_errors: [Counter; OriginError::ALL.len()],
    /// Tunnels that have ended.
    pub(crate) ended: [Counter; TunnelEnd::ALL.len()],
    refused: [Counter; Reason::ALL.len()],
}

impl Counters {
    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].add(1);
        self.origin_did_wrong(OriginError::of_answer(reason));
    }

    /// A connection to an origin did not come up.
    pub(crate) fn undialled(&self, error: &DialError) {
        self.origin_did_wrong(OriginError::of_dial(error));
    }

    fn origin_did_wrong(&self, kind: Option<OriginError>) {
        if let Some(kind) = kind {
            self.origin_errors[kind as usize].add(1);
        }
    }

    pub(crate) fn shook_hands(&self, version: Option<ProtocolVersion>, took: Duration) {
        self.handshake_time.add(took);
        match version {
            Some(ProtocolVersion::TLSv1_2) => self.tls12.add(1),
            _ => self.tls13.add(1),
        }
    }

    pub(crate) fn reloaded(&self) {
        self.reloads.add(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_reload_s.set(now.as_secs());
    }

    /// Answers that weir gave itself, by the `reason` of their body.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.label(), self.refused[reason as usize].get()))
    }

    /// Tunnels that have ended, by who ended them.
    pub fn tunnels_ended_by(&self, label: &str) -> u64 {
        let end = TunnelEnd::ALL.into_iter().find(|end| end.label() == label);
        end.map_or(0, |end| self.ended[end as usize].get())
    }

    /// What origins did wrong, of one kind.
    pub fn origin_errors_of(&self, label: &str) -> u64 {
        let kind = OriginError::ALL.into_iter().find(|kind| kind.label() == label);
        kind.map_or(0, |kind| self.origin_errors[kind as usize].get())
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
            ("proxy_protocol_failed", &self.proxy_protocol_failed),
            ("http2", &self.http2),
            ("flooded", &self.flooded),
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
