//! `/metrics`: a collector that reads the kernel's numbers when it is asked. `docs/metrics.md` is the contract; a test
//! compares the two.

mod hand;
mod held;
mod notices;
mod reachout;
mod zones;

use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use prometheus::{
    Registry,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::{Metric, MetricFamily, MetricType},
};
use weir_admin::exposition::{
    self, counter, counter_f64, family, gauge, label, single_counter, single_gauge,
};
use weir_common::{ABI_VERSION, reason::Refusal, zone::UNATTRIBUTED};

use crate::{
    api::{XdpInterfaceReply, XdpPackets},
    peaks::ScraperId,
    state::{State, lock, packets},
};

/// The registry with its collectors.
pub struct Metrics {
    state: Arc<State>,
    registry: Registry,
    /// A scrape at a time; how long the text of the last one was.
    last_length: Mutex<usize>,
}

impl Metrics {
    pub fn new(state: Arc<State>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(KernelCollector { state: Arc::clone(&state) }))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { state, registry, last_length: Mutex::new(0) })
    }

    /// One scrape, in the text format 0.0.4. `scraper` is whom the peaks since its last scrape are for.
    pub fn scrape(&self, scraper: &ScraperId) -> Result<String, prometheus::Error> {
        let mut last_length = lock(&self.last_length);
        // Nearly what it will be: a text of 50 MB is not moved while it grows.
        let mut text = String::with_capacity(*last_length + 4096);
        zones::write(&self.state, scraper, &mut text);
        exposition::append(&self.registry, &mut text)?;
        *last_length = text.len();
        Ok(text)
    }
}

struct KernelCollector {
    state: Arc<State>,
}

impl Collector for KernelCollector {
    /// Unchecked: families of zones come and go with the configuration.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.held();
        families.extend(self.host());
        families.extend(self.kernel());
        families.extend(self.agent());
        families.extend(self.leases());
        families.extend(self.ledger());
        families.extend(self.notices());
        families.extend(self.reachout());
        families
    }
}

impl KernelCollector {
    fn host(&self) -> Vec<MetricFamily> {
        let (state, host) = (&self.state, &self.state.host);
        let host_refused = host.refused();
        let refused = Refusal::ALL
            .into_iter()
            .filter(|refusal| !refusal.names_a_zone())
            .map(|refusal| counter(vec![label("reason", refusal.label())], host_refused[refusal.counter()]))
            .collect();
        vec![
            single_gauge(
                "weir_unattributed_sockets",
                "Sockets of our listeners whose zone is not known (yet).",
                state.memory.sockets(UNATTRIBUTED) as f64,
            ),
            single_gauge(
                "weir_doomed_sockets",
                "Sockets above a cap that wait to be ended by the agent.",
                host.doomed() as f64,
            ),
            single_gauge(
                "weir_zones_unmarked",
                "Zones for which no number in marks is left.",
                lock(&state.marks).as_ref().map_or(0, |marks| marks.unmarked().len()) as f64,
            ),
            family(
                "weir_refused_total",
                "Operations on sockets that were refused and that no zone can be named for.",
                MetricType::COUNTER,
                refused,
            ),
            single_counter(
                "weir_untracked_total",
                "Accepted sockets that the kernel had no memory to count.",
                host.untracked_total(),
            ),
            single_gauge("weir_sources", "Source prefixes with live sockets.", host.sources() as f64),
            family(
                "weir_sources_uncounted_total",
                "Sockets that joined no source's count.",
                MetricType::COUNTER,
                vec![
                    counter(vec![label("reason", "table_full")], host.sources_full_total()),
                    counter(vec![label("reason", "contended")], host.sources_missed_total()),
                ],
            ),
            single_counter(
                "weir_contended_total",
                "Counts that gave up compare-and-swap under contention.",
                host.contended_total(),
            ),
            single_counter(
                "weir_events_lost_total",
                "Kernel events that found no room in the ring buffer.",
                host.events_lost(),
            ),
        ]
    }

