//! The self-audit: the kernel's counts against the kernel's own socket list.
//!
//! The list is no snapshot, so it is compared with bounds that need none. Between two readings of a slot, before and
//! after the list, at most `left` of the sockets that were live may be missing in it, and at most `joined` others may be
//! in it. A count outside of these bounds is looked at again, since a socket may be between two steps of one operation;
//! what stays outside is drift. While nothing moves in a slot the bounds are one number, and drift is repaired to it.

use std::{collections::HashMap, time::SystemTime};

use aya::maps::MapData;
use weir_common::{
    listener::{ANY_V4, ANY_V6},
    socket::{ADMITTED, COUNTED},
    zone::ZoneUsage,
};

use crate::kernel::{KernelError, SocketSeen, ZoneMemory, list_sockets};

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
    /// Of these, how many were set right.
    pub repaired: usize,
}

impl Report {
    /// Sum of all differences, in sockets and WebSockets; 0 in a world without faults.
    pub fn drift(&self) -> u64 {
        self.drifts.iter().map(|drift| drift.sockets.unsigned_abs() + drift.websockets.unsigned_abs()).sum()
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
}

#[derive(Clone, Copy, Default)]
struct Seen {
    sockets: u64,
    websockets: u64,
}

/// Compares, and repairs what is exactly known. `listeners` are our listening addresses.
pub fn audit(
    memory: &ZoneMemory,
    tags: &MapData,
    slots: &[u32],
    listeners: &[([u8; 16], u16)],
) -> Result<Report, KernelError> {
    let mut report = Report::default();
    let mut suspects: Option<Vec<Drift>> = None;
    for _ in 0..PASSES {
        let (found, totals) = pass(memory, tags, slots, listeners)?;
        (report.sockets, report.untracked) = totals;
        // Only what every pass saw is drift.
        suspects = Some(match suspects {
            None => found,
            Some(earlier) => found.into_iter().filter(|drift| seen_before(&earlier, drift)).collect(),
        });
        if suspects.as_ref().is_none_or(Vec::is_empty) {
            break;
        }
        std::thread::yield_now();
    }
    report.drifts = suspects.unwrap_or_default();
    for drift in report.drifts.iter().filter(|drift| drift.exact) {
        memory.correct(drift.slot, -drift.sockets, -drift.websockets);
        report.repaired += 1;
    }
    report.at = Some(SystemTime::now());
    Ok(report)
}

fn seen_before(earlier: &[Drift], drift: &Drift) -> bool {
    earlier.iter().any(|other| {
        other.slot == drift.slot
            && other.sockets.signum() == drift.sockets.signum()
            && other.websockets.signum() == drift.websockets.signum()
    })
}

type Totals = (u64, u64);

fn pass(
    memory: &ZoneMemory,
    tags: &MapData,
    slots: &[u32],
    listeners: &[([u8; 16], u16)],
) -> Result<(Vec<Drift>, Totals), KernelError> {
    let before: Vec<ZoneUsage> = slots.iter().map(|slot| memory.usage(*slot)).collect();
    let mut seen: HashMap<u32, Seen> = HashMap::new();
    let (mut sockets, mut untracked) = (0, 0);
    list_sockets(tags, |socket| match socket.tag {
        Some(tag) if tag.flags & COUNTED != 0 => {
            sockets += 1;
            let seen = seen.entry(tag.slot).or_default();
            seen.sockets += 1;
            seen.websockets += u64::from(tag.flags & ADMITTED != 0);
        }
        _ => untracked += u64::from(is_ours(&socket, listeners)),
    })
    .map_err(KernelError::SockDiag)?;
    let drifts = slots
        .iter()
        .zip(before)
        .filter_map(|(slot, before)| {
            let after = memory.usage(*slot);
            compare(*slot, &before, &after, seen.get(slot).copied().unwrap_or_default())
        })
        .collect();
    Ok((drifts, (sockets, untracked)))
}

/// The difference of a slot, if its count is outside of what the list allows.
fn compare(slot: u32, before: &ZoneUsage, after: &ZoneUsage, seen: Seen) -> Option<Drift> {
    let unseen = before.unconnected.max(after.unconnected);
    let sockets = distance(
        before.sockets,
        after.left_total.wrapping_sub(before.left_total) + unseen,
        after.joined_total.wrapping_sub(before.joined_total),
        seen.sockets,
    );
    let websockets = distance(
        before.websockets,
        after.ended_total.wrapping_sub(before.ended_total) + unseen,
        after.admitted_total.wrapping_sub(before.admitted_total),
        seen.websockets,
    );
    let quiet = before.joined_total == after.joined_total
        && before.left_total == after.left_total
        && before.admitted_total == after.admitted_total
        && before.ended_total == after.ended_total
        && unseen == 0;
    (sockets != 0 || websockets != 0).then_some(Drift { slot, sockets, websockets, exact: quiet })
}

/// How far `seen` is from `[count - gone, count + come]`: positive if the count is too high.
fn distance(count: u64, gone: u64, come: u64, seen: u64) -> i64 {
    let (count, gone, come, seen) = (count as i64, gone as i64, come as i64, seen as i64);
    if seen < count - gone {
        count - gone - seen
    } else if seen > count + come {
        count + come - seen
    } else {
        0
    }
}

/// A socket in `SYN_RECV` is not born yet: the kernel programs are about to meet it.
fn is_ours(socket: &SocketSeen, listeners: &[([u8; 16], u16)]) -> bool {
    const SYN_RECV: u8 = 3;
    socket.state != SYN_RECV
        && listeners.iter().any(|(address, port)| {
            *port == socket.local_port
                && (*address == socket.local_address
                    || *address == ANY_V6
                    || (*address == ANY_V4 && is_v4(&socket.local_address)))
        })
}

fn is_v4(address: &[u8; 16]) -> bool {
    address[..12] == ANY_V4[..12]
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
            reserved: [0; 4],
            refused: [0; REFUSALS],
            closed: [0; CLOSES],
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
        assert_eq!(too_high, Drift { slot: 3, sockets: 1, websockets: 0, exact: true });
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
}
