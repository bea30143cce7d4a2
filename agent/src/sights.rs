//! What the kernel's socket list says of zones' sockets, for signs of abuse: how many are silent, how many are no WebSocket and ask
//! for nothing, and where they come from.
//!
//! Each audit looks; between audits a walk of its own does, once a minute, and every 10 s while some zone shows a sign. A walk over a
//! million sockets costs seconds of CPU, so it takes at most a twentieth of the time. What was last seen longer ago than a few
//! such walks is unknown.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use weir_common::{
    listener::is_mapped,
    socket::{ADMITTED, COUNTED, ORIGIN_SIDE, SOURCED, SocketTag},
    source::{MAPPED_LEN, SourceKey, masked},
    zone::UNATTRIBUTED,
};
use weir_reachout::signal::{PrefixCount, Share};

use crate::{
    kernel::{SocketHolds, ZoneMemory, list_holdings},
    sources,
    state::{State, lock},
};

/// A younger socket has not had the time to ask for something.
const SETTLED: Duration = Duration::from_secs(10);
/// Nor a younger WebSocket to say something: heartbeats are up to a minute apart.
const SPOKEN: Duration = Duration::from_secs(65);
/// What is said in its first seconds is its handshakes.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Between two looks, and the same while some zone shows a sign.
const CALM: Duration = Duration::from_secs(60);
const RESTLESS: Duration = Duration::from_secs(10);
/// A look may take this part of the time.
const PART: u32 = 20;
/// What is older than so many looks is unknown.
const STALE: u32 = 3;
/// Prefixes that are kept of a zone.
const TOP: usize = 8;
/// Of zones with fewer sockets nobody needs to know where they come from.
const FEW: u64 = 12;
/// Sources are added up by these prefixes (IPv4 in its mapped form), and one that is wider than the next two says nothing of where its
/// sockets come from.
const NETWORK_V4: u32 = MAPPED_LEN + 24;
const NETWORK_V6: u32 = 48;
const WIDEST_V4: u32 = MAPPED_LEN + 16;
const WIDEST_V6: u32 = 32;
/// An address that holds so much of its network's sockets is named alone, in percent.
const NEARLY_ALL: u64 = 90;

/// What is seen of one zone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// Whose sockets they were; a slot may be another zone's by now.
    pub zone_key: u64,
    /// The number of the look; no two have the same.
    pub look: u64,
    pub prefixes: Vec<PrefixCount>,
    pub sourced: u64,
    pub silent: Share,
    pub requestless: Share,
}

/// The last look.
#[derive(Clone, Debug, Default)]
pub struct Sights {
    at: Option<Instant>,
    took: Duration,
    zones: HashMap<u32, Sight>,
}

impl Sights {
    /// The zone of a slot, if it was looked at lately.
    pub fn of(&self, slot: u32, zone_key: u64) -> Option<&Sight> {
        self.zones.get(&slot).filter(|sight| sight.zone_key == zone_key)
    }

    pub fn are_fresh(&self, now: Instant) -> bool {
        let lasts = STALE * CALM.max(PART * self.took);
        self.at.is_some_and(|at| now.saturating_duration_since(at) < lasts)
    }

    fn are_due(&self, now: Instant, restless: bool) -> bool {
        let every = if restless { RESTLESS } else { CALM }.max(PART * self.took);
        self.at.is_none_or(|at| now.saturating_duration_since(at) >= every)
    }
}

/// A look that is under way.
pub struct Looking<'a> {
    memory: &'a ZoneMemory,
    began: Instant,
    now_boot_ns: u64,
    zones: HashMap<u32, Sum>,
    sources: HashMap<(u32, SourceKey), u32>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    zone_key: u64,
    has_many: bool,
    silent: Share,
    requestless: Share,
}

impl<'a> Looking<'a> {
    pub fn begin(memory: &'a ZoneMemory) -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        let now_boot_ns = u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX);
        Self { memory, began: Instant::now(), now_boot_ns, zones: HashMap::new(), sources: HashMap::new() }
    }

    pub fn see(&mut self, tag: &SocketTag, holds: &SocketHolds) {
        if tag.slot == UNATTRIBUTED || tag.flags & COUNTED == 0 {
            return;
        }
        let memory = self.memory;
        let sum = self.zones.entry(tag.slot).or_insert_with(|| Sum {
            zone_key: memory.key(tag.slot),
            has_many: memory.sockets(tag.slot) >= FEW,
            ..Sum::default()
        });
        sum.see(tag, holds, self.now_boot_ns);
        if sum.has_many && tag.flags & SOURCED != 0 {
            *self.sources.entry((tag.slot, tag.source)).or_default() += 1;
        }
    }

