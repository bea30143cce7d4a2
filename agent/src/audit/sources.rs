//! The audit of sources: the rows of the table against the sockets that say that a row counts them.
//!
//! As for zones, the list is compared with bounds that need no snapshot: a row is read before and after the list. Rows come and go
//! while it is walked, so only a row that is the same one (by its number) before and after says anything. A socket whose prefix has
//! no row, before and after, proves nothing yet, as it may have been born and have ended in between; seen again in the next pass it
//! lived all the time, and so should have its row.

use std::collections::{HashMap, HashSet};

use weir_common::source::{CLOSED, SourceKey, SourceUsage};

use super::distance;
use crate::kernel::{KernelError, SocketId, SourceTable};

/// Count minus truth of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDrift {
    pub key: SourceKey,
    pub sockets: i64,
    /// Nothing moved while it was seen, so it is known to the unit.
    pub exact: bool,
    /// The row and its totals, by which a later pass sees that nothing moved since; none for sockets without a row.
    row: Option<(u64, u64)>,
    /// The sockets without a row.
    homeless: HashSet<SocketId>,
}

/// What one pass over the socket list is told, and what it finds.
pub struct Pass<'t> {
    table: &'t SourceTable,
    before: HashMap<SourceKey, SourceUsage>,
    seen: HashMap<SourceKey, u64>,
    homeless: HashMap<SourceKey, HashSet<SocketId>>,
}

/// What a pass found wrong, and what it found left over.
#[derive(Default)]
pub struct Found {
    pub drifts: Vec<SourceDrift>,
    /// Rows that count nothing and that nobody took away.
    pub idle: Vec<SourceKey>,
}

impl<'t> Pass<'t> {
    /// Reads the rows for the first time.
    pub fn begin(table: &'t SourceTable) -> Result<Self, KernelError> {
        Ok(Self { table, before: rows(table)?, seen: HashMap::new(), homeless: HashMap::new() })
    }

    /// A socket that says that this row counts it.
    pub fn see(&mut self, key: SourceKey, id: SocketId) {
        *self.seen.entry(key).or_default() += 1;
        if !self.before.contains_key(&key) {
            self.homeless.entry(key).or_default().insert(id);
        }
    }

    /// Reads the rows again, and compares.
    pub fn end(mut self) -> Result<Found, KernelError> {
        let after = rows(self.table)?;
        let mut found = Found::default();
        for (key, before) in &self.before {
            let Some(after) = after.get(key).filter(|after| after.row == before.row) else { continue };
            let seen = self.seen.get(key).copied().unwrap_or(0);
            if before == after && before.live == 0 && seen == 0 {
                found.idle.push(*key);
            }
            found.drifts.extend(compare(*key, before, after, seen));
        }
        for (key, homeless) in self.homeless.drain().filter(|(key, _)| !after.contains_key(key)) {
            let sockets = -(homeless.len() as i64);
            found.drifts.push(SourceDrift { key, sockets, exact: false, row: None, homeless });
        }
        Ok(found)
    }
}

fn rows(table: &SourceTable) -> Result<HashMap<SourceKey, SourceUsage>, KernelError> {
    let mut rows = HashMap::new();
    table.each(|key, usage| {
        rows.insert(key, usage);
    })?;
    Ok(rows)
}

/// The difference of a row, if its count is outside of what the list allows.
fn compare(key: SourceKey, before: &SourceUsage, after: &SourceUsage, seen: u64) -> Option<SourceDrift> {
    if before.live == CLOSED || after.live == CLOSED {
        return None;
    }
    let left = after.left_total.wrapping_sub(before.left_total);
    let joined = after.joined_total.wrapping_sub(before.joined_total);
    let sockets = distance(before.live, left, joined, seen);
    let totals = after.joined_total.wrapping_add(after.left_total);
    let row = Some((after.row, totals));
    (sockets != 0).then(|| SourceDrift {
        key,
        sockets,
        exact: before == after,
        row,
        homeless: HashSet::new(),
    })
}

