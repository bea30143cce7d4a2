//! The self-audit: the kernel's counts against the kernel's own socket list.
//!
//! The list is no snapshot, so it is compared with bounds that need none. Between two readings of a slot, before and
//! after the list, at most `left` of the sockets that were live may be missing in it, and at most `joined` others may be
//! in it. A count outside of these bounds is looked at again, an RCU grace period later, since a program may be between two
//! steps of one operation; what stays outside is drift.
//!
//! Drift is repaired only where it is proved: the counts of the slot stood still from before the first pass to after the last,
//! with a grace period in between (so that no program can have been half-way all the time), and none of its sockets is one
//! that the list need not show.
//!
//! On its way the first pass adds up what the sockets hold, and has the kernel count the bytes that they carried since the last audit.

mod doomed;
pub mod holdings;
mod sources;

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aya::maps::MapData;
use nix::time::{ClockId, clock_gettime};
use weir_common::{
    listener::{ANY_V4, ANY_V6, ListenerKey, is_mapped},
    socket::{ADMITTED, COUNTED, DEAD, DOOMED, ORIGIN_SIDE, SOURCED, SocketTag},
    zone::{UNATTRIBUTED, ZoneUsage},
};

use crate::kernel::{
    Batch, HostMemory, KernelError, Runner, SocketHolds, SocketSeen, SourceTable, ZoneMemory, correct_source,
    list_holdings, list_sockets, rcu_grace_period,
};
use crate::sights::{Looking, Sights};
use doomed::{DoomedDrift, Reading};
use holdings::{Holdings, Sums};
use sources::SourceDrift;

/// Passes over the socket list before drift is believed.
const PASSES: usize = 4;

/// What an audit found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// When it ended; `None` before the first.
    pub at: Option<SystemTime>,
    /// Sockets with a tag in the kernel's list.
    pub sockets: u64,
    /// Sockets of our listeners without one: accepted before the agent came. They are in no count.
    pub untracked: u64,
    /// Slots whose counts differ from the list.
    pub drifts: Vec<Drift>,
    /// Sources whose counts differ from it.
    pub source_drifts: Vec<SourceDrift>,
    /// The number of those that wait to be ended, if it differs.
    pub doomed_drift: Option<DoomedDrift>,
    /// Of these, how many were set right.
    pub repaired: usize,
    /// What the sockets hold.
    pub holdings: Arc<Holdings>,
    /// What they say, and where they come from.
    pub sights: Arc<Sights>,
}

impl Report {
    /// Sum of all differences of sources; 0 likewise.
    pub fn source_drift(&self) -> u64 {
        self.source_drifts.iter().map(|drift| drift.sockets.unsigned_abs()).sum()
    }

    /// Sum of all differences, in sockets and WebSockets; 0 in a world without faults.
    pub fn drift(&self) -> u64 {
        let of_slots = |drift: &Drift| drift.sockets.unsigned_abs() + drift.websockets.unsigned_abs();
        let of_doomed = self.doomed_drift.map_or(0, |drift| drift.sockets.unsigned_abs());
        self.drifts.iter().map(of_slots).sum::<u64>() + of_doomed
    }
}

/// Count minus truth of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    pub slot: u32,
    pub sockets: i64,
    pub websockets: i64,
    /// Nothing moved while it was seen, so it is known to the unit.
    pub exact: bool,
    /// Sum of the slot's totals, by which a later pass sees that nothing moved since.
    totals: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    sockets: u64,
    websockets: u64,
}

/// What an audit looks at.
pub struct Scene<'a> {
    pub memory: &'a ZoneMemory,
    pub host: &'a HostMemory,
    pub sources: &'a SourceTable,
    pub tags: &'a MapData,
    /// Counts bytes of sockets that live, where this kernel can.
    pub bytes: Option<&'a Runner>,
    pub slots: &'a [u32],
    /// Our listening addresses.
    pub listeners: &'a HashSet<ListenerKey>,
}

