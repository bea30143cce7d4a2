//! Denials as they are asked for and told: what is looked at before one is recorded, what its answer warns of, and the list.

use ipnet::IpNet;

use super::{ActError, ActRecord, in_force};
use crate::{
    gate::{self, By, List},
    operator::{DeniedRecord, DeniedReply},
    state::{State, lock},
};

/// Room for the prefix, looked at before anything is recorded. Acts come one at a time; where a reload takes the last place in
/// between, the denial is tried again until there is one.
pub fn check_room(state: &State, prefix: &str) -> Result<(), ActError> {
    let kernel = lock(&state.kernel);
    let table = &kernel.gate.deny;
    let is_there = || {
        let prefix = prefix.parse::<IpNet>().ok();
        gate::listed(&kernel.gate, List::Deny).iter().any(|listed| Some(listed.prefix) == prefix)
    };
    if table.room() > 0 || is_there() {
        Ok(())
    } else {
        Err(ActError::DenyFull { capacity: table.capacity() })
    }
}

/// Why a denial that is in force drops nothing, or not all.
pub fn warning(state: &State, act: &ActRecord) -> Option<String> {
    if act.act != "deny_add" {
        return None;
    }
    no_gate(state).or_else(|| {
        let denied: IpNet = act.prefix.as_ref()?.parse().ok()?;
        let kernel = lock(&state.kernel);
        let allowed = gate::listed(&kernel.gate, List::Allow);
        let overlap = |allowed: &IpNet| allowed.contains(&denied) || denied.contains(allowed);
        let allowed = allowed.iter().map(|listed| listed.prefix).find(overlap)?;
        Some(format!("{allowed} is on the allow list, which comes first: what is in it still passes"))
    })
}

/// Why the deny list as a whole drops nothing.
fn no_gate(state: &State) -> Option<String> {
    let interfaces = lock(&state.standing).reply();
    if interfaces.iter().all(|interface| interface.mode == "failed") {
        let what = if interfaces.is_empty() {
            "the gate stands on no interface: name some in [xdp] interfaces"
        } else {
            "the gate could be put up on none of its interfaces: see `weir agent`'s log"
        };
        return Some(format!("nothing is dropped so far, as {what}"));
    }
    lock(&state.kernel).gate.runs_dry(weir_common::verdict::Rule::Deny).then(|| {
        "nothing is dropped so far, as `deny` is in xdp.dry_run: packets are only counted".to_owned()
    })
}

/// All that is denied now: by the kernel's own list, with the words of the ledger.
pub fn denied(state: &State) -> DeniedReply {
    let acts: Vec<ActRecord> = in_force(state).into_iter().filter(|act| act.act == "deny_add").collect();
    let listed = gate::listed(&lock(&state.kernel).gate, List::Deny);
    let record = |listed: gate::Listed| {
        let prefix = listed.prefix.to_string();
        let is_operators = listed.temporary.is_some_and(|part| part.by == By::Operator);
        DeniedRecord {
            configured: listed.configured,
            by: listed.temporary.map(|part| {
                match part.by {
                    By::Operator => "operator",
                    By::Verdict => "verdict",
                }
                .to_owned()
            }),
            until: listed.temporary.and_then(|part| part.until).map(Into::into),
            act: acts.iter().find(|act| is_operators && act.prefix.as_ref() == Some(&prefix)).cloned(),
            prefix,
        }
    };
    DeniedReply { denied: listed.into_iter().map(record).collect(), warning: no_gate(state) }
}
