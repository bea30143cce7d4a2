//! Attempts to reach people.

use prometheus::proto::{MetricFamily, MetricType};
use weir_admin::exposition::{counter, family, label};

use super::KernelCollector;

impl KernelCollector {
    pub(super) fn notices(&self) -> Vec<MetricFamily> {
        let counts = self.state.deliveries.counts();
        if counts.is_empty() {
            return Vec::new();
        }
        let attempts = counts
            .into_iter()
            .map(|(way, end, count)| counter(vec![label("outcome", end), label("way", &way)], count))
            .collect();
        vec![family(
            "weir_notice_attempts_total",
            "Attempts to deliver a message, by way and how they ended.",
            MetricType::COUNTER,
            attempts,
        )]
    }
}