/// Compares, and repairs what is proved.
pub fn audit(scene: &Scene<'_>) -> Result<Report, KernelError> {
    let memory = scene.memory;
    let mut report = Report::default();
    let mut first = FirstPass {
        sums: Sums::default(),
        looking: Looking::begin(memory),
        bytes: scene.bytes.map(Runner::batch),
        failed: None,
    };
    let look = || pass(scene, None);
    let Found { slots: mut suspects, sources: mut of_sources, doomed: mut of_doomed, totals } =
        pass(scene, Some(&mut first))?;
    (report.sockets, report.untracked) = totals;
    (report.holdings, report.sights) = first.finish(memory);
    let mut proved = true;
    for _ in 1..PASSES {
        if suspects.is_empty() && of_sources.drifts.is_empty() && of_doomed.is_none() {
            break;
        }
        // Without a grace period a program may be half-way in both passes: drift is told then, and not repaired.
        proved &= rcu_grace_period().is_ok();
        let again = look()?;
        (report.sockets, report.untracked) = again.totals;
        suspects = confirm(suspects, again.slots);
        of_sources.drifts = sources::confirm(of_sources.drifts, again.sources.drifts);
        of_doomed = doomed::confirm(of_doomed, again.doomed);
    }
    report.drifts = suspects;
    report.source_drifts = of_sources.drifts;
    report.doomed_drift = of_doomed;
    for drift in report.drifts.iter().filter(|drift| drift.exact && proved) {
        memory.correct(drift.slot, -drift.sockets, -drift.websockets);
        report.repaired += 1;
    }
    if let Some(drift) = report.doomed_drift.filter(|drift| drift.exact && proved) {
        scene.host.correct_doomed(-drift.sockets);
        report.repaired += 1;
    }
    for drift in report.source_drifts.iter().filter(|drift| drift.exact && proved) {
        correct_source(drift.key, -drift.sockets)?;
        report.repaired += 1;
    }
    for key in of_sources.idle {
        correct_source(key, 0)?;
    }
    report.at = Some(SystemTime::now());
    Ok(report)
}

/// Only what both passes saw is suspect, and exact only if it is the same and nothing moved in between.
fn confirm(earlier: Vec<Drift>, later: Vec<Drift>) -> Vec<Drift> {
    let earlier: HashMap<u32, Drift> = earlier.into_iter().map(|drift| (drift.slot, drift)).collect();
    let confirmed = |drift: Drift| {
        let before = earlier.get(&drift.slot)?;
        let same_side = before.sockets.signum() == drift.sockets.signum()
            && before.websockets.signum() == drift.websockets.signum();
        same_side.then_some(Drift { exact: drift.exact && *before == drift, ..drift })
    };
    later.into_iter().filter_map(confirmed).collect()
}

/// Sockets in the list: those that are counted, and ours that are not.
type Totals = (u64, u64);

/// What one pass finds.
struct Found {
    slots: Vec<Drift>,
    sources: sources::Found,
    doomed: Option<DoomedDrift>,
    totals: Totals,
}

/// What the first pass does besides.
struct FirstPass<'a> {
    sums: Sums,
    looking: Looking<'a>,
    bytes: Option<Batch<'a>>,
    failed: Option<io::Error>,
}

impl FirstPass<'_> {
    fn see(&mut self, socket: &SocketSeen, tag: &SocketTag, holds: &SocketHolds) {
        self.sums.see(tag, holds);
        self.looking.see(tag, holds);
        let is_ahead = holds.rx_bytes > tag.rx_counted || holds.tx_bytes > tag.tx_counted;
        let has_own = tag.slot != UNATTRIBUTED && tag.flags & ORIGIN_SIDE == 0;
        // Those that have carried nothing since the last audit cost nothing.
        if let Some(bytes) = self.bytes.as_mut().filter(|_| is_ahead && has_own) {
            self.failed = bytes.push(&socket.id.errand()).err().or(self.failed.take());
        }
    }

    fn finish(self, memory: &ZoneMemory) -> (Arc<Holdings>, Arc<Sights>) {
        let last = self.bytes.and_then(|bytes| bytes.finish().err());
        if let Some(error) = last.or(self.failed) {
            tracing::error!(%error, "bytes of sockets that live are counted when they end");
        }
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        let holdings = self.sums.finish(now.as_nanos() as u64, |slot| memory.key(slot));
        (holdings.into(), self.looking.finish().into())
    }
}

