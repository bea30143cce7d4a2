//! A configuration that comes while the agent runs: all of it, or nothing of it.

use std::sync::Arc;

use time::OffsetDateTime;
use weir_config::Config;
use weir_reachout::policy::Policy;

use super::{
    AgentError,
    settings::{host_policy, listener_count, listening, marks, tagging_uids},
};
use crate::{
    gate,
    kernel::listener_key,
    marks::Marks,
    notices::post::Post,
    operator::socket,
    state::{State, lock},
};

/// Applies a new configuration, whole or not at all. Returns the one in force.
pub(super) fn take_over(state: &State, current: Config, config: Config) -> Config {
    match apply(state, &current, &config) {
        Ok(summary) => {
            tracing::info!("configuration reloaded: {summary}");
            for (key, changed) in fixed_keys(&current, &config) {
                if changed {
                    tracing::warn!(key, "this key takes effect when the agent is restarted");
                }
            }
            if let Err(error) = socket::admit(&current.agent.socket, &config.agent.operators) {
                tracing::warn!(%error, "the agent's socket keeps its permissions");
            }
            (*lock(&state.operators)).clone_from(&config.agent.operators);
            state.reloads.note(true);
            lock(&state.events).agent("reload", summary);
            config
        }
        Err(error) => {
            refuse(state, &format!("{:#}", anyhow::Error::from(error)));
            current
        }
    }
}

fn apply(state: &State, current: &Config, config: &Config) -> Result<String, AgentError> {
    let uids = tagging_uids(config)?;
    let marks = marks(config)?;
    let policy = Policy::new(config.policy.clone())?;
    let post = Post::new(config, policy.clone(), Some(&*lock(&state.post)), OffsetDateTime::now_utc())?;
    let mut zones = lock(&state.zones);
    let mut kernel = lock(&state.kernel);
    // All that can be refused is refused before anything changes.
    kernel.tables.check_room(&uids, listener_count(config))?;
    gate::check_room(&kernel.gate, &config.xdp.allow, &config.xdp.deny)?;
    gate::configure(&mut kernel.gate, &config.xdp.allow, &config.xdp.deny)?;
    let changes = match zones.apply(&config.zones, &state.memory, &mut kernel.tables) {
        Ok(changes) => changes,
        Err(error) => {
            gate::configure(&mut kernel.gate, &current.xdp.allow, &current.xdp.deny)?;
            return Err(error.into());
        }
    };
    let listeners = listening(config, &zones);
    kernel.tables.set_marks(&marks.as_ref().map(Marks::keys).unwrap_or_default())?;
    kernel.policy.set(&host_policy(config));
    kernel.gate.set_policy(&gate::policy(&config.xdp));
    kernel.tables.set_uids(&uids)?;
    kernel.tables.set_listeners(&listeners)?;
    *lock(&state.listeners) = listeners.iter().map(|(address, _)| listener_key(address)).collect();
    // Before anybody can read numbers of a slot's new zone.
    state.forget_peaks(&changes.freed);
    drop((zones, kernel));
    lock(&state.standing).want(&config.xdp.interfaces, &mut lock(&state.kernel));
    *lock(&state.marks) = marks;
    *lock(&state.post) = Arc::new(post);
    *lock(&state.policy) = policy;
    Ok(format!("zones: {} added, {} changed, {} removed", changes.added, changes.changed, changes.removed))
}

/// What a running agent cannot change.
fn fixed_keys(old: &Config, new: &Config) -> [(&'static str, bool); 9] {
    [
        ("instance", old.instance != new.instance),
        ("agent.admin", old.agent.admin != new.agent.admin),
        ("agent.socket", old.agent.socket != new.agent.socket),
        ("agent.ledger", old.agent.ledger != new.agent.ledger),
        (
            "notices.links and notices.link_keys",
            old.notices.links.as_ref().map(|links| (links.address, &links.keys))
                != new.notices.links.as_ref().map(|links| (links.address, &links.keys)),
        ),
        ("agent.cgroup", old.agent.cgroup != new.agent.cgroup),
        ("agent.max_zones", old.agent.max_zones != new.agent.max_zones),
        ("agent.max_sources", old.agent.max_sources != new.agent.max_sources),
        (
            "agent.audit_interval, agent.kernel_log and agent.program_stats",
            (old.agent.audit_interval, old.agent.kernel_log, old.agent.program_stats)
                != (new.agent.audit_interval, new.agent.kernel_log, new.agent.program_stats),
        ),
    ]
}

/// Lines of a failed reload that are told: a folder of 100,000 zones can have as many faults.
const TOLD_LINES: usize = 40;

pub(super) fn refuse(state: &State, faults: &str) {
    let faults = &first_lines(faults);
    tracing::error!("configuration not reloaded, nothing changed:\n{faults}");
    state.reloads.note(false);
    lock(&state.events).agent("reload_failed", faults.to_owned());
}

fn first_lines(text: &str) -> String {
    let mut lines = text.lines();
    let mut told: Vec<&str> = lines.by_ref().take(TOLD_LINES).collect();
    let more = format!("... and {} more lines; see them all with `weir check`", lines.clone().count());
    if lines.next().is_some() {
        told.push(&more);
    }
    told.join("\n")
}
