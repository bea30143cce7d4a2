//! What all counted sockets held at the last audit.

use std::{sync::Arc, time::Duration};

use prometheus::proto::{MetricFamily, MetricType};
use weir_admin::exposition::{family, gauge, label, single_gauge};

use super::KernelCollector;
use crate::state::lock;

impl KernelCollector {
    pub(super) fn held(&self) -> Vec<MetricFamily> {
        let holdings = Arc::clone(&lock(&self.state.audit).holdings);
        let all = &holdings.all;
        let rtt = |quantile: &str, rtt: Option<Duration>| {
            rtt.map(|rtt| gauge(vec![label("quantile", quantile)], rtt.as_secs_f64()))
        };
        let rtts = [rtt("0.5", all.rtt_median), rtt("0.95", all.rtt_p95)];
        vec![
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
