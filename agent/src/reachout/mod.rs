//! Reach-out in the agent: the policy (`weir_reachout`) fed with the kernel's counts, and its decisions kept and carried out.
//!
//! Each second the live counts of all zones go into the slot under way ([`building`]); a slot that is over is judged ([`mind`]), and
//! what follows is written in one transaction before any of it takes effect. Every ten seconds signs of abuse are looked for ([`watch`]). A ledger that cannot be written is an alarm: what
//! was decided waits, in order, and acts are refused. Limits reach the kernel as leases that are renewed here, so without an agent
//! there are none.

mod act;
mod board;
mod building;
mod clock;
mod mind;
mod past;
mod refusals;
#[cfg(test)]
mod replay;
mod say;
#[cfg(test)]
mod scale;
mod spending;
#[cfg(test)]
mod spending_tests;
#[cfg(test)]
mod tests;
mod watch;
#[cfg(test)]
mod watch_tests;
mod wire;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Instant,
};

use ipnet::IpNet;

use time::{Duration, OffsetDateTime};
use weir_common::zone::{ZoneKey, ZoneLeases};
use weir_config::Config;
use weir_reachout::{
    case::CaseId,
    limit::{Effect as Does, Ground, Lease},
    policy::{Policy, PolicyError},
    slot::SlotIndex,
};

pub use act::{CaseError, act, answered};
pub use board::{View, label as event_label, report};
pub use spending::Spent;
pub use wire::{
    CaseAct, CaseRecord, CaseReply, CaseRequest, CasesReply, DayRecord, NoticeRecord, PolicyReply,
    ReportReply, VerdictRecord,
};

use self::{
    clock::Clock,
    mind::{Configured, Effect, Mind, Turn},
    refusals::Refusals,
    watch::{Eyes, ROUND, Totals},
};
use crate::{
    audit::holdings::Holdings,
    kernel::{ZoneMemory, listen_overflows},
    ledger::{Batch, LedgerError, Tally, day_of},
    operator::Now,
    sights::{Sight, Sights},
    state::{State, lock},
};

/// Between two times that the slot under way is kept.
const SAVED: Duration = Duration::seconds(10);
/// Between two ticks of the open cases.
const TICK: Duration = Duration::MINUTE;
/// What sockets held is told by an audit that is no older.
const HELD: std::time::Duration = std::time::Duration::from_secs(90);
/// Turns that wait for a ledger that cannot be written: a day of slots. Beyond, slots are unknown.
const WAITING: usize = 288;
/// Steps that a test's clock walks before others have their turn.
const WALK: usize = 8640;
/// Chunks of an old day that are packed in a second.
const PACKED_A_SECOND: usize = 1;

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Wants {
    policy: Policy,
    ways: Vec<String>,
    zones: Vec<Configured>,
}

impl Wants {
    pub fn new(config: &Config) -> Result<Self, PolicyError> {
        let ways = [
            ("alertmanager", config.notices.alertmanager.is_some()),
            ("webhook", config.notices.webhook.is_some()),
            ("slack", config.notices.slack.is_some()),
        ];
        Ok(Self {
            policy: Policy::new(config.policy.clone())?,
            ways: ways.iter().filter(|(_, is)| *is).map(|(way, _)| (*way).to_owned()).collect(),
            zones: config.zones.iter().map(|zone| Configured::new(zone.name.as_str(), &zone.plan)).collect(),
        })
    }
}

/// The reach-out of this host. One at a time has it.
pub struct Reach {
    clock: Clock,
    /// Nothing until the ledger is read.
    mind: Option<Mind>,
    /// In force from the next second on.
    wants: Option<Wants>,
    policy: Policy,
    /// Zones that are looked at: slot in the kernel, number here.
    watched: Vec<(u32, u32)>,
    unwritten: VecDeque<Turn>,
    saved: Option<OffsetDateTime>,
    ticked: Option<OffsetDateTime>,
    /// When signs of abuse were last looked for.
    watched_at: Option<OffsetDateTime>,
    /// Connections that found accept queues full, as last counted.
    overflows: Option<u64>,
    /// Prefixes that verdicts refuse, with the ends that the kernel has: worked out once, by both clocks.
    refused: BTreeMap<(IpNet, OffsetDateTime), u64>,
    refusals: Refusals,
    limits: BTreeMap<Arc<str>, Limit>,
    /// Rows of the outbox, a minute ago at most.
    notices: Tally,
    /// Names of the cases whose limits are in force, for whoever has to say so.
    limits_file: PathBuf,
}

/// A limit that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    case: CaseId,
    until_boot_ns: u64,
}

