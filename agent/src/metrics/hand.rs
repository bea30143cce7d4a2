//! Leases that people gave, and the ledger: series only for zones that have a lease.

use std::sync::atomic::Ordering::Relaxed;

use prometheus::proto::{MetricFamily, MetricType};
use weir_admin::exposition::{family, gauge, label, single_counter, single_gauge};

use super::KernelCollector;
use crate::{operator::Now, state::lock};

/// The end by the wall clock, to the second: the two clocks are read one after the other, and the same lease has the same end in every
/// scrape.
fn end_timestamp(now: Now, end_boot_ns: u64) -> f64 {
    let left_ns = i128::from(end_boot_ns) - i128::from(now.boot_ns);
    ((now.wall.unix_timestamp_nanos() + left_ns + 500_000_000) / 1_000_000_000) as f64
}

impl KernelCollector {
    /// As the kernel has them, whoever gave them.
    pub(super) fn leases(&self) -> Vec<MetricFamily> {
        let now = Now::read();
        let (mut active, mut ends) = (Vec::new(), Vec::new());
        let zones = lock(&self.state.zones);
        for (entry, leases) in zones.entries_with_leases() {
            for (kind, cap, end) in [
                ("block", 0, leases.block_until_boot_ns),
                ("verdict", leases.verdict_cap, leases.verdict_until_boot_ns),
                ("limit", leases.limit_cap, leases.limit_until_boot_ns),
            ] {
                if end <= now.boot_ns {
                    continue;
                }
                let mut labels = vec![label("zone", &entry.name), label("plan", &entry.plan)];
                labels.push(label("kind", kind));
                active.push(gauge(labels.clone(), cap as f64));
                ends.push(gauge(labels, end_timestamp(now, end)));
            }
        }
        vec![
            family(
                "weir_zone_lease_active",
                "Leases on zones by kind; the value is the cap, 0 for a block.",
                MetricType::GAUGE,
                active,
            ),
            family(
                "weir_zone_lease_end_timestamp_seconds",
                "When the lease ends by itself.",
                MetricType::GAUGE,
                ends,
            ),
        ]
    }

    pub(super) fn ledger(&self) -> Vec<MetricFamily> {
        let health = self.state.ledger.health();
        let count = |number: &std::sync::atomic::AtomicU64| number.load(Relaxed);
        let in_force = lock(&self.state.hand).iter().count();
        vec![
            single_gauge(
                "weir_acts_in_force",
                "Leases that people gave and that are not over.",
                in_force as f64,
            ),
            single_gauge(
                "weir_ledger_up",
                "1 if the ledger could be read and written when that was last tried.",
                f64::from(u8::from(health.up.load(Relaxed))),
            ),
            single_gauge("weir_ledger_events", "Entries of the ledger.", count(&health.events) as f64),
            single_gauge(
                "weir_ledger_size_bytes",
                "Bytes of the ledger on the disk.",
                count(&health.size_bytes) as f64,
            ),
            single_gauge(
                "weir_ledger_last_write_timestamp_seconds",
                "When something last reached the disk: an entry, or the sign of life once a minute.",
                count(&health.last_write) as f64,
            ),
            single_counter(
                "weir_ledger_errors_total",
                "Attempts to read or write the ledger that failed.",
                count(&health.errors_total),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::*;

    #[test]
    fn a_lease_has_one_end_in_every_scrape() {
        let given = Now { wall: OffsetDateTime::from_unix_timestamp(1_000).unwrap(), boot_ns: 77 };
        let end = given.boot_ns + 60_000_000_000;
        // Scrapes at any part of a second, with some nanoseconds between the readings of the two clocks.
        for after_ns in [0, 1, 499_999_999, 999_999_999, 1_000_000_001, 59_123_456_789_i64] {
            let wall = given.wall + Duration::nanoseconds(after_ns);
            let boot_ns = given.boot_ns + after_ns as u64 + 900;
            assert_eq!(end_timestamp(Now { wall, boot_ns }, end), 1_060.0, "{after_ns}");
        }
    }
}
