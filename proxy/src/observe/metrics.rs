//! `/metrics`: a collector that reads what the proxy has counted when it is asked. `docs/metrics.md` is the contract; a test
//! compares the two.
//!
//! Series are bounded: all labels but `zone` have values from fixed lists, and a zone has series only for the classes of answer
//! that it got since the start, so at most six, and none while nobody asks for it.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    Registry,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::{MetricFamily, MetricType},
};
use weir_admin::exposition::{self, counter, family, gauge, histogram, label, single_counter, single_gauge};
use weir_common::ABI_VERSION;

use crate::{
    observe::{
        counters::Counters,
        outcome::{Classes, OriginError, TunnelEnd},
        timing::Timing,
    },
    server::Shared,
};

/// The registry with its collectors.
pub(crate) struct Metrics {
    registry: Registry,
    one_at_a_time: Mutex<()>,
}

impl Metrics {
    pub fn new(shared: Arc<Shared>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProxyCollector { shared }))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, one_at_a_time: Mutex::new(()) })
    }

    /// One scrape, in the text format 0.0.4.
    pub fn scrape(&self) -> Result<String, prometheus::Error> {
        let _scrape = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        exposition::text(&self.registry)
    }
}

struct ProxyCollector {
    shared: Arc<Shared>,
}

impl Collector for ProxyCollector {
    /// Unchecked: families come and go with the zones that are asked for.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.requests();
        families.extend(self.connections());
        families.extend(self.tunnels());
        families.extend(self.process());
        // A family without series is none.
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

impl ProxyCollector {
    fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    fn requests(&self) -> Vec<MetricFamily> {
        let counters = self.counters();
        let routes = self.shared.routes.load();
        let of = |zone: &str, classes: &Classes| {
            let series = classes.seen().map(|(class, requests)| {
                counter(vec![label("zone", zone), label("class", class.label())], requests)
            });
            series.collect::<Vec<_>>()
        };
        let mut answered = of("", &counters.requests_without_zone);
        answered.extend(routes.all().flat_map(|route| of(route.zone.name.as_str(), &route.requests)));
        let rules = routes.rule_counts().into_iter().filter(|count| count.n > 0).map(|count| {
            let zone = count.zone.as_ref().map_or("", |zone| zone.as_str());
            let labels = [
                ("zone", zone),
                ("stage", count.stage.label()),
                ("rule", count.rule.as_str()),
                ("outcome", count.outcome),
            ];
            counter(labels.into_iter().map(|(name, value)| label(name, value)).collect(), count.n)
        });
        let (matches, inspecting) = routes.firewall.managed_counts();
        let matches = matches.into_iter().map(|(rule, n)| counter(vec![label("rule", &rule)], n));
        let failed = OriginError::ALL.map(|kind| (kind.label(), counters.origin_errors[kind as usize].get()));
        vec![
            family(
                "weir_proxy_requests_total",
                "Requests by zone and class of the answer.",
                MetricType::COUNTER,
                answered,
            ),
            counters_by(
                "reason",
                "weir_proxy_refused_total",
                "Answers that the proxy gave itself.",
                counters.refused(),
            ),
            family(
                "weir_proxy_firewall_total",
                "What rules of the firewall did.",
                MetricType::COUNTER,
                rules.collect(),
            ),
            family(
                "weir_proxy_managed_matches_total",
                "Matches of managed rules, over all zones.",
                MetricType::COUNTER,
                matches.collect(),
            ),
            durations("weir_proxy_managed_seconds", "What asking managed rules took.", inspecting),
            counters_by("kind", "weir_proxy_origin_errors_total", "What origins did wrong.", failed),
            durations(
                "weir_proxy_upgrade_seconds",
                "From an upgrade request to its 101.",
                &counters.upgrade_time,
            ),
        ]
    }

