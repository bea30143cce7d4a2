//! The audit's turn, again and again; what it finds is told, and stands ready for who asks.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    audit,
    kernel::KernelError,
    state::{State, lock},
};

pub(super) async fn forever(state: Arc<State>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let task = Arc::clone(&state);
        match tokio::task::spawn_blocking(move || once(&task)).await {
            Ok(Ok(())) => state.ready.store(true, Relaxed),
            Ok(Err(error)) => tracing::error!("the audit failed: {:#}", anyhow::Error::from(error)),
            Err(error) => tracing::error!(%error, "the audit did not end"),
        }
    }
}

fn once(state: &State) -> Result<(), KernelError> {
    let slots: Vec<u32> = lock(&state.zones).slots().collect();
    let listeners = lock(&state.listeners).clone();
    let report = audit::audit(&audit::Scene {
        memory: &state.memory,
        host: &state.host,
        sources: &state.sources,
        tags: &state.tags,
        bytes: state.bytes.as_deref(),
        slots: &slots,
        listeners: &listeners,
    })?;
    state.audits_total.fetch_add(1, Relaxed);
    state.repairs_total.fetch_add(report.repaired as u64, Relaxed);
    if report.drift() > 0 {
        tracing::error!(drifts = ?report.drifts, doomed = ?report.doomed_drift, repaired = report.repaired, "counts differ from the kernel's socket list");
        lock(&state.events)
            .agent("drift", format!("{} sockets off, {} counts set right", report.drift(), report.repaired));
    }
    if report.source_drift() > 0 {
        tracing::error!(drifts = ?report.source_drifts, "counts of sources differ from the kernel's socket list");
        lock(&state.events).agent("drift", format!("{} sockets of sources off", report.source_drift()));
    }
    if report.untracked > 0 {
        tracing::warn!(
            sockets = report.untracked,
            "sockets of our listeners were accepted before the agent came and are in no count"
        );
    }
    *lock(&state.sights) = Arc::clone(&report.sights);
    *lock(&state.audit) = report;
    Ok(())
}
