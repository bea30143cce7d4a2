//! What the agent's tasks share.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use aya::maps::MapData;
use time::OffsetDateTime;
use weir_common::{
    ABI_VERSION,
    listener::ListenerKey,
    reason::{Close, REFUSALS, Refusal},
    verdict::Outcome,
    zone::{UNATTRIBUTED, ZoneKey, ZoneLeases, ZoneUsage},
};
use weir_config::Operator;
use weir_reachout::policy::Policy;

use crate::{
    api::{
        AuditReply, HeldReply, HostReply, MapReply, ProgramReply, XdpPackets, XdpReply, ZoneRecord,
        ZonesReply,
    },
    audit::{
        Report,
        holdings::{Holding, Holdings},
    },
    events::EventLog,
    gate::Standing,
    kernel::{HostMemory, Kernel, Runner, SourceTable, ZoneMemory, at_least_zero},
    ledger::Ledger,
    marks::Marks,
    notices::{Tally, post::Post},
    operator::{Denials, Hand, Now},
    peaks::Peaks,
    reachout::{Reach, SharedView},
    sights::Sights,
    zones::{Entry, ZoneTable},
};

/// Where a task needs two locks it takes them in the order of the fields.
pub struct State {
    pub instance: String,
    pub memory: Arc<ZoneMemory>,
    pub host: Arc<HostMemory>,
    pub sources: Arc<SourceTable>,
    pub bytes: Option<Arc<Runner>>,
    pub tags: Arc<MapData>,
    pub zones: Mutex<ZoneTable>,
    pub standing: Mutex<Standing>,
    pub kernel: Mutex<Kernel>,
    pub peaks: Mutex<Peaks>,
    pub events: Mutex<EventLog>,
    pub audit: Mutex<Report>,
    /// What was last seen of zones' sockets.
    pub sights: Mutex<Arc<Sights>>,
    /// Some zone shows a sign of abuse: sockets are looked at more often.
    pub restless: AtomicBool,
    pub audits_total: AtomicU64,
    pub repairs_total: AtomicU64,
    /// Sockets above a cap that this agent ended.
    pub ended_total: AtomicU64,
    pub reloads: Reloads,
    /// Programs are in force and the first audit is over.
    pub ready: AtomicBool,
    /// By which numbers other proxies speak of zones.
    pub marks: Mutex<Option<Marks>>,
    /// Our listening addresses, as the kernel sees them.
    pub listeners: Mutex<HashSet<ListenerKey>>,
    /// Leases that people gave.
    pub hand: Mutex<Hand>,
    /// What of them is in the gate's list.
    pub denials: Mutex<Denials>,
    /// Who may act.
    pub operators: Mutex<Vec<Operator>>,
    pub ledger: Ledger,
    /// Taken before any of the other locks, and held while something is written.
    pub reach: tokio::sync::Mutex<Reach>,
    /// The policy in force: acts of people record its version.
    pub policy: Mutex<Policy>,
    /// What the reach-out looks like; taken after all others.
    pub view: SharedView,
    /// Held while an act is recorded and done: one at a time.
    pub acts: tokio::sync::Mutex<()>,
    /// How people are written to.
    pub post: Mutex<Arc<Post>>,
    pub deliveries: Arc<Tally>,
}

/// How reloads went.
#[derive(Default)]
pub struct Reloads {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    /// Seconds since 1970 of the last success.
    pub last_success: AtomicU64,
}

impl Reloads {
    pub fn note(&self, succeeded: bool) {
        if succeeded {
            self.succeeded.fetch_add(1, Relaxed);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last_success.store(now.as_secs(), Relaxed);
        } else {
            self.failed.fetch_add(1, Relaxed);
        }
    }
}