    fn connections(&self) -> Vec<MetricFamily> {
        let counters = self.counters();
        let handshakes = [("1.2", counters.tls12.get()), ("1.3", counters.tls13.get())];
        vec![
            single_counter("weir_proxy_connections_total", "Connections accepted.", counters.accepted.get()),
            single_gauge(
                "weir_proxy_connections_live",
                "Connections and tunnels that are open.",
                self.shared.roster.live() as f64,
            ),
            single_counter(
                "weir_proxy_accept_pauses_total",
                "Pauses in accepting, for want of descriptors or memory.",
                counters.accept_paused.get(),
            ),
            single_counter(
                "weir_proxy_connections_timed_out_total",
                "Connections that were closed because a head did not come, or an answer stalled.",
                counters.timed_out.get(),
            ),
            single_counter(
                "weir_proxy_connections_malformed_total",
                "Connections that ended with what is not HTTP.",
                counters.malformed.get(),
            ),
            single_counter(
                "weir_proxy_untracked_total",
                "Sockets that passed without being counted by the kernel.",
                counters.untracked.get(),
            ),
            counters_by(
                "version",
                "weir_proxy_tls_handshakes_total",
                "TLS handshakes by version.",
                handshakes,
            ),
            single_counter(
                "weir_proxy_tls_failed_total",
                "TLS handshakes that came to nothing.",
                counters.tls_failed.get(),
            ),
            durations(
                "weir_proxy_tls_handshake_seconds",
                "From the accept to the end of a TLS handshake.",
                &counters.handshake_time,
            ),
        ]
    }

    fn tunnels(&self) -> Vec<MetricFamily> {
        let counters = self.counters();
        let ended = TunnelEnd::ALL.map(|end| (end.label(), counters.ended[end as usize].get()));
        vec![
            single_counter("weir_proxy_upgrades_total", "Upgrade requests.", counters.upgrades.get()),
            single_counter("weir_proxy_tunnels_opened_total", "Tunnels opened.", counters.tunnels.get()),
            single_gauge("weir_proxy_tunnels", "Tunnels that are open.", counters.tunnels_live.get() as f64),
            counters_by("by", "weir_proxy_tunnels_ended_total", "Tunnels ended, by whom.", ended),
        ]
    }

    fn process(&self) -> Vec<MetricFamily> {
        let counters = self.counters();
        let reloads = [("success", counters.reloads.get()), ("failure", counters.reloads_failed.get())];
        let build = vec![label("version", env!("CARGO_PKG_VERSION")), label("abi", &ABI_VERSION.to_string())];
        vec![
            single_gauge("weir_proxy_zones", "Zones configured.", self.shared.routes.load().zones() as f64),
            single_gauge(
                "weir_proxy_draining",
                "1 once the proxy accepts no more.",
                f64::from(u8::from(*self.shared.draining.borrow())),
            ),
            single_counter(
                "weir_proxy_access_log_lost_total",
                "Lines of the access log that found no room.",
                counters.log_lines_lost.get(),
            ),
            counters_by(
                "outcome",
                "weir_proxy_config_reloads_total",
                "Reloads of the configuration.",
                reloads,
            ),
            single_gauge(
                "weir_proxy_config_last_reload_success_timestamp_seconds",
                "When a configuration was last applied.",
                counters.last_reload_s.get() as f64,
            ),
            family("weir_proxy_build_info", "Always 1.", MetricType::GAUGE, vec![gauge(build, 1.0)]),
        ]
    }
}

/// Counters that are told apart by the value of one label.
fn counters_by(
    label_name: &'static str,
    name: &str,
    help: &str,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> MetricFamily {
    let series = counts.into_iter().map(|(value, n)| counter(vec![label(label_name, value)], n));
    family(name, help, MetricType::COUNTER, series.collect())
}

fn durations(name: &str, help: &str, timing: &Timing) -> MetricFamily {
    let (buckets, count, sum) = timing.read();
    family(name, help, MetricType::HISTOGRAM, vec![histogram(Vec::new(), &buckets, count, sum)])
}
