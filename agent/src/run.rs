//! The agent's life: load or adopt, apply the configuration, then watch until it is told to stop.
//!
//! Stopping leaves everything pinned. Nothing that runs here is needed for counting and caps.

use std::{
    collections::HashSet,
    future::{Future, pending},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{User, geteuid},
};
use time::OffsetDateTime;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};
use weir_common::{
    host::HostPolicy,
    listener::{Listener, WEBSOCKETS},
    zone::{UNATTRIBUTED, UNCAPPED, ZoneKey},
};
use weir_config::{Config, Counts, KernelLog, PolicyError};
use weir_notices::answer::Answered;
use weir_reachout::policy::Policy;

use crate::{
    admin, audit, doomed,
    events::EventLog,
    gate::{self, Standing},
    kernel::{Kernel, KernelError, LinkNews, Settings, listener_key},
    ledger::Ledger,
    marks::{MarkCollision, Marks},
    notices::{
        self,
        post::{Post, PostError},
    },
    operator::{self, Denials, Hand, Now, socket},
    peaks::Peaks,
    reachout::{self, Reach, Wants},
    state::{Reloads, State, lock},
    zones::{ZoneTable, ZoneTableError},
};

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot listen on the admin address {address}")]
    Admin { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Zones(#[from] ZoneTableError),
    #[error(transparent)]
    Marks(#[from] MarkCollision),
    #[error("no user is called `{user}`: create it, or change {key}")]
    User { user: String, key: &'static str },
    #[error("the admin server ended")]
    Serve(#[source] io::Error),
    #[error("cannot listen on the agent's socket {path}")]
    Socket { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("cannot wait for the kernel's events")]
    Events(#[source] io::Error),
    #[error("cannot write to people as the configuration says")]
    Notices(#[from] PostError),
    #[error("cannot listen on the address of links, {address}")]
    Links { address: SocketAddr, source: io::Error },
}

const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the life of an agent looks like from outside, for a service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The kernel counts by the configuration, and the agent answers.
    Serves,
    /// The loop that looks at the kernel every second has turned.
    Lives,
    /// It was told to stop, or cannot go on.
    Ends,
}

/// Runs until `shutdown`. Each message of `reload` says that the configuration is to be read again; it comes ready-made, or
/// as the faults that it has. `told` hears of each [`Moment`]; it must not block.
pub async fn run(
    config: Config,
    mut reload: mpsc::Receiver<Result<Config, String>>,
    shutdown: impl Future<Output = ()>,
    told: impl Fn(Moment),
) -> Result<(), AgentError> {
    raise_descriptor_limit();
    let address = config.agent.admin;
    let listener =
        TcpListener::bind(address).await.map_err(|source| AgentError::Admin { address, source })?;
    let state = Arc::new(start(&config)?);
    // Behind the instance's lock, so that no other agent of this instance has it.
    let socket = socket::bind(&config.agent.socket, &config.agent.operators)
        .map_err(|source| AgentError::Socket { path: config.agent.socket.clone(), source })?;
    let pages = admin::pages(Arc::clone(&state)).map_err(AgentError::Serve)?;
    let links = links(&config, &state).await?;
    let letters = tokio::spawn(deliver(Arc::clone(&state)));
    let server = tokio::spawn(admin::serve(listener, pages.clone()));
    let acts = tokio::spawn(socket::serve(socket, Arc::clone(&state), pages));
    tokio::pin!(server);
    let events = tokio::spawn(follow_events(Arc::clone(&state)));
    let drops = tokio::spawn(follow_drops(Arc::clone(&state)));
    let interfaces = tokio::spawn(follow_interfaces(Arc::clone(&state)));
    let auditor = tokio::spawn(audit_forever(Arc::clone(&state), config.agent.audit_interval));
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut current = config;
    let mut reloading = true;
    tracing::info!(admin = %address, zones = current.zones.len(), "weir agent serves");
    told(Moment::Serves);

    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            ended = &mut server => break match ended {
                Ok(Err(error)) => Err(AgentError::Serve(error)),
                Ok(Ok(())) => Err(AgentError::Serve(io::Error::other("without a reason"))),
                Err(error) => Err(AgentError::Serve(io::Error::other(error))),
            },
            message = reload.recv(), if reloading => match message {
                Some(Ok(config)) => {
                    let wants = Wants::new(&config);
                    let version = config.clone();
                    current = take_over(&state, current, config);
                    if let (Ok(wants), true) = (wants, current == version) {
                        state.reach.lock().await.want(wants);
                    }
                }
                Some(Err(faults)) => refuse(&state, &faults),
                None => reloading = false,
            },
            // It may wait for an RCU grace period.
            _ = look.tick() => {
                tokio::task::block_in_place(|| every_second(&state));
                read_ledger(&state).await;
                reachout::second(&state).await;
                told(Moment::Lives);
            }
        }
    };
    told(Moment::Ends);
    reachout::end(&state).await;
    // With it goes the socket's file.
    acts.abort();
    let _ = acts.await;
    auditor.abort();
    letters.abort();
    links.abort();
    events.abort();
    drops.abort();
    interfaces.abort();
    tracing::info!("weir agent ends; counting and caps go on in the kernel");
    result
}

/// Sends what is due, until it is dropped.
async fn deliver(state: Arc<State>) {
    let (ledger, tally) = (state.ledger.clone(), Arc::clone(&state.deliveries));
    let clock = Arc::clone(&state);
    notices::serve(ledger, tally, move || Arc::clone(&lock(&state.post)), move || clock.now()).await;
}

/// Serves the pages of links, if there are to be any.
async fn links(config: &Config, state: &Arc<State>) -> Result<JoinHandle<()>, AgentError> {
    let Some(links) = &config.notices.links else { return Ok(tokio::spawn(pending())) };
    let address = links.address;
    let listener =
        TcpListener::bind(address).await.map_err(|source| AgentError::Links { address, source })?;
    let (posts, clock) = (Arc::clone(state), Arc::clone(state));
    let links = notices::Links {
        ledger: state.ledger.clone(),
        post: Box::new(move || Arc::clone(&lock(&posts.post))),
        now: Box::new(move || clock.now()),
        desk: Box::new(Desk(Arc::clone(state))),
    };
    tracing::info!(%address, "the pages of links are served");
    Ok(tokio::spawn(async move {
        if let Err(error) = weir_admin::serve(listener, notices::pages(Arc::new(links))).await {
            tracing::error!(%error, "the pages of links are served no more");
        }
    }))
}

/// Clients of the admin address must not cost the audit its descriptors.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Everything up to the first moment at which the kernel counts by this configuration.
fn start(config: &Config) -> Result<State, AgentError> {
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
        view: Mutex::default(),
        acts: tokio::sync::Mutex::default(),
        post: Mutex::new(Arc::new(post)),
        deliveries: Arc::default(),
    })
}

/// Addresses whose sockets are followed from birth, and what becomes of these.
fn listening(config: &Config, zones: &ZoneTable) -> Vec<(SocketAddr, Listener)> {
    let listener =
        |slot, flags, cap: Option<u64>| Listener { slot, flags, source_cap: cap.unwrap_or(UNCAPPED) };
    let ours = listener(UNATTRIBUTED, 0, config.proxy.source_cap);
    let proxy = config.proxy.http.iter().chain(&config.proxy.https).map(|address| (*address, ours));
    let foreign = config.listeners.iter().filter_map(|foreign| {
        let slot = match &foreign.zone {
            Some(zone) => zones.by_key(ZoneKey::of(zone.as_str()))?.slot,
            None => UNATTRIBUTED,
        };
        let flags = if foreign.counts == Counts::Websockets { WEBSOCKETS } else { 0 };
        Some((foreign.address, listener(slot, flags, foreign.source_cap)))
    });
    proxy.chain(foreign).collect()
}

fn listener_count(config: &Config) -> usize {
    config.proxy.http.len() + config.proxy.https.len() + config.listeners.len()
}

fn marks(config: &Config) -> Result<Option<Marks>, MarkCollision> {
    let marks = config.agent.marks.map(|range| Marks::new(range, &config.zones)).transpose()?;
    if let Some(marks) = marks.as_ref().filter(|marks| !marks.unmarked().is_empty()) {
        let first: Vec<&str> = marks.unmarked().iter().take(TOLD_ZONES).map(|zone| &**zone).collect();
        tracing::error!(
            zones = marks.unmarked().len(),
            first = first.join(", "),
            "zones without a number in marks: give them one with `mark = ...`, or `marks` a mask that leaves more bits"
        );
    }
    Ok(marks)
}

/// Zones that are named where there may be many.
const TOLD_ZONES: usize = 10;

fn host_policy(config: &Config) -> HostPolicy {
    HostPolicy {
        source_v4_len: config.agent.source_prefix_v4.into(),
        source_v6_len: config.agent.source_prefix_v6.into(),
        mark_mask: config.agent.marks.map_or(0, |range| range.mask.into()),
        mark_base: config.agent.marks.map_or(0, |range| range.base.into()),
        agent_uid: geteuid().as_raw().into(),
        adopting: 0,
        reserved: [0; 10],
    }
}

/// Users that may speak for zones: root, the proxy's, and those that the configuration names.
fn tagging_uids(config: &Config) -> Result<HashSet<u32>, AgentError> {
    let named = config.agent.tag_users.iter().map(|user| (user, "agent.tag_users"));
    let mut uids = HashSet::from([0]);
    for (user, key) in std::iter::once((&config.proxy.user, "proxy.user")).chain(named) {
        let found = User::from_name(user).ok().flatten();
        let found = found.ok_or_else(|| AgentError::User { user: user.clone(), key })?;
        uids.insert(found.uid.as_raw());
    }
    Ok(uids)
}

/// Applies a new configuration, whole or not at all. Returns the one in force.
fn take_over(state: &State, current: Config, config: Config) -> Config {
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
    let post = Post::new(
        config,
        Policy::new(config.policy.clone())?,
        Some(&*lock(&state.post)),
        OffsetDateTime::now_utc(),
    )?;
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

fn refuse(state: &State, faults: &str) {
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

/// Tried again until it succeeds: until then it is not known what is in force.
async fn read_ledger(state: &State) {
    let readable = state.ledger.health().up.load(Relaxed);
    if readable && !lock(&state.hand).is_known() && operator::load(state).await.is_ok() {
        tracing::info!("the ledger is read: what is in force by it is known");
    }
}

fn every_second(state: &State) {
    operator::enforce(state, Now::read());
    state.look();
    // Events come once a second and zone; this ends the others, and those that an earlier agent left.
    if state.host.doomed() > 0 {
        doomed::end(state);
    }
    let mut zones = lock(&state.zones);
    let mut kernel = lock(&state.kernel);
    let freed = zones.reap(&state.memory, &kernel.tables);
    state.forget_peaks(&freed);
    drop(zones);
    kernel.flush_log();
    gate::sweep(&mut kernel.gate);
}

/// Between two tries to put up a gate that could not be put up, and looks at interfaces without news of them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the gate where it is wanted, as interfaces come and go.
async fn follow_interfaces(state: Arc<State>) {
    let news = LinkNews::subscribe()
        .inspect_err(|error| tracing::error!(%error, "interfaces that come are seen late: no news of them"));
    loop {
        // A failure to wait is made up for by the next look.
        let _ = match &news {
            Ok(news) => timeout(SETTLE_INTERVAL, news.changed()).await.is_ok(),
            Err(_) => timeout(SETTLE_INTERVAL, pending::<()>()).await.is_ok(),
        };
        tokio::task::block_in_place(|| lock(&state.standing).settle(&mut lock(&state.kernel)));
    }
}

async fn follow_drops(state: Arc<State>) -> Result<(), AgentError> {
    let fd = lock(&state.kernel).gate.drops_ready().map_err(AgentError::Events)?;
    loop {
        let mut ready = fd.readable().await.map_err(AgentError::Events)?;
        ready.clear_ready();
        while let Some(event) = next_drop(&state) {
            let zone = (event.zone_key != 0).then(|| state.zone_name(ZoneKey::from_raw(event.zone_key)));
            lock(&state.events).dropped(&event, zone);
        }
    }
}

fn next_drop(state: &State) -> Option<weir_common::gate::DropEvent> {
    lock(&state.kernel).gate.next_drop()
}

async fn follow_events(state: Arc<State>) -> Result<(), AgentError> {
    let fd = lock(&state.kernel).events_ready().map_err(AgentError::Events)?;
    loop {
        let mut ready = fd.readable().await.map_err(AgentError::Events)?;
        ready.clear_ready();
        // Bound to the statement: `zone_name` takes another lock, which comes before this one in order.
        while let Some(event) = next_event(&state) {
            let zone = state.zone_name(ZoneKey::from_raw(event.zone_key));
            lock(&state.events).kernel(&event, zone);
        }
        if state.host.doomed() > 0 {
            let task = Arc::clone(&state);
            // Its own failure is told where it happens.
            let _ = tokio::task::spawn_blocking(move || doomed::end(&task)).await;
        }
    }
}

fn next_event(state: &State) -> Option<weir_common::event::Event> {
    lock(&state.kernel).next_event()
}

async fn audit_forever(state: Arc<State>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let task = Arc::clone(&state);
        match tokio::task::spawn_blocking(move || audit_once(&task)).await {
            Ok(Ok(())) => state.ready.store(true, Relaxed),
            Ok(Err(error)) => tracing::error!("the audit failed: {:#}", anyhow::Error::from(error)),
            Err(error) => tracing::error!(%error, "the audit did not end"),
        }
    }
}

fn audit_once(state: &State) -> Result<(), KernelError> {
    let slots: Vec<u32> = lock(&state.zones).slots().collect();
    let listeners = lock(&state.listeners).clone();
    let report = audit::audit(&audit::Scene {
        memory: &state.memory,
        sources: &state.sources,
        tags: &state.tags,
        bytes: state.bytes.as_deref(),
        slots: &slots,
        listeners: &listeners,
    })?;
    state.audits_total.fetch_add(1, Relaxed);
    state.repairs_total.fetch_add(report.repaired as u64, Relaxed);
    if report.drift() > 0 {
        tracing::error!(drifts = ?report.drifts, repaired = report.repaired, "counts differ from the kernel's socket list");
        lock(&state.events)
            .agent("drift", format!("{} sockets off, {} zones set right", report.drift(), report.repaired));
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
    *lock(&state.audit) = report;
    Ok(())
}

/// Puts answers into their cases.
struct Desk(Arc<State>);

impl notices::AnswerDesk for Desk {
    fn take<'a>(
        &'a self,
        case: &'a str,
        answered: &'a Answered,
    ) -> notices::Pending<'a, Result<bool, String>> {
        Box::pin(async move {
            reachout::answered(&self.0, case, answered).await.map_err(|error| error.to_string())
        })
    }
}