/// Only what both passes saw is drift, and exact only if it is the same and nothing moved in between.
pub fn confirm(earlier: Vec<SourceDrift>, later: Vec<SourceDrift>) -> Vec<SourceDrift> {
    let earlier: HashMap<SourceKey, SourceDrift> =
        earlier.into_iter().map(|drift| (drift.key, drift)).collect();
    let confirmed = |mut drift: SourceDrift| {
        let before = earlier.get(&drift.key)?;
        if drift.row.is_none() {
            drift.homeless.retain(|id| before.homeless.contains(id));
            drift.sockets = -(drift.homeless.len() as i64);
            // They lived through both passes, and had no row in either.
            drift.exact = before.homeless == drift.homeless;
            return (drift.sockets != 0).then_some(drift);
        }
        if before.sockets.signum() != drift.sockets.signum() {
            return None;
        }
        drift.exact = drift.exact && *before == drift;
        Some(drift)
    };
    later.into_iter().filter_map(confirmed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SourceKey = SourceKey { address: [0, 0, 0, 7], prefix_len: 128 };

    fn usage(row: u64, live: u64, joined_total: u64, left_total: u64) -> SourceUsage {
        SourceUsage { joined_total, left_total, row, live }
    }

    fn homeless(ids: &[u8]) -> SourceDrift {
        let homeless: HashSet<SocketId> = ids.iter().map(|id| SocketId::numbered(*id)).collect();
        SourceDrift { key: KEY, sockets: -(ids.len() as i64), exact: false, row: None, homeless }
    }

    #[test]
    fn a_quiet_row_must_agree_to_the_unit() {
        let quiet = usage(1, 3, 5, 2);
        assert_eq!(compare(KEY, &quiet, &quiet, 3), None);
        let drift = compare(KEY, &quiet, &quiet, 2).unwrap();
        assert_eq!((drift.sockets, drift.exact), (1, true));
        assert_eq!(compare(KEY, &quiet, &quiet, 4).unwrap().sockets, -1);
    }

    #[test]
    fn sockets_that_came_or_went_meanwhile_are_no_drift_of_a_row() {
        let (before, after) = (usage(1, 3, 5, 2), usage(1, 4, 8, 4));
        for seen in 1..=6 {
            assert_eq!(compare(KEY, &before, &after, seen), None, "{seen} in the list");
        }
        assert_eq!(compare(KEY, &before, &after, 0).unwrap().sockets, 1);
        assert!(!compare(KEY, &before, &after, 7).unwrap().exact, "never repaired while it moves");
        let closing = usage(1, CLOSED, 5, 5);
        assert_eq!(compare(KEY, &closing, &closing, 1), None, "a row on its way out says nothing");
    }

    #[test]
    fn a_rows_drift_is_exact_only_if_nothing_moved_between_the_passes() {
        let seen = |row, joined| {
            let quiet = usage(row, 3, joined, 2);
            vec![compare(KEY, &quiet, &quiet, 2).unwrap()]
        };
        assert!(confirm(seen(1, 5), seen(1, 5))[0].exact);
        assert!(!confirm(seen(1, 5), seen(1, 6))[0].exact, "a socket came and went");
        assert!(!confirm(seen(1, 5), seen(2, 5))[0].exact, "another row");
        assert!(confirm(seen(1, 5), vec![]).is_empty());
        assert!(confirm(vec![], seen(1, 5)).is_empty());
    }

    #[test]
    fn a_socket_without_a_row_is_drift_once_it_was_seen_twice() {
        assert!(confirm(vec![homeless(&[1])], vec![homeless(&[2])]).is_empty(), "other sockets");
        let again = confirm(vec![homeless(&[1, 2])], vec![homeless(&[2, 3])]);
        assert_eq!((again[0].sockets, again[0].exact), (-1, false));
        let same = confirm(vec![homeless(&[1, 2])], vec![homeless(&[1, 2])]);
        assert_eq!((same[0].sockets, same[0].exact), (-2, true));
    }
}