    pub fn finish(self) -> Sights {
        let mut sources: HashMap<u32, Vec<(SourceKey, u32)>> = HashMap::new();
        for ((slot, source), sockets) in self.sources {
            sources.entry(slot).or_default().push((source, sockets));
        }
        let look = self.now_boot_ns;
        let sight = |(slot, sum): (u32, Sum)| {
            let Sum { zone_key, silent, requestless, .. } = sum;
            // Another zone has the slot by now: of whom how much was seen is not known.
            if self.memory.key(slot) != zone_key {
                return None;
            }
            let (prefixes, sourced) = networks(&sources.remove(&slot).unwrap_or_default());
            Some((slot, Sight { zone_key, look, prefixes, sourced, silent, requestless }))
        };
        let zones = self.zones.into_iter().filter_map(sight).collect();
        Sights { at: Some(Instant::now()), took: self.began.elapsed(), zones }
    }
}

impl Sum {
    fn see(&mut self, tag: &SocketTag, holds: &SocketHolds, now_boot_ns: u64) {
        let age = Duration::from_nanos(now_boot_ns.saturating_sub(tag.born_boot_ns));
        if age < SETTLED {
            return;
        }
        let said = |ago_ms: u32| Duration::from_millis(ago_ms.into()) + HANDSHAKE < age;
        let is_admitted = tag.flags & ADMITTED != 0;
        if is_admitted && age >= SPOKEN {
            self.silent.count(!said(holds.received_ago_ms) && !said(holds.sent_ago_ms));
        }
        // Whoever has asked once may be quiet: between two requests, or while the streams of its HTTP/2 connection are.
        if tag.flags & ORIGIN_SIDE == 0 {
            self.requestless.count(holds.rx_bytes == 0 && !is_admitted);
        }
    }
}

/// The networks with most of these sources' sockets, largest first, and all of them that have one.
fn networks(sources: &[(SourceKey, u32)]) -> (Vec<PrefixCount>, u64) {
    /// Sockets of a network, and its largest source.
    type Found = (u64, (u64, SourceKey));
    let mut found: HashMap<SourceKey, Found> = HashMap::new();
    for (source, sockets) in sources {
        let Some(network) = network(source) else { continue };
        let sockets = u64::from(*sockets);
        let (sum, largest) = found.entry(network).or_insert((0, (0, *source)));
        *sum += sockets;
        if sockets > largest.0 {
            *largest = (sockets, *source);
        }
    }
    let sourced = found.values().map(|(sum, _)| sum).sum();
    let name = |(network, (sum, (most, source))): (SourceKey, Found)| {
        let is_one = most * 100 >= sum * NEARLY_ALL;
        (sum, sources::text(if is_one { &source } else { &network }))
    };
    let mut named: Vec<(u64, String)> = found.into_iter().map(name).collect();
    named.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    named.truncate(TOP);
    let prefixes = named.into_iter().map(|(live, prefix)| PrefixCount { prefix, live });
    (prefixes.collect(), sourced)
}

/// The network of a source, as wide as the source where that is wider; none of one that is a part of the internet.
fn network(source: &SourceKey) -> Option<SourceKey> {
    let is_v4 = is_mapped(&source.address) && source.prefix_len >= MAPPED_LEN;
    let (len, widest) = if is_v4 { (NETWORK_V4, WIDEST_V4) } else { (NETWORK_V6, WIDEST_V6) };
    let prefix_len = source.prefix_len.min(len);
    (prefix_len >= widest).then(|| SourceKey { address: masked(&source.address, prefix_len), prefix_len })
}

/// Looks whenever it is time, until it is dropped.
pub async fn follow(state: Arc<State>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let restless = state.restless.load(Relaxed);
        if !lock(&state.sights).are_due(Instant::now(), restless) {
            continue;
        }
        let task = Arc::clone(&state);
        match tokio::task::spawn_blocking(move || look(&task)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "no look at the sockets: signs of abuse are not seen meanwhile")
            }
            Err(error) => tracing::error!(%error, "a look at the sockets did not end"),
        }
    }
}

fn look(state: &State) -> std::io::Result<()> {
    let mut looking = Looking::begin(&state.memory);
    list_holdings(&state.tags, |socket| {
        if let (Some(tag), Some(holds)) = (&socket.tag, &socket.holds) {
            looking.see(tag, holds);
        }
    })?;
    *lock(&state.sights) = Arc::new(looking.finish());
    Ok(())
}

