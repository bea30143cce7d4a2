//! What sockets held at the last audit.
//!
//! Of a zone only the two numbers that an alert is made of, and only while it has sockets: what it costs this host, and what its
//! clients do not take. The rest is in `/api/zones`, as eight series more for each of 100,000 zones would be for nobody.

use std::{sync::Arc, time::Duration};

use prometheus::proto::{MetricFamily, MetricType};
use weir_admin::exposition::{family, gauge, label, single_gauge};

use super::{KernelCollector, zone_labels};
use crate::{audit::holdings::Holding, state::lock, zones::Entry};

impl KernelCollector {
    pub(super) fn held(&self) -> Vec<MetricFamily> {
        let state = &self.state;
        let holdings = Arc::clone(&lock(&state.audit).holdings);
        let zones = lock(&state.zones);
        let rows: Vec<(&Entry, &Holding)> = zones
            .entries()
            .into_iter()
            .filter_map(|entry| Some((entry, state.holding(&holdings, entry.slot)?)))
            .collect();
        let of_zones = |name, help, value: &dyn Fn(&Holding) -> u64| {
            let metrics = rows.iter().map(|(entry, held)| gauge(zone_labels(entry), value(held) as f64));
            family(name, help, MetricType::GAUGE, metrics.collect())
        };
        let all = &holdings.all;
        let rtt = |quantile: &str, rtt: Option<Duration>| {
            rtt.map(|rtt| gauge(vec![label("quantile", quantile)], rtt.as_secs_f64()))
        };
        let rtts = [rtt("0.5", all.rtt_median), rtt("0.95", all.rtt_p95)];
        vec![
            of_zones(
                "weir_zone_socket_memory_bytes",
                "Kernel memory of the zone's sockets at the last audit.",
                &|held| held.memory_bytes,
            ),
            of_zones(
                "weir_zone_send_queue_bytes",
                "Bytes that the zone's clients had not acknowledged at the last audit.",
                &|held| held.send_queue_bytes,
            ),
            single_gauge(
                "weir_socket_memory_bytes",
                "Kernel memory of all counted sockets at the last audit.",
                all.memory_bytes as f64,
            ),
            single_gauge(
                "weir_receive_queue_bytes",
                "Bytes that the servers of counted sockets had not read at the last audit.",
                all.receive_queue_bytes as f64,
            ),
            single_gauge(
                "weir_send_queue_bytes",
                "Bytes that clients had not acknowledged at the last audit.",
                all.send_queue_bytes as f64,
            ),
            single_gauge(
                "weir_oldest_socket_seconds",
                "Age of the oldest counted socket at the last audit.",
                all.oldest.as_secs_f64(),
            ),
            single_gauge(
                "weir_live_socket_retransmits",
                "Segments that were sent again over sockets that lived at the last audit.",
                all.retransmits as f64,
            ),
            family(
                "weir_socket_rtt_seconds",
                "Round-trip times of counted sockets at the last audit.",
                MetricType::GAUGE,
                rtts.into_iter().flatten().collect(),
            ),
        ]
    }
}