fn pass(scene: &Scene<'_>, mut first: Option<&mut FirstPass<'_>>) -> Result<Found, KernelError> {
    let Scene { memory, slots, listeners, .. } = scene;
    let mut sources = sources::Pass::begin(scene.sources)?;
    let before: Vec<ZoneUsage> = slots.iter().map(|slot| memory.usage(*slot)).collect();
    let doomed = || {
        let (live, ever) = scene.host.doomed_reading();
        Reading { live, ever }
    };
    let doomed_before = doomed();
    let mut seen: HashMap<u32, Seen> = HashMap::new();
    let (mut sockets, mut untracked, mut doomed_seen) = (0, 0, 0);
    let with_holdings = first.is_some();
    let each = |socket: SocketSeen| match socket.tag {
        Some(tag) if tag.flags & COUNTED != 0 => {
            if let (Some(first), Some(holds)) = (first.as_deref_mut(), &socket.holds) {
                first.see(&socket, &tag, holds);
            }
            sockets += 1;
            doomed_seen += u64::from(tag.flags & DOOMED != 0);
            let seen = seen.entry(tag.slot).or_default();
            seen.sockets += 1;
            seen.websockets += u64::from(tag.flags & ADMITTED != 0);
            if tag.flags & SOURCED != 0 {
                sources.see(tag.source, socket.id);
            }
        }
        // On its way out.
        Some(tag) if tag.flags & DEAD != 0 => {}
        _ => untracked += u64::from(is_ours(&socket, listeners)),
    };
    let listed = if with_holdings { list_holdings(scene.tags, each) } else { list_sockets(scene.tags, each) };
    listed.map_err(KernelError::SockDiag)?;
    let drifts = slots
        .iter()
        .zip(before)
        .filter_map(|(slot, before)| {
            let after = memory.usage(*slot);
            compare(*slot, &before, &after, seen.get(slot).copied().unwrap_or_default())
        })
        .collect();
    Ok(Found {
        slots: drifts,
        sources: sources.end()?,
        doomed: doomed::compare(doomed_before, doomed(), doomed_seen),
        totals: (sockets, untracked),
    })
}

/// The difference of a slot, if its count is outside of what the list allows.
fn compare(slot: u32, before: &ZoneUsage, after: &ZoneUsage, seen: Seen) -> Option<Drift> {
    let hidden = before.unconnected.max(after.unconnected);
    let sockets = distance(
        before.sockets,
        after.left_total.wrapping_sub(before.left_total).saturating_add(hidden),
        after.joined_total.wrapping_sub(before.joined_total),
        seen.sockets,
    );
    let websockets = distance(
        before.websockets,
        after.ended_total.wrapping_sub(before.ended_total).saturating_add(hidden),
        after.admitted_total.wrapping_sub(before.admitted_total),
        seen.websockets,
    );
    let still = totals(before) == totals(after)
        && (before.sockets, before.websockets) == (after.sockets, after.websockets);
    let drift = Drift { slot, sockets, websockets, exact: still && hidden == 0, totals: totals(after) };
    (sockets != 0 || websockets != 0).then_some(drift)
}

/// Totals only grow, so their sum stands still only if each does.
fn totals(usage: &ZoneUsage) -> u64 {
    [usage.joined_total, usage.left_total, usage.admitted_total, usage.ended_total]
        .into_iter()
        .fold(0, u64::wrapping_add)
}

/// How far `seen` is from `[count - gone, count + come]`: positive if the count is too high.
fn distance(count: u64, gone: u64, come: u64, seen: u64) -> i64 {
    let clamp = |number: u64| i64::try_from(number).unwrap_or(i64::MAX / 4);
    // A count below 0 is a count.
    let (count, gone, come, seen) = (count as i64, clamp(gone), clamp(come), clamp(seen));
    if seen < count - gone {
        count - gone - seen
    } else if seen > count + come {
        count + come - seen
    } else {
        0
    }
}