/// What a look would see of one zone's sockets, for tests of what follows from it.
#[cfg(test)]
pub fn sight_of(sockets: impl Iterator<Item = (SocketTag, SocketHolds)>, now_boot_ns: u64) -> Sight {
    let (mut sum, mut sources) = (Sum::default(), HashMap::<SourceKey, u32>::new());
    for (tag, holds) in sockets {
        sum.see(&tag, &holds, now_boot_ns);
        *sources.entry(tag.source).or_default() += 1;
    }
    let (prefixes, sourced) = networks(&sources.into_iter().collect::<Vec<_>>());
    Sight {
        zone_key: 1,
        look: now_boot_ns,
        prefixes,
        sourced,
        silent: sum.silent,
        requestless: sum.requestless,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use weir_common::listener::words;

    use super::*;

    fn source(address: &str) -> SourceKey {
        let address: Ipv6Addr = address.parse().unwrap();
        SourceKey::of(&words(address.octets()), 32, 64)
    }

    fn tag(flags: u32, born_seconds: u64) -> SocketTag {
        SocketTag {
            slot: 1,
            flags: flags | COUNTED,
            source: source("::ffff:192.0.2.1"),
            source_ordinal: 1,
            rx_counted: 0,
            tx_counted: 0,
            born_boot_ns: born_seconds * 1_000_000_000,
        }
    }

    fn said(sent_ago_ms: u32, received_ago_ms: u32) -> SocketHolds {
        SocketHolds { sent_ago_ms, received_ago_ms, ..SocketHolds::default() }
    }

    /// At the 100th second.
    fn seen(sockets: &[(SocketTag, SocketHolds)]) -> Sum {
        let mut sum = Sum::default();
        sockets.iter().for_each(|(tag, holds)| sum.see(tag, holds, 100_000_000_000));
        sum
    }

    #[test]
    fn silent_is_who_said_and_heard_nothing_after_the_handshakes() {
        let sum = seen(&[
            // Born at second 30: handshakes until 32, then nothing.
            (tag(ADMITTED, 30), said(68_000, 68_000)),
            // It speaks, or is spoken to.
            (tag(ADMITTED, 30), said(68_000, 100)),
            (tag(ADMITTED, 30), said(64_900, 70_000)),
            // Too young to say.
            (tag(ADMITTED, 40), said(59_000, 59_000)),
            // A stream of HTTP/2 is its own WebSocket, and no client's socket.
            (tag(ADMITTED | ORIGIN_SIDE, 30), said(70_000, 70_000)),
        ]);
        assert_eq!(sum.silent, Share::new(2, 4));
        assert_eq!(sum.requestless, Share::new(0, 4));
    }

    #[test]
    fn requestless_is_who_has_never_sent_a_byte() {
        let asked = SocketHolds { rx_bytes: 120, ..said(59_000, 59_000) };
        // One that waits for its client's next request, or whose streams are quiet, has asked.
        let sum = seen(&[(tag(0, 40), said(60_000, 60_000)), (tag(0, 40), asked), (tag(0, 91), asked)]);
        assert_eq!((sum.silent, sum.requestless), (Share::default(), Share::new(1, 2)));
    }

    #[test]
    fn a_heartbeat_each_minute_is_not_silence_before_the_first() {
        let all: Vec<_> = (31..=90).map(|born| (tag(ADMITTED, born), said(9_000, 9_000))).collect();
        assert_eq!(seen(&all).silent, Share::new(0, 5));
        let waits: Vec<_> =
            (36..=90).map(|born| (tag(ADMITTED, born), said((100 - born) as u32 * 1000, 60_000))).collect();
        assert_eq!(seen(&waits).silent, Share::default());
    }

    #[test]
    fn networks_are_added_up_and_one_address_is_named_alone() {
        let sources = [
            (source("::ffff:203.0.113.1"), 40),
            (source("::ffff:203.0.113.2"), 50),
            (source("::ffff:198.51.100.7"), 95),
            (source("::ffff:198.51.100.8"), 5),
            (source("2001:db8:1:2::9"), 3),
            (source("2001:db8:1:3::9"), 4),
        ];
        let (prefixes, sourced) = networks(&sources);
        let found: Vec<(&str, u64)> =
            prefixes.iter().map(|found| (found.prefix.as_str(), found.live)).collect();
        assert_eq!(found, [("198.51.100.7/32", 100), ("203.0.113.0/24", 90), ("2001:db8:1::/48", 7)]);
        assert_eq!(sourced, 197);
    }

    #[test]
    fn a_part_of_the_internet_is_no_source() {
        let wide = SourceKey::of(&source("::ffff:203.0.113.1").address, 8, 64);
        assert_eq!(networks(&[(wide, 1000)]), (Vec::new(), 0));
        let wide = SourceKey { prefix_len: 16, ..source("2001::") };
        assert_eq!(network(&wide), None);
        let own = SourceKey::of(&source("::ffff:203.0.113.1").address, 20, 64);
        assert_eq!(networks(&[(own, 9)]).0[0].prefix, "203.0.112.0/20");
    }

    #[test]
    fn looks_are_spaced_by_what_they_cost_and_grow_stale() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(Sights::default().are_due(start, false) && !Sights::default().are_fresh(start));
        let cheap = Sights { at: Some(start), ..Sights::default() };
        assert!(!cheap.are_due(at(9), true) && cheap.are_due(at(10), true));
        assert!(!cheap.are_due(at(59), false) && cheap.are_due(at(60), false));
        assert!(cheap.are_fresh(at(179)) && !cheap.are_fresh(at(180)));
        let dear = Sights { took: Duration::from_secs(4), ..cheap };
        assert!(!dear.are_due(at(79), true) && dear.are_due(at(80), true));
        assert!(dear.are_fresh(at(239)));
    }
}
