//! From nothing, or from what an earlier agent left in the kernel, to the first moment at which it counts by the configuration.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use time::OffsetDateTime;
use weir_config::{Config, KernelLog};
use weir_reachout::policy::Policy;

use super::{
    AgentError,
    settings::{host_policy, listener_count, listening, marks, tagging_uids},
};
use crate::{
    events::EventLog,
    gate::{self, Standing},
    kernel::{Kernel, Settings, listener_key},
    ledger::Ledger,
    marks::Marks,
    notices::post::Post,
    operator::{self, Denials, Hand, Now},
    peaks::Peaks,
    reachout::{Reach, Wants},
    state::{Reloads, State},
    zones::ZoneTable,
};

/// Everything up to the first moment at which the kernel counts by this configuration.
pub(super) fn start(config: &Config) -> Result<State, AgentError> {
    let uids = tagging_uids(config)?;
    let mut kernel = Kernel::open(Settings {
        instance: config.instance.to_string(),
        cgroup: config.agent.cgroup.clone(),
        max_zones: config.agent.max_zones,
        max_sources: config.agent.max_sources,
        log: config.agent.kernel_log == KernelLog::Debug,
        program_stats: config.agent.program_stats,
    })?;
    let mut zones = ZoneTable::read(&kernel.zones, &kernel.tables)?;
    let (ledger, in_force) = Ledger::start(config.agent.ledger.clone());
    // What cannot be read is an alarm by then; leases that the kernel has go on to their ends.
    let mut hand = in_force.map_or_else(|_| Hand::default(), |in_force| Hand::new(in_force, Now::read()));
    // Zones that come with the configuration come with their leases.
    hand.enforce(&mut zones, &kernel.zones, Now::read());
    let marks = marks(config)?;
    kernel.tables.check_room(&uids, listener_count(config))?;
    gate::check_room(&kernel.gate, &config.xdp.allow, &config.xdp.deny)?;
    gate::configure(&mut kernel.gate, &config.xdp.allow, &config.xdp.deny)?;
    // With the time that is left of each, before the gate stands.
    let mut denials = Denials::default();
    if let Some(wanted) = hand.denied() {
        denials.enforce(&mut operator::Gate(&mut kernel.gate), &wanted, Now::read().boot_ns);
    }
    let changes = zones.apply(&config.zones, &kernel.zones, &mut kernel.tables)?;
    let listeners = listening(config, &zones);
    kernel.tables.set_marks(&marks.as_ref().map(Marks::keys).unwrap_or_default())?;
    kernel.policy.set(&host_policy(config));
    kernel.tables.set_uids(&uids)?;
    kernel.tables.set_listeners(&listeners)?;
    kernel.gate.set_policy(&gate::policy(&config.xdp));
    let in_force = kernel.put_in_force()?;
    let standing = Standing::adopt(&config.xdp.interfaces, &mut kernel);
    for (program, how) in in_force {
        tracing::info!(program, ?how, "kernel program in force");
    }
    tracing::info!(
        adopted = kernel.adopted,
        zones_added = changes.added,
        zones_changed = changes.changed,
        zones_removed = changes.removed,
        instance = %config.instance,
        cgroup = %kernel.cgroup_path.display(),
        "kernel side is up"
    );
    if kernel.zones.slots() != config.agent.max_zones + 1 {
        tracing::warn!(
            has = kernel.zones.slots() - 1,
            wanted = config.agent.max_zones,
            "agent.max_zones takes effect when the instance is made anew (`weir agent --unload`)"
        );
    }
    let reloads = Reloads::default();
    reloads.note(true);
    let limits_file = config.agent.socket.with_file_name("limits.json");
    let reach = Reach::new(Wants::new(config)?, limits_file);
    let post = Post::new(config, Policy::new(config.policy.clone())?, None, OffsetDateTime::now_utc())?;
    Ok(State {
        instance: config.instance.to_string(),
        memory: Arc::clone(&kernel.zones),
        host: Arc::clone(&kernel.host),
        sources: Arc::clone(&kernel.sources),
        bytes: kernel.bytes.clone(),
        tags: Arc::clone(&kernel.tags),
        peaks: Mutex::new(Peaks::new(kernel.zones.slots(), Instant::now())),
        standing: Mutex::new(standing),
        kernel: Mutex::new(kernel),
        zones: Mutex::new(zones),
        events: Mutex::new(EventLog::default()),
        audit: Mutex::default(),
        sights: Mutex::default(),
        restless: false.into(),
        audits_total: 0.into(),
        repairs_total: 0.into(),
        reloads,
        ready: false.into(),
        marks: Mutex::new(marks),
        ended_total: 0.into(),
        listeners: Mutex::new(listeners.iter().map(|(address, _)| listener_key(address)).collect()),
        hand: Mutex::new(hand),
        denials: Mutex::new(denials),
        operators: Mutex::new(config.agent.operators.clone()),
        ledger,
        reach: tokio::sync::Mutex::new(reach),
        policy: Mutex::new(Policy::new(config.policy.clone())?),
        view: Mutex::default(),
        acts: tokio::sync::Mutex::default(),
        post: Mutex::new(Arc::new(post)),
        deliveries: Arc::default(),
    })
}
