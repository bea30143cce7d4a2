//! What is measured, row by row, and how much of it.

use std::{fmt, time::Duration};

use serde::Serialize;

/// How a row's connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Ws,
    /// A full handshake each.
    Wss,
    /// Sessions are resumed.
    WssResumed,
}

impl Security {
    const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::WssResumed => "wss, resumed",
        }
    }
}

/// Which way a bulk transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Down,
    Up,
    Both,
}

/// What a row's clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Open a WebSocket and close it.
    Upgrades {
        at_once: usize,
    },
    /// One message after the other on each connection.
    Echo {
        bytes: usize,
        connections: usize,
    },
    Bulk {
        way: Way,
    },
    /// Nothing, once they are open.
    Idle {
        connections: usize,
    },
    /// Come, say something, and go, beside others that stay.
    Churn {
        standing: usize,
    },
    /// Messages at an even pace, whatever comes back.
    Latency {
        a_second: u64,
        connections: usize,
    },
    /// Messages of 8 bytes down, against a bulk transfer up on the same WebSocket.
    AgainstBulk,
}

/// A figure of a row. Smaller is better but for [`Figure::Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    CpuMicros,
    CpuSecondsPerGib,
    Rate,
    P50Micros,
    P99Micros,
    P999Micros,
    ProcessKib,
    KernelKib,
}

impl Figure {
    pub const fn title(self) -> &'static str {
        match self {
            Self::CpuMicros => "CPU, us each",
            Self::CpuSecondsPerGib => "CPU, s a GiB",
            Self::Rate => "rate, a second",
            Self::P50Micros => "p50, us",
            Self::P99Micros => "p99, us",
            Self::P999Micros => "p99.9, us",
            Self::ProcessKib => "process, KiB each",
            Self::KernelKib => "kernel, KiB each, all ends",
        }
    }

    /// What the table of goals is about; the rest is for whoever wants to know more.
    pub const fn is_main(self) -> bool {
        !matches!(self, Self::Rate | Self::KernelKib)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub security: Security,
    pub work: Work,
}

impl Row {
    /// What weir's median may be of the best peer's, by the figure.
    pub fn goal(&self, figure: Figure) -> Option<Goal> {
        let tls = self.security != Security::Ws;
        match (self.work, figure) {
            (Work::Upgrades { .. }, Figure::CpuMicros) => Some(Goal::Ratio(if tls { 0.85 } else { 0.95 })),
            (Work::Echo { .. }, Figure::CpuMicros) => Some(Goal::Ratio(0.9)),
            (Work::Bulk { .. }, Figure::CpuSecondsPerGib) => Some(Goal::Ratio(0.9)),
            (Work::Idle { .. }, Figure::ProcessKib) => Some(Goal::AtMost(if tls { 2.0 } else { 1.0 })),
            (Work::Latency { .. }, Figure::P50Micros | Figure::P99Micros)
            | (Work::AgainstBulk, Figure::P99Micros) => Some(Goal::Ratio(1.0)),
            _ => None,
        }
    }
}

/// What a figure of weir's is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Of the best peer's.
    Ratio(f64),
    AtMost(f64),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.security.name();
        match self.work {
            Work::Upgrades { at_once } => write!(f, "upgrade {kind}, {at_once} at once"),
            Work::Echo { bytes, connections } => {
                write!(f, "echo {kind}, {bytes} B, {connections} connections")
            }
            Work::Bulk { way } => {
                let way = match way {
                    Way::Down => "down",
                    Way::Up => "up",
                    Way::Both => "both ways",
                };
                write!(f, "bulk {kind}, {way}")
            }
            Work::Idle { connections } => write!(f, "idle {kind}, {connections}"),
            Work::Churn { standing } => write!(f, "churn {kind}, beside {standing}"),
            Work::Latency { a_second, connections } => {
                write!(f, "latency {kind}, {a_second} a second, {connections} connections")
            }
            Work::AgainstBulk => write!(f, "8 B against a bulk upload, {kind}"),
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rounds: usize,
    /// Before a measurement, so that it begins in the middle of the work.
    pub warm: Duration,
    pub window: Duration,
    /// The most connections of a row with work, and of an idle one.
    pub connections: usize,
    pub idle: usize,
    /// Rounds of idle rows, each of which has processes of its own.
    pub idle_rounds: usize,
    /// Of rows that differ in size or direction alone, one.
    pub few: bool,
}

impl Sizes {
    pub const FULL: Self = Self {
        rounds: 5,
        warm: Duration::from_millis(400),
        window: Duration::from_millis(1500),
        connections: 1000,
        idle: 100_000,
        idle_rounds: 3,
        few: false,
    };
    pub const QUICK: Self = Self {
        rounds: 3,
        warm: Duration::from_millis(150),
        window: Duration::from_millis(500),
        connections: 1000,
        idle: 10_000,
        idle_rounds: 1,
        few: false,
    };
    /// Sizes that say nothing.
    pub const SMOKE: Self = Self {
        rounds: 1,
        warm: Duration::from_millis(10),
        window: Duration::from_millis(40),
        connections: 4,
        idle: 20,
        idle_rounds: 1,
        few: true,
    };
}

/// All rows that there are.
pub fn all(sizes: &Sizes) -> Vec<Row> {
    use Security::{Ws, Wss, WssResumed};
    let mut rows = Vec::new();
    let mut add = |security, work| {
        let row = Row { security, work };
        // Where sizes are bounded, several become one.
        if !rows.contains(&row) {
            rows.push(row);
        }
    };
    for security in [Ws, Wss, WssResumed] {
        for at_once in [1, 32] {
            add(security, Work::Upgrades { at_once: at_once.min(sizes.connections) });
        }
    }
    for security in [Ws, Wss] {
        for bytes in if sizes.few { vec![64] } else { vec![64, 4096] } {
            for connections in [1, 100, 1000] {
                add(security, Work::Echo { bytes, connections: connections.min(sizes.connections) });
            }
        }
    }
    for security in [Ws, Wss] {
        for way in if sizes.few { vec![Way::Both] } else { vec![Way::Down, Way::Up, Way::Both] } {
            add(security, Work::Bulk { way });
        }
    }
    add(Ws, Work::Idle { connections: 10_000.min(sizes.idle) });
    add(Wss, Work::Idle { connections: 10_000.min(sizes.idle) });
    add(Ws, Work::Idle { connections: sizes.idle });
    for security in [Ws, Wss] {
        add(security, Work::Churn { standing: 1000.min(sizes.connections) });
        add(security, Work::Latency { a_second: 2000, connections: 100.min(sizes.connections) });
        add(security, Work::AgainstBulk);
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        for sizes in [Sizes::FULL, Sizes::QUICK, Sizes::SMOKE] {
            let rows = all(&sizes);
            let names: HashSet<_> = rows.iter().map(Row::to_string).collect();
            assert_eq!(names.len(), rows.len());
        }
        assert_eq!(all(&Sizes::FULL).len(), 33);
    }
}