/// What others look at without waiting.
pub type SharedView = Mutex<View>;

impl Reach {
    pub fn new(wants: Wants, limits_file: PathBuf) -> Self {
        Self {
            clock: Clock::new(),
            mind: None,
            policy: wants.policy.clone(),
            wants: Some(wants),
            watched: Vec::new(),
            unwritten: VecDeque::new(),
            saved: None,
            ticked: None,
            watched_at: None,
            overflows: None,
            refused: BTreeMap::new(),
            refusals: Refusals::default(),
            limits: BTreeMap::new(),
            notices: Tally::new(),
            limits_file,
        }
    }

    /// From the next second on.
    pub fn want(&mut self, wants: Wants) {
        self.wants = Some(wants);
    }

    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    async fn second(&mut self, state: &State) -> Result<(), String> {
        if self.mind.is_none() {
            self.load(state).await?;
        }
        self.flush(state).await.map_err(|error| describe(&error))?;
        self.configure(state).await?;
        for _ in 0..WALK {
            let Some(now) = self.clock.step() else { break };
            self.look(state, now).await?;
            if !self.clock.is_walking() {
                break;
            }
        }
        self.hear(state).await?;
        self.pack(state).await?;
        self.expire();
        self.refuse(state);
        Ok(())
    }

    async fn load(&mut self, state: &State) -> Result<(), String> {
        let policy = self.policy.clone();
        let read = state.ledger.run(move |store| Ok(past::read(store, policy))).await;
        let mind = read.map_err(|error| describe(&error))?.map_err(|error| describe(&error))?;
        if let Some(last) = mind.building.last() {
            self.clock.resume(last);
        }
        let mut mind = mind;
        mind.restarted(self.clock.now());
        tracing::info!(zones = mind.zones.len(), policy = %mind.policy().version(), "the policy knows its past");
        self.mind = Some(mind);
        Ok(())
    }

    async fn configure(&mut self, state: &State) -> Result<(), String> {
        let (Some(wants), Some(mind)) = (self.wants.take(), &mut self.mind) else { return Ok(()) };
        self.policy = wants.policy.clone();
        let now = self.clock.now();
        let turn = mind.configure(now, wants.policy, wants.ways, wants.zones);
        self.watched = {
            let zones = lock(&state.zones);
            let entries = zones.entries();
            let live = entries.iter().filter(|entry| !entry.draining);
            live.filter_map(|entry| Some((entry.slot, mind.id_of(&entry.name)?))).collect()
        };
        self.ticked = None;
        self.write(state, turn).await
    }

    async fn look(&mut self, state: &State, now: OffsetDateTime) -> Result<(), String> {
        let Some(mind) = &mut self.mind else { return Ok(()) };
        if self.unwritten.len() < WAITING {
            let counts: Vec<_> = {
                let mut peaks = lock(&state.peaks);
                let count = |(slot, id): &(u32, u32)| {
                    (*id, state.memory.websockets(*slot), peaks.since_policy_looked(*slot))
                };
                self.watched.iter().map(count).collect()
            };
            let turn = tokio::task::block_in_place(|| mind.look(now, counts));
            self.write(state, turn).await?;
        }
        if self.watched_at.is_none_or(|at| now - at >= ROUND || now < at) {
            self.watched_at = Some(now);
            self.watch(state, now).await?;
        }
        if self.ticked.is_none_or(|ticked| now - ticked >= TICK || now < ticked) {
            self.ticked = Some(now);
            self.hear(state).await?;
            let tally = state.ledger.run(|store| store.outbox_tally()).await;
            self.notices = tally.map_err(|error| describe(&error))?;
            let turn = self.mind.as_mut().map(|mind| mind.tick(now)).unwrap_or_default();
            self.write(state, turn).await?;
        }
        if !self.clock.is_walking() && self.saved.is_none_or(|saved| now - saved >= SAVED || now < saved) {
            self.saved = Some(now);
            self.save(state).await?;
        }
        Ok(())
    }

    /// Signs of abuse.
    async fn watch(&mut self, state: &State, now: OffsetDateTime) -> Result<(), String> {
        let overflows = listen_overflows();
        let harm = overflows.zip(self.overflows).is_some_and(|(now, before)| now > before);
        self.overflows = overflows;
        // A mind that is ahead of its ledger decides nothing more about anybody.
        let Some(mind) = self.mind.as_mut().filter(|_| self.unwritten.is_empty()) else { return Ok(()) };
        let sights = Arc::clone(&lock(&state.sights));
        let sights = Some(sights).filter(|sights| sights.are_fresh(Instant::now()));
        let (holdings, is_held) = {
            let audit = lock(&state.audit);
            let age = audit.at.and_then(|at| at.elapsed().ok());
            (Arc::clone(&audit.holdings), age.is_some_and(|age| age < HELD))
        };
        let eyes = Kernel { memory: &state.memory, sights, holdings, is_held };
        let (turn, restless) = tokio::task::block_in_place(|| mind.watch(now, harm, &eyes, &self.watched));
        state.restless.store(restless, Relaxed);
        self.write(state, turn).await
    }