/// Locks; a task that panicked with the lock leaves nothing half done here that matters more than going on.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Takes the kernel's high-water marks of all zones.
    pub fn look(&self) {
        let slots: Vec<u32> = lock(&self.zones).slots().collect();
        lock(&self.peaks).look(&self.memory, slots.into_iter(), Instant::now());
    }

    /// These slots are other zones' from now on.
    pub fn forget_peaks(&self, freed: &[u32]) {
        let mut peaks = lock(&self.peaks);
        freed.iter().for_each(|slot| peaks.forget(*slot));
    }

    /// What time it is for cases and letters.
    pub fn now(&self) -> OffsetDateTime {
        // A test's clock is the policy's, and letters go by it.
        #[cfg(debug_assertions)]
        if std::env::var_os("WEIR_TEST_CLOCK").is_some() {
            return lock(&self.view).now.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        }
        OffsetDateTime::now_utc()
    }

    /// The name of the zone with this key.
    pub fn zone_name(&self, key: ZoneKey) -> String {
        lock(&self.zones)
            .by_key(key)
            .map_or_else(|| format!("unnamed-{:016x}", key.to_raw()), |entry| entry.name.to_string())
    }

    /// The slot of the zone of this name, draining or not.
    pub fn slot_of(&self, name: &str) -> Option<u32> {
        lock(&self.zones).entries().into_iter().find(|entry| &*entry.name == name).map(|entry| entry.slot)
    }

    /// Every zone with its numbers; only those whose name holds `filter`, if there is one.
    pub fn zones_reply(&self, filter: Option<&str>) -> ZonesReply {
        self.look();
        let boot_ns = Now::read().boot_ns;
        let zones = lock(&self.zones);
        let peaks = lock(&self.peaks);
        let marks = lock(&self.marks);
        let holdings = Arc::clone(&lock(&self.audit).holdings);
        let records = zones
            .entries()
            .into_iter()
            .filter(|entry| filter.is_none_or(|filter| entry.name.contains(filter)))
            .map(|entry| {
                let held = self.holding(&holdings, entry.slot).map(held_reply);
                let leases =
                    if entry.draining { ZoneLeases::NONE } else { zones.leases(ZoneKey::of(&entry.name)) };
                let record = zone_record(entry, &self.memory.usage(entry.slot), &peaks, marks.as_ref());
                with_leases(ZoneRecord { held, ..record }, &leases, boot_ns)
            })
            .collect();
        ZonesReply {
            instance: self.instance.clone(),
            zones: records,
            unattributed_sockets: self.memory.sockets(UNATTRIBUTED),
        }
    }

    /// What the sockets of a slot's zone held at the last audit; `None` if it had none, or the slot had another zone.
    pub fn holding<'h>(&self, holdings: &'h Holdings, slot: u32) -> Option<&'h Holding> {
        holdings.zones.get(&slot).filter(|holding| holding.zone_key == self.memory.key(slot))
    }

    pub fn host_reply(&self) -> HostReply {
        let (zones, draining_zones) = {
            let zones = lock(&self.zones);
            (zones.len(), zones.draining_len())
        };
        let interfaces = lock(&self.standing).reply();
        let kernel = lock(&self.kernel);
        let audit = lock(&self.audit);
        let program = |run: crate::kernel::ProgramRun| ProgramReply {
            program: run.program.to_owned(),
            runs: run.runs,
            run_seconds: run.time.as_secs_f64(),
        };
        let map = |fill: crate::kernel::MapFill| MapReply {
            map: fill.map.to_owned(),
            entries: fill.entries,
            capacity: fill.capacity,
        };
        HostReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            instance: self.instance.clone(),
            cgroup: kernel.cgroup_path.display().to_string(),
            adopted: kernel.adopted,
            rebuilt_from_abi: kernel.rebuilt_from,
            zones,
            draining_zones,
            audit: audit_reply(&audit),
            programs: kernel.program_runs().into_iter().map(program).collect(),
            maps: kernel.tables.fill().into_iter().chain(kernel.gate.fill()).map(map).collect(),
            refused: by_refusal(&self.host.refused(), false),
            events_lost_total: self.host.events_lost(),
            untracked_total: self.host.untracked_total(),
            held: Some(held_reply(&audit.holdings.all)),
            xdp: XdpReply { interfaces, packets: packets(&kernel) },
        }
    }
}

