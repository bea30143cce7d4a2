//! The allow and the deny list: the longest prefix that holds decides.

use weir_common::{
    gate::{BY_CONFIGURATION, BY_OPERATOR, GateRecord, LOOKUPS, PrefixEntry},
    listener::Address,
    verdict::Outcome,
};

use crate::{atomic, maps};

const WHOLE: u32 = 128;

#[inline(always)]
pub fn allowed(source: &Address, record: *const GateRecord, now: u64) -> bool {
    // SAFETY: the record lives as long as its map.
    let entries = unsafe { atomic::load(&raw const (*record).policy.allow_entries) };
    entries != 0 && holding(now, |prefix_len| maps::allowed(prefix_len, source)).is_some()
}

/// The reason for which the source is denied.
#[inline(always)]
pub fn denied(source: &Address, record: *const GateRecord, now: u64) -> Option<Outcome> {
    // SAFETY: as above.
    if unsafe { atomic::load(&raw const (*record).policy.deny_entries) } == 0 {
        return None;
    }
    let by = holding(now, |prefix_len| maps::denied(prefix_len, source))?;
    Some(if by & BY_CONFIGURATION != 0 {
        Outcome::DenyConfigured
    } else if by & BY_OPERATOR != 0 {
        Outcome::DenyOperator
    } else {
        Outcome::DenyVerdict
    })
}

/// Who put the longest prefix there that holds. What has ended and was not swept yet does not hide a shorter prefix.
#[inline(always)]
fn holding(now: u64, find: impl Fn(u32) -> Option<*const PrefixEntry>) -> Option<u32> {
    let mut prefix_len = WHOLE;
    for _ in 0..LOOKUPS {
        let entry = find(prefix_len)?;
        // SAFETY: the agent replaces entries whole; one that is taken away meanwhile stays readable until this program ends.
        let entry = unsafe { *entry };
        if entry.holds(now) {
            return Some(entry.by);
        }
        if entry.prefix_len == 0 {
            return None;
        }
        prefix_len = entry.prefix_len - 1;
    }
    None
}