    /// Has the gate refuse what verdicts refuse, for as long as they say.
    fn refuse(&mut self, state: &State) {
        let Some(mind) = self.mind.as_ref().filter(|_| self.unwritten.is_empty()) else { return };
        let (now, boot_ns) = (self.clock.now(), Now::read().boot_ns);
        let mut refused = BTreeMap::new();
        for (prefix, until) in mind.refused(now) {
            let Ok(prefix) = prefix.parse::<IpNet>() else { continue };
            let left = left(until, now, self.policy.verdict());
            let left = u64::try_from(self.clock.lease_left(left).as_nanos()).unwrap_or(0);
            let end = || boot_ns.saturating_add(left);
            let end = self.refused.get(&(prefix, until)).copied().unwrap_or_else(end);
            refused.insert((prefix, until), end);
        }
        self.refused = refused;
        // Of two zones' verdicts the later end.
        let wanted = self.refused.iter().map(|((prefix, _), end)| (*prefix, *end)).collect();
        let mut kernel = lock(&state.kernel);
        self.refusals.enforce(&mut refusals::Gate(&mut kernel.gate), &wanted, boot_ns);
    }

    /// Keeps the slot under way.
    async fn save(&mut self, state: &State) -> Result<(), String> {
        let building = self.mind.as_ref().map(|mind| mind.building.encode());
        self.write(state, Turn { batch: Batch { building, ..Batch::default() }, effects: Vec::new() }).await
    }

    /// Notices that have an end.
    async fn hear(&mut self, state: &State) -> Result<(), String> {
        let unheard =
            state.ledger.run(|store| store.outbox_unheard()).await.map_err(|error| describe(&error))?;
        if unheard.is_empty() || !self.unwritten.is_empty() {
            return Ok(());
        }
        let turn = self.mind.as_mut().map(|mind| mind.hear(unheard)).unwrap_or_default();
        self.write(state, turn).await
    }

    /// Packs days that are over, a little at a time.
    async fn pack(&mut self, state: &State) -> Result<(), String> {
        // Detectors that were written before a long absence need the slots that came after it, a row a slot.
        if self.mind.as_ref().is_none_or(|mind| mind.slots_total <= u64::from(mind::SPREAD)) {
            return Ok(());
        }
        let today = day_of(SlotIndex::containing(self.clock.now()));
        let oldest = today.saturating_sub(self.policy.params().detection.window_days + 1);
        let pack = move |store: &mut crate::ledger::Store| -> Result<(), LedgerError> {
            for _ in 0..PACKED_A_SECOND {
                if !store.compact(today, oldest)? {
                    break;
                }
            }
            Ok(())
        };
        state.ledger.run(pack).await.map_err(|error| describe(&error))
    }

    async fn write(&mut self, state: &State, turn: Turn) -> Result<(), String> {
        if turn.is_empty() {
            return Ok(());
        }
        self.unwritten.push_back(turn);
        self.flush(state).await.map_err(|error| describe(&error))
    }

