//! What the policy sees and decides: series only for zones that are, or lately were, above their guideline, and for cases.

use prometheus::proto::{MetricFamily, MetricType};
use weir_admin::exposition::{counter, family, gauge, label, single_counter, single_gauge};
use weir_reachout::decision::Event;

use super::KernelCollector;
use crate::{reachout::event_label, state::lock};

/// What people are told of, each with a 0 before the first.
const EVENTS: [Event; 5] =
    [Event::SpikeCounted, Event::Flagged, Event::CaseOpened, Event::Closable, Event::Unflagged];

impl KernelCollector {
    pub(super) fn reachout(&self) -> Vec<MetricFamily> {
        let view = lock(&self.state.view).clone();
        let zone = |zone: &str, plan: &str| vec![label("zone", zone), label("plan", plan)];
        let (mut ratio, mut spent, mut spikes) = (Vec::new(), Vec::new(), Vec::new());
        for row in &view.usage {
            let labels = || zone(&row.zone, &row.plan);
            ratio.push(gauge(labels(), row.ratio));
            spent.push(gauge(labels(), row.budget_spent));
            spikes.push(gauge(labels(), row.spikes.into()));
        }
        let (mut states, mut days, mut flagged) = (Vec::new(), Vec::new(), 0.0);
        for case in &view.cases {
            if case.state == "flagged" {
                flagged += 1.0;
            }
            let Some(id) = case.case.as_deref().filter(|_| case.state != "closed") else { continue };
            let mut labels = zone(&case.zone, &case.plan);
            labels.push(label("case", id));
            labels.push(label("state", &case.state));
            labels.push(label("rule", case.rule.as_deref().unwrap_or_default()));
            states.push(gauge(labels.clone(), 1.0));
            days.push(gauge(labels, case.days_in_state));
        }
        let notices = view.notices.iter().map(|(way, subject, outcome, rows)| {
            let labels = vec![label("way", way), label("subject", subject), label("outcome", outcome)];
            gauge(labels, *rows as f64)
        });
        let decisions = EVENTS.iter().map(|event| {
            let name = event_label(*event);
            counter(vec![label("event", name)], view.decisions.get(name).copied().unwrap_or(0))
        });
        let (mut verdicts, mut ends) = (Vec::new(), Vec::new());
        for verdict in &view.verdicts {
            let mut labels = zone(&verdict.zone, &verdict.plan);
            labels.push(label("verdict", &verdict.verdict));
            labels.push(label("measure", &verdict.measure));
            verdicts.push(gauge(labels.clone(), 1.0));
            ends.push(gauge(labels, verdict.until.unix_timestamp() as f64));
        }
        let up = view.fault.is_none() && view.now.is_some();
        vec![
            family(
                "weir_zone_over_guideline_ratio",
                "The last slot's mean of live WebSockets, in guidelines.",
                MetricType::GAUGE,
                ratio,
            ),
            family(
                "weir_zone_budget_spent_ratio",
                "Part of the budget of over time that is spent.",
                MetricType::GAUGE,
                spent,
            ),
            family("weir_zone_counted_spikes", "Occasions in the window.", MetricType::GAUGE, spikes),
            family("weir_case_state", "1 for each open case.", MetricType::GAUGE, states),
            family(
                "weir_case_days_in_state",
                "Days that an open case is in its state.",
                MetricType::GAUGE,
                days,
            ),
            family(
                "weir_zone_verdict_active",
                "1 for each verdict on suspicion of abuse, by what is done about it.",
                MetricType::GAUGE,
                verdicts,
            ),
            family(
                "weir_zone_verdict_end_timestamp_seconds",
                "When the verdict ends, unless its evidence lasts.",
                MetricType::GAUGE,
                ends,
            ),
            single_gauge(
                "weir_verdict_prefixes",
                "Prefixes that the gate's list has because of verdicts.",
                view.refused_prefixes as f64,
            ),
            family(
                "weir_notices",
                "Rows of the outbox by way, subject and outcome.",
                MetricType::GAUGE,
                notices.collect(),
            ),
            family(
                "weir_decisions_total",
                "Decisions of the policy by event.",
                MetricType::COUNTER,
                decisions.collect(),
            ),
            single_gauge("weir_flagged_zones", "Zones that have spent three quarters of a budget.", flagged),
            single_gauge("weir_reachout_up", "1 if the policy judges.", f64::from(u8::from(up))),
            single_gauge(
                "weir_reachout_lag_seconds",
                "Since the policy last looked at the counts.",
                view.lag_seconds,
            ),
            single_gauge(
                "weir_reachout_coverage_ratio",
                "Known part of the window, over all zones.",
                view.coverage,
            ),
            single_counter("weir_reachout_slots_total", "Slots that were judged.", view.slots_total),
            single_gauge(
                "weir_reachout_unwritten",
                "Turns of the policy that wait for the ledger.",
                view.unwritten as f64,
            ),
            single_gauge("weir_reachout_limits", "Limits of cases that the kernel has.", view.limits as f64),
        ]
    }
}
