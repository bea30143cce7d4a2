//! What every zone has, always: the families that make a scrape of 100,000 zones long.
//!
//! All rows are read first, so that the families of one scrape tell of one moment, and no lock is held while they are written.

use std::{ops::Range, sync::Arc, time::Instant};

use weir_admin::exposition::lines::{self, Lines};
use weir_common::{
    reason::{Close, Refusal},
    verdict::Outcome,
    zone::ZoneUsage,
};

use crate::{
    audit::holdings::Holding,
    kernel::at_least_zero,
    peaks::ScraperId,
    state::{State, lock},
};

/// A zone at the moment of the scrape.
struct Row {
    /// Where its labels stand.
    labels: Range<usize>,
    guideline: u64,
    abuse_cap: u64,
    peak: u64,
    usage: ZoneUsage,
    /// Kernel memory and unacknowledged bytes at the last audit.
    held: Option<(u64, u64)>,
}

impl Row {
    fn websockets(&self) -> u64 {
        at_least_zero(self.usage.websockets)
    }
}

/// Appends the families of all zones.
pub(super) fn write(state: &State, scraper: &ScraperId, text: &mut String) {
    let (rows, labels) = read(state, scraper);
    let each = |mut family: Lines, value: &dyn Fn(&Row) -> u64| {
        rows.iter().for_each(|row| family.series(&labels[row.labels.clone()], value(row)));
    };
    each(Lines::gauge(text, "weir_zone_websockets", "Live WebSockets."), &Row::websockets);
    each(
        Lines::gauge(
            text,
            "weir_zone_websockets_peak",
            "Highest number of live WebSockets since this scraper's last scrape.",
        ),
        // What was admitted since the marks were taken counts as well.
        &|row| row.peak.max(row.websockets()),
    );
    each(Lines::gauge(text, "weir_zone_sockets", "Live kernel sockets of the zone's clients."), &|row| {
        at_least_zero(row.usage.sockets)
    });
    each(
        Lines::gauge(
            text,
            "weir_zone_guideline",
            "Concurrent WebSockets over the fleet that the zone's plan is made for; nothing is refused above it.",
        ),
        &|row| row.guideline,
    );
    each(
        Lines::gauge(
            text,
            "weir_zone_abuse_cap",
            "Live WebSockets on this host above which the kernel refuses.",
        ),
        &|row| row.abuse_cap,
    );
    each(Lines::counter(text, "weir_zone_admitted_total", "WebSockets admitted."), &|row| {
        row.usage.admitted_total
    });
    refused(text, &rows, &labels);
    closed(text, &rows, &labels);
    xdp_dropped(text, &rows, &labels);
    each(
        Lines::counter(
            text,
            "weir_zone_received_bytes_total",
            "Bytes from clients, up to the last audit or the socket's end.",
        ),
        &|row| row.usage.rx_bytes,
    );
    each(Lines::counter(text, "weir_zone_sent_bytes_total", "Bytes to clients, likewise."), &|row| {
        row.usage.tx_bytes
    });
    held(text, &rows, &labels);
}

/// All zones, and the labels of all of them one behind the other.
fn read(state: &State, scraper: &ScraperId) -> (Vec<Row>, String) {
    state.look();
    let holdings = Arc::clone(&lock(&state.audit).holdings);
    let zones = lock(&state.zones);
    let peaks = lock(&state.peaks).since_last_scrape(scraper, Instant::now());
    let mut labels = String::new();
    let rows = zones.entries().into_iter().map(|entry| {
        let start = labels.len();
        lines::labels(&mut labels, &[("zone", &entry.name), ("plan", &entry.plan)]);
        let of = |holding: &Holding| (holding.memory_bytes, holding.send_queue_bytes);
        Row {
            labels: start..labels.len(),
            guideline: entry.guideline,
            abuse_cap: entry.abuse_cap,
            peak: peaks.get(entry.slot as usize).copied().unwrap_or(0),
            usage: state.memory.usage(entry.slot),
            held: state.holding(&holdings, entry.slot).map(of),
        }
    });
    (rows.collect(), labels)
}

/// Series for the abuse cap always, so that a rate has a beginning; for other reasons once they occurred.
fn refused(text: &mut String, rows: &[Row], labels: &str) {
    let mut family = Lines::counter(text, "weir_zone_refused_total", "Refusals by reason.");
    let reasons = || Refusal::ALL.into_iter().filter(|refusal| refusal.names_a_zone());
    for row in rows {
        for refusal in reasons() {
            let times = row.usage.refused[refusal.counter()];
            if times > 0 || refusal == Refusal::AbuseCap {
                family.series_with(&labels[row.labels.clone()], ("reason", refusal.label()), times);
            }
        }
    }
}

fn closed(text: &mut String, rows: &[Row], labels: &str) {
    let mut family = Lines::counter(text, "weir_zone_closed_total", "Ended sockets by reason.");
    for row in rows {
        for close in Close::ALL {
            let times = row.usage.closed[close as usize];
            if times > 0 {
                family.series_with(&labels[row.labels.clone()], ("reason", close.label()), times);
            }
        }
    }
}

fn xdp_dropped(text: &mut String, rows: &[Row], labels: &str) {
    let mut family = Lines::counter(
        text,
        "weir_zone_xdp_dropped_total",
        "SYNs to the zone's dedicated listeners that the gate dropped.",
    );
    for row in rows {
        for outcome in Outcome::ALL {
            let times = outcome.zone_drop().map_or(0, |drop| row.usage.dropped[drop]);
            if times > 0 {
                family.series_with(&labels[row.labels.clone()], ("reason", outcome.label()), times);
            }
        }
    }
}

/// Of what a zone's sockets held at the last audit only the two numbers that an alert is made of, and only while it has
/// sockets: what it costs this host, and what its clients do not take. The rest is in `/api/zones`, as eight series more for
/// each of 100,000 zones would be for nobody.
fn held(text: &mut String, rows: &[Row], labels: &str) {
    let mut each = |name, help, value: fn((u64, u64)) -> u64| {
        let mut family = Lines::gauge(text, name, help);
        for row in rows {
            if let Some(held) = row.held {
                family.series(&labels[row.labels.clone()], value(held));
            }
        }
    };
    each(
        "weir_zone_socket_memory_bytes",
        "Kernel memory of the zone's sockets at the last audit.",
        |(memory, _)| memory,
    );
    each(
        "weir_zone_send_queue_bytes",
        "Bytes that the zone's clients had not acknowledged at the last audit.",
        |(_, queue)| queue,
    );
}