    /// Writes what waits, in its order, and carries out what was written.
    async fn flush(&mut self, state: &State) -> Result<(), LedgerError> {
        while let Some(turn) = self.unwritten.front() {
            if turn.batch != Batch::default() {
                let batch = turn.batch.clone();
                for entry in state.ledger.run(move |store| store.commit(&batch)).await? {
                    tracing::info!(seq = entry.seq, zone = entry.zone, fact = entry.fact, reason = %entry.reason, "decided");
                }
            }
            if let Some(turn) = self.unwritten.pop_front() {
                turn.effects.into_iter().for_each(|effect| self.carry_out(state, effect));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, state: &State, effect: Effect) {
        match effect {
            Effect::Grant(lease) => self.grant(state, &lease),
            Effect::EndLimit { zone, case } => {
                tracing::info!(%zone, %case, "a limit ends");
                set_limit(state, &zone, 0, 0);
                self.limits.remove(&zone);
                self.name_limits();
            }
            Effect::Tell { zone, subject } => {
                let what = subject.label();
                tracing::warn!(%zone, what, "operators are told");
                lock(&state.events).agent("reachout", format!("{zone}: {what}"));
            }
        }
    }

    fn grant(&mut self, state: &State, lease: &Lease) {
        let (Ground::Case { case }, Does::RefuseUpgradesAbove { websockets }) =
            (lease.ground(), lease.effect())
        else {
            return;
        };
        let left = std::time::Duration::try_from(lease.until() - self.clock.now()).unwrap_or_default();
        let left = u64::try_from(self.clock.lease_left(left).as_nanos()).unwrap_or(0);
        let until_boot_ns = Now::read().boot_ns.saturating_add(left);
        set_limit(state, lease.zone(), *websockets, until_boot_ns);
        let limit = Limit { case: case.clone(), until_boot_ns };
        let before = self.limits.insert(lease.zone().into(), limit);
        if before.is_none_or(|before| before.case != *case) {
            tracing::warn!(zone = lease.zone(), %case, cap = websockets, "a limit is in force, by leases");
            self.name_limits();
        }
    }

    fn expire(&mut self) {
        let now = Now::read().boot_ns;
        let count = self.limits.len();
        self.limits.retain(|_, limit| limit.until_boot_ns > now);
        if self.limits.len() != count {
            self.name_limits();
        }
    }

    /// The file that names the case of each limit: the proxy tells it to whoever is refused.
    fn name_limits(&self) {
        let names: BTreeMap<&str, &str> =
            self.limits.iter().map(|(zone, limit)| (&**zone, limit.case.as_str())).collect();
        let next = self.limits_file.with_extension("next");
        let text = serde_json::to_string(&names).unwrap_or_default();
        let written = fs::write(&next, text).and_then(|()| fs::rename(&next, &self.limits_file));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.limits_file.display(), "refusals by a limit cannot name their case");
        }
    }
}

/// How long a lease has left, and not more than any has: a clock that was set back lengthens none.
fn left(until: OffsetDateTime, now: OffsetDateTime, most: time::Duration) -> std::time::Duration {
    std::time::Duration::try_from((until - now).min(most)).unwrap_or_default()
}

/// Zones as the kernel and the last look at its sockets show them.
struct Kernel<'a> {
    memory: &'a ZoneMemory,
    sights: Option<Arc<Sights>>,
    /// Of the last audit, and whether it was lately.
    holdings: Arc<Holdings>,
    is_held: bool,
}

impl Eyes for Kernel<'_> {
    fn live(&self, slot: u32) -> u64 {
        self.memory.sockets(slot)
    }

    fn totals(&self, slot: u32) -> Totals {
        Totals::of(&self.memory.usage(slot))
    }

    fn memory(&self, slot: u32) -> Option<u64> {
        let held = self.holdings.zones.get(&slot).filter(|held| held.zone_key == self.memory.key(slot));
        // Of a zone without sockets there is no row.
        self.is_held.then(|| held.map_or(0, |held| held.memory_bytes))
    }

    fn all_memory(&self) -> u64 {
        self.holdings.all.memory_bytes
    }

    fn sight(&self, slot: u32) -> Option<&Sight> {
        self.sights.as_ref()?.of(slot, self.memory.key(slot))
    }
}

fn set_limit(state: &State, zone: &str, cap: u64, until_boot_ns: u64) {
    let key = ZoneKey::of(zone);
    let mut zones = lock(&state.zones);
    let leases = ZoneLeases { limit_cap: cap, limit_until_boot_ns: until_boot_ns, ..zones.leases(key) };
    zones.set_leases(key, leases, &state.memory);
}

/// Once a second.
pub async fn second(state: &Arc<State>) {
    let mut reach = state.reach.lock().await;
    let done = reach.second(state).await;
    let fault = done.err();
    if let Some(fault) = &fault
        && lock(&state.view).fault.as_ref() != Some(fault)
    {
        tracing::error!("the policy cannot go on, nothing is decided meanwhile: {fault}");
    }
    reach.show(state, fault);
}

/// The agent ends: the slot under way is kept, so that the next one goes on in it.
pub async fn end(state: &State) {
    let mut reach = state.reach.lock().await;
    if let Err(fault) = reach.save(state).await {
        tracing::warn!("the slot under way could not be kept: {fault}");
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod lease_tests {
    use time::{Duration, macros::datetime};

    #[test]
    fn a_clock_that_was_set_back_lengthens_no_lease() {
        let until = datetime!(2026-03-01 12:00 UTC);
        let left = |now| super::left(until, now, Duration::minutes(15)).as_secs();
        assert_eq!(left(until - Duration::minutes(4)), 240);
        assert_eq!(left(until - Duration::hours(5)), 900);
        assert_eq!(left(until + Duration::SECOND), 0);
    }
}