/// Packets by verdict and reason. A rule that runs dry shows once it met something.
pub fn packets(kernel: &Kernel) -> Vec<XdpPackets> {
    let row = |verdict: &str, outcome: Outcome, packets| XdpPackets {
        verdict: verdict.to_owned(),
        reason: outcome.label().to_owned(),
        packets,
    };
    let mut rows = Vec::new();
    for (outcome, packets, dry) in kernel.gate.packets() {
        rows.push(row(if outcome.rule().is_some() { "drop" } else { "pass" }, outcome, packets));
        if dry > 0 {
            rows.push(row("would_drop", outcome, dry));
        }
    }
    rows
}

fn zone_record(entry: &Entry, usage: &ZoneUsage, peaks: &Peaks, marks: Option<&Marks>) -> ZoneRecord {
    // A draining zone is found by no mark any more.
    let marks = marks.filter(|_| !entry.draining).and_then(|marks| marks.of(&entry.name));
    let websockets = at_least_zero(usage.websockets);
    ZoneRecord {
        zone: entry.name.to_string(),
        plan: entry.plan.to_string(),
        state: if entry.draining { "draining" } else { "configured" }.to_owned(),
        websockets,
        // What was admitted since the marks were taken counts as well.
        websockets_peak_recent: peaks.recent(entry.slot).max(websockets),
        websockets_peak: peaks.all_time(entry.slot).max(websockets),
        sockets: at_least_zero(usage.sockets),
        guideline: entry.guideline,
        abuse_cap: entry.abuse_cap,
        blocked: false,
        lease_cap: None,
        guideline_ratio: websockets as f64 / entry.guideline as f64,
        slot: entry.slot,
        mark: marks.map(|marks| marks.socket),
        websocket_mark: marks.map(|marks| marks.websocket),
        admitted_total: usage.admitted_total,
        declined_total: usage.released_total,
        refused_total: Refusal::ALL
            .iter()
            .filter(|refusal| refusal.is_admission())
            .map(|refusal| usage.refused[refusal.counter()])
            .sum(),
        refused: by_refusal(&usage.refused, true),
        closed: Close::ALL
            .iter()
            .map(|close| (close.label().to_owned(), usage.closed[*close as usize]))
            .filter(|(_, count)| *count > 0)
            .collect(),
        received_bytes_total: usage.rx_bytes,
        sent_bytes_total: usage.tx_bytes,
        held: None,
    }
}

fn held_reply(holding: &Holding) -> HeldReply {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    HeldReply {
        sockets: holding.sockets,
        memory_bytes: holding.memory_bytes,
        receive_queue_bytes: holding.receive_queue_bytes,
        send_queue_bytes: holding.send_queue_bytes,
        retransmits: holding.retransmits,
        oldest_seconds: holding.oldest.as_secs_f64(),
        rtt_median_seconds: seconds(holding.rtt_median),
        rtt_p95_seconds: seconds(holding.rtt_p95),
    }
}

/// The record with what holds at this time beside the plan.
fn with_leases(mut record: ZoneRecord, leases: &ZoneLeases, boot_ns: u64) -> ZoneRecord {
    record.blocked = leases.block_until_boot_ns > boot_ns;
    record.lease_cap =
        [(leases.verdict_cap, leases.verdict_until_boot_ns), (leases.limit_cap, leases.limit_until_boot_ns)]
            .into_iter()
            .filter(|(cap, until)| *until > boot_ns && *cap < record.abuse_cap)
            .map(|(cap, _)| cap)
            .min();
    record
}

/// A zone's or the host's counters by label, without those at 0.
fn by_refusal(counters: &[u64; REFUSALS], of_zone: bool) -> BTreeMap<String, u64> {
    Refusal::ALL
        .into_iter()
        .filter(|refusal| refusal.names_a_zone() == of_zone)
        .map(|refusal| (refusal.label().to_owned(), counters[refusal.counter()]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn audit_reply(report: &Report) -> AuditReply {
    AuditReply {
        at: report.at.map(Into::into),
        sockets: report.sockets,
        untracked_sockets: report.untracked,
        drift_sockets: report.drift(),
        source_drift_sockets: report.source_drift(),
    }
}
