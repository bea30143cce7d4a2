//! The JSON of the admin API, for the agent that writes it and for those who read it.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `GET /api/zones`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZonesReply {
    pub instance: String,
    /// By name.
    pub zones: Vec<ZoneRecord>,
    /// Sockets of our listeners whose zone is not known (yet).
    pub unattributed_sockets: u64,
}

/// One zone on this host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZoneRecord {
    pub zone: String,
    pub plan: String,
    /// `configured`, or `draining`: taken out of the configuration while sockets live.
    pub state: String,
    /// Live WebSockets.
    pub websockets: u64,
    /// Highest number of live WebSockets in the last one to two minutes.
    pub websockets_peak_recent: u64,
    /// Highest number of live WebSockets since the agent started.
    pub websockets_peak: u64,
    /// Live kernel sockets of the zone's clients.
    pub sockets: u64,
    /// Concurrent WebSockets over the fleet that the plan is made for.
    pub guideline: u64,
    /// Live WebSockets on this host above which the kernel refuses.
    pub abuse_cap: u64,
    /// An operator's block is in force.
    #[serde(default)]
    pub blocked: bool,
    /// The lowest cap of a verdict or a limit that is in force and below `abuse_cap`.
    #[serde(default)]
    pub lease_cap: Option<u64>,
    /// `websockets / guideline`.
    pub guideline_ratio: f64,
    /// The zone's number in the kernel.
    pub slot: u32,
    /// The `SO_MARK` by which another proxy says that a socket is the zone's; absent if marks are off.
    pub mark: Option<u32>,
    /// Likewise for a WebSocket of the zone.
    pub websocket_mark: Option<u32>,
    pub admitted_total: u64,
    /// Of these, upgrades that were not answered by 101.
    #[serde(default)]
    pub declined_total: u64,
    /// Refused because of a cap or a block.
    pub refused_total: u64,
    /// All refusals by reason; reasons that never occurred are absent.
    pub refused: BTreeMap<String, u64>,
    /// Ended sockets by reason, as above.
    pub closed: BTreeMap<String, u64>,
    /// Bytes of sockets that ended, and of those that live up to the last audit.
    pub received_bytes_total: u64,
    pub sent_bytes_total: u64,
    /// What the zone's sockets held at the last audit; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldReply>,
}

/// What sockets held at the last audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldReply {
    pub sockets: u64,
    /// The kernel's memory for their buffers.
    pub memory_bytes: u64,
    /// Received, and not read yet.
    pub receive_queue_bytes: u64,
    /// Written, and not acknowledged yet.
    pub send_queue_bytes: u64,
    /// Segments that were sent again since these sockets were born.
    pub retransmits: u64,
    /// Since the oldest of them was first counted.
    pub oldest_seconds: f64,
    /// Of their smoothed round-trip times, to 6 %; `null` where none was measured.
    pub rtt_median_seconds: Option<f64>,
    pub rtt_p95_seconds: Option<f64>,
}

/// `GET /api/events`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventsReply {
    /// Oldest first.
    pub events: Vec<EventRecord>,
    /// What to ask for next, as `?since=`.
    pub next: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventRecord {
    pub id: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// `refused`, `above_guideline`, `syn_dropped`, `syn_would_drop`, `reload`, `reload_failed`, `drift`.
    pub kind: String,
    pub zone: Option<String>,
    pub reason: Option<String>,
    /// Live WebSockets of the zone at that time.
    pub websockets: Option<u64>,
    /// The cap or guideline that was met.
    pub bound: Option<u64>,
    /// Where a dropped SYN came from.
    #[serde(default)]
    pub source: Option<IpAddr>,
    pub message: Option<String>,
}

/// `GET /api/host`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostReply {
    pub version: String,
    pub abi_version: u32,
    pub instance: String,
    pub cgroup: String,
    /// True if this agent took over what an earlier one had pinned.
    pub adopted: bool,
    /// The ABI version whose counts this agent rebuilt when it started; absent if it did not have to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt_from_abi: Option<u64>,
    pub zones: usize,
    pub draining_zones: usize,
    pub audit: AuditReply,
    pub programs: Vec<ProgramReply>,
    pub maps: Vec<MapReply>,
    pub refused: BTreeMap<String, u64>,
    pub events_lost_total: u64,
    pub untracked_total: u64,
    /// What all counted sockets held at the last audit.
    #[serde(default)]
    pub held: Option<HeldReply>,
    /// The XDP gate; absent before there was one.
    #[serde(default)]
    pub xdp: XdpReply,
}

/// The XDP gate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct XdpReply {
    /// By name: interfaces that have the gate, or should.
    pub interfaces: Vec<XdpInterfaceReply>,
    pub packets: Vec<XdpPackets>,
}

/// The gate on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpInterfaceReply {
    pub interface: String,
    /// The mode that the configuration asks for.
    pub wanted: String,
    /// The mode in force: `native`, `generic`, or `failed`.
    pub mode: String,
    /// Why there is none.
    pub error: Option<String>,
}

/// Packets of all interfaces, by what was done to them and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct XdpPackets {
    /// `pass`, `drop`, or `would_drop` by a rule that runs dry.
    pub verdict: String,
    pub reason: String,
    pub packets: u64,
}

/// The last self-audit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditReply {
    #[serde(with = "time::serde::rfc3339::option")]
    pub at: Option<OffsetDateTime>,
    /// Counted sockets in the kernel's own list.
    pub sockets: u64,
    /// Sockets of our listeners that are in no count.
    pub untracked_sockets: u64,
    /// Sum of all differences between counts and list.
    pub drift_sockets: u64,
    /// Likewise between the counts of sources and the list.
    pub source_drift_sockets: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramReply {
    pub program: String,
    pub runs: u64,
    pub run_seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MapReply {
    pub map: String,
    pub entries: u64,
    pub capacity: u64,
}

/// `GET /api/sources`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourcesReply {
    /// The zone whose sources these are; absent for those of the whole host.
    pub zone: Option<String>,
    /// Source prefixes with live sockets, those that are not in `top` included.
    pub sources: u64,
    /// Their live sockets.
    pub sockets: u64,
    /// Of a zone: live sockets that no source counts.
    pub uncounted: Option<u64>,
    /// Prefixes that the kernel's table has room for.
    pub capacity: u32,
    /// Busiest first.
    pub top: Vec<SourceRecord>,
}

/// One source prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// `192.0.2.7/32`
    pub source: String,
    pub sockets: u64,
    /// Live WebSockets among them; only where the sources of a zone are asked for.
    pub websockets: Option<u64>,
}