/// A socket in `SYN_RECV` is not born yet: the kernel programs are about to meet it.
fn is_ours(socket: &SocketSeen, listeners: &HashSet<ListenerKey>) -> bool {
    const SYN_RECV: u8 = 3;
    let listens = |address| listeners.contains(&ListenerKey { address, port: socket.local.port });
    socket.state != SYN_RECV
        && (listens(socket.local.address)
            || (is_mapped(&socket.local.address) && listens(ANY_V4))
            || listens(ANY_V6))
}

#[cfg(test)]
mod tests {
    use weir_common::reason::{CLOSES, REFUSALS};

    use super::*;

    fn usage(sockets: u64, joined: u64, left: u64) -> ZoneUsage {
        ZoneUsage {
            sockets,
            websockets: 0,
            websockets_peak: 0,
            unconnected: 0,
            joined_total: joined,
            left_total: left,
            admitted_total: 0,
            ended_total: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            refusal_event_ns: 0,
            guideline_event_ns: 0,
            dropped: [0; 4],
            refused: [0; REFUSALS],
            closed: [0; CLOSES],
            released_total: 0,
            lived_total: 0,
            lived_sum: 0,
            lived_squares: 0,
        }
    }

    fn seen(sockets: u64) -> Seen {
        Seen { sockets, websockets: 0 }
    }

    #[test]
    fn a_quiet_slot_must_agree_to_the_unit() {
        let quiet = usage(5, 9, 4);
        assert_eq!(compare(3, &quiet, &quiet, seen(5)), None);
        let too_high = compare(3, &quiet, &quiet, seen(4)).unwrap();
        assert_eq!(too_high, Drift { slot: 3, sockets: 1, websockets: 0, exact: true, totals: 13 });
        assert_eq!(compare(3, &quiet, &quiet, seen(7)).unwrap().sockets, -2);
    }

    #[test]
    fn sockets_that_came_or_went_meanwhile_are_no_drift() {
        let (before, after) = (usage(5, 9, 4), usage(6, 12, 6));
        for allowed in 3..=8 {
            assert_eq!(compare(1, &before, &after, seen(allowed)), None, "{allowed} in the list");
        }
        assert_eq!(compare(1, &before, &after, seen(2)).unwrap().sockets, 1);
        assert_eq!(compare(1, &before, &after, seen(9)).unwrap().sockets, -1);
        assert!(!compare(1, &before, &after, seen(9)).unwrap().exact, "never repaired while it moves");
    }

    #[test]
    fn unconnected_sockets_are_not_expected_in_the_list() {
        let mut count = usage(5, 5, 0);
        count.unconnected = 2;
        assert_eq!(compare(1, &count, &count, seen(3)), None);
        assert_eq!(compare(1, &count, &count, seen(2)).unwrap().sockets, 1);
    }

    #[test]
    fn drift_is_exact_only_if_nothing_moved_between_the_passes() {
        let drift = |sockets, totals| Drift { slot: 1, sockets, websockets: 0, exact: true, totals };
        assert!(confirm(vec![drift(1, 9)], vec![drift(1, 9)])[0].exact);
        assert!(!confirm(vec![drift(1, 9)], vec![drift(1, 10)])[0].exact, "a socket came and went");
        assert!(!confirm(vec![drift(1, 9)], vec![drift(2, 9)])[0].exact);
        assert!(confirm(vec![drift(1, 9)], vec![drift(-1, 9)]).is_empty(), "above and below is no drift");
        assert!(confirm(vec![drift(1, 9)], vec![]).is_empty());
        assert!(confirm(vec![], vec![drift(1, 9)]).is_empty());
    }

    #[test]
    fn a_count_below_zero_is_drift() {
        let broken = usage(u64::MAX, 5, 6);
        assert_eq!(compare(1, &broken, &broken, seen(0)).unwrap().sockets, -1);
    }
}
