//! How long anything may take: for the host in `[proxy]`, for a zone where it says otherwise.

use std::time::Duration;

/// The time limits of one zone, or of the host as long as the zone is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request (or the accept) to the end of its headers; default 10 s.
    pub header: Duration,
    /// From the accept to the end of the TLS handshake; default 10 s.
    pub tls_handshake: Duration,
    /// An idle connection between two requests; default 75 s.
    pub keep_alive: Duration,
    /// TCP connect to an origin; default 5 s.
    pub connect: Duration,
    /// From the request to the origin's response headers; default 60 s.
    pub response: Duration,
    /// A request or an answer of which nothing moves although something is due; default 60 s.
    pub stall: Duration,
    /// What a client has to send of its content, or take of an answer that waits for it, averaged over `stall`; default 100, and
    /// 0 asks for a single byte.
    pub min_body_bytes_per_second: u64,
    /// A tunnel of which one direction has ended and in the other of which nothing moves; default 1 h.
    pub half_closed: Duration,
    /// A tunnel in which nothing moves; default 1 h, `None` is for ever.
    pub tunnel_idle: Option<Duration>,
    /// A tunnel, however much moves in it; default `None`, for ever.
    pub tunnel_max_life: Option<Duration>,
}

impl Timeouts {
    /// What has to move in one `stall`, in bytes; one at least.
    pub fn least_in_a_stall(&self) -> u64 {
        let due = u128::from(self.min_body_bytes_per_second) * self.stall.as_millis() / 1000;
        u64::try_from(due).unwrap_or(u64::MAX).max(1)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            header: seconds(10),
            tls_handshake: seconds(10),
            keep_alive: seconds(75),
            connect: seconds(5),
            response: seconds(60),
            stall: seconds(60),
            min_body_bytes_per_second: 100,
            half_closed: seconds(3600),
            tunnel_idle: Some(seconds(3600)),
            tunnel_max_life: None,
        }
    }
}