    fn kernel(&self) -> Vec<MetricFamily> {
        let interfaces = lock(&self.state.standing).reply();
        let kernel = lock(&self.state.kernel);
        let runs = kernel.program_runs();
        let fill: Vec<_> = kernel.tables.fill().into_iter().chain(kernel.gate.fill()).collect();
        let packets = packets(&kernel);
        drop(kernel);
        let program = |name: &str| vec![label("program", name)];
        let map = |name: &str| vec![label("map", name)];
        vec![
            family(
                "weir_program_runs_total",
                "Runs of a kernel program since it was loaded.",
                MetricType::COUNTER,
                runs.iter().map(|run| counter(program(run.program), run.runs)).collect(),
            ),
            family(
                "weir_program_run_seconds_total",
                "Time that a kernel program ran since it was loaded.",
                MetricType::COUNTER,
                runs.iter().map(|run| counter_f64(program(run.program), run.time.as_secs_f64())).collect(),
            ),
            family(
                "weir_map_entries",
                "Entries of a kernel table.",
                MetricType::GAUGE,
                fill.iter().map(|fill| gauge(map(fill.map), fill.entries as f64)).collect(),
            ),
            family(
                "weir_xdp_packets_total",
                "Packets that the gate saw, on all interfaces.",
                MetricType::COUNTER,
                packets.into_iter().map(xdp_packets).collect(),
            ),
            family(
                "weir_xdp_interface_info",
                "Always 1: interfaces that have the gate, or should.",
                MetricType::GAUGE,
                interfaces.into_iter().map(xdp_interface).collect(),
            ),
            family(
                "weir_map_capacity",
                "Entries that a kernel table has room for.",
                MetricType::GAUGE,
                fill.iter().map(|fill| gauge(map(fill.map), fill.capacity as f64)).collect(),
            ),
        ]
    }

    fn agent(&self) -> Vec<MetricFamily> {
        let state = &self.state;
        let report = lock(&state.audit).clone();
        let audited =
            report.at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        let (zones, draining) = {
            let zones = lock(&state.zones);
            (zones.len(), zones.draining_len())
        };
        let reloads = vec![
            counter(vec![label("outcome", "success")], state.reloads.succeeded.load(Relaxed)),
            counter(vec![label("outcome", "failure")], state.reloads.failed.load(Relaxed)),
        ];
        let zones = vec![
            gauge(vec![label("state", "configured")], zones as f64),
            gauge(vec![label("state", "draining")], draining as f64),
        ];
        let build = vec![
            label("version", env!("CARGO_PKG_VERSION")),
            label("abi", &ABI_VERSION.to_string()),
            label("instance", &state.instance),
        ];
        vec![
            single_gauge(
                "weir_accounting_drift_sockets",
                "Sum of all differences between the kernel's counts and its own socket list at the last audit.",
                report.drift() as f64,
            ),
            single_gauge(
                "weir_source_drift_sockets",
                "Likewise of the counts of sources.",
                report.source_drift() as f64,
            ),
            single_counter(
                "weir_ended_sockets_total",
                "Sockets above a cap, of servers that cannot be told so, that the agent ended.",
                state.ended_total.load(Relaxed),
            ),
            single_gauge(
                "weir_audit_untracked_sockets",
                "Sockets of our listeners that are in no count: accepted before the agent came.",
                report.untracked as f64,
            ),
            single_gauge("weir_audit_timestamp_seconds", "When the last audit ended.", audited.as_secs_f64()),
            single_counter("weir_audits_total", "Audits.", state.audits_total.load(Relaxed)),
            single_counter(
                "weir_audit_repairs_total",
                "Zones whose counts an audit set right.",
                state.repairs_total.load(Relaxed),
            ),
            family("weir_zones", "Zones by state.", MetricType::GAUGE, zones),
            family(
                "weir_config_reloads_total",
                "Reloads of the configuration.",
                MetricType::COUNTER,
                reloads,
            ),
            single_gauge(
                "weir_config_last_reload_success_timestamp_seconds",
                "When a configuration was last applied.",
                state.reloads.last_success.load(Relaxed) as f64,
            ),
            family("weir_build_info", "Always 1.", MetricType::GAUGE, vec![gauge(build, 1.0)]),
        ]
    }
}

fn xdp_packets(row: XdpPackets) -> Metric {
    counter(vec![label("verdict", &row.verdict), label("reason", &row.reason)], row.packets)
}

fn xdp_interface(row: XdpInterfaceReply) -> Metric {
    gauge(vec![label("interface", &row.interface), label("mode", &row.mode)], 1.0)
}
