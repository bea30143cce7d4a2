//! The XDP gate: SYNs to our listeners are judged before the network stack sees them; everything else passes at once.
//!
//! It reads what other programs count and writes none of it: its own are the counters of packets, the rates of SYNs and a sample of
//! what was dropped. A table that it cannot use lets packets pass. It judges by this instance's listeners only; the link is an
//! interface's, and so a network namespace's.

mod frame;
mod lists;
mod rate;
mod source;
mod tell;
mod zone;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::bpf_ktime_get_boot_ns,
    programs::XdpContext,
};
use weir_common::{
    gate::GateRecord,
    listener::Listener,
    packet::{self, Packet, Syn},
    verdict::Outcome,
};

use crate::{atomic, listeners, maps};
use frame::XdpFrame;

#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let (syn, listener) = match packet::parse(&XdpFrame::of(ctx)) {
        Packet::Syn(syn) => match listeners::find(syn.destination, syn.port) {
            Some(listener) => (syn, listener),
            None => return pass(Outcome::NotOurs),
        },
        // Nobody has headers that long who means well. What needs no more than the source is held against it, as if it asked for
        // a connection to one of our listeners.
        Packet::Unread(unread) => (unread, core::ptr::null()),
        Packet::Other => return pass(Outcome::NotSyn),
    };
    judge(&syn, listener)
}

/// The rules, in their order. Without a listener (null, for the reason that `packet::tcp` has) those that need none.
#[inline(always)]
fn judge(syn: &Syn, listener: *const Listener) -> u32 {
    let clean = if listener.is_null() { Outcome::Unread } else { Outcome::Clean };
    let Some(record) = maps::gate() else { return pass(clean) };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let case = Case { syn, record, now };

    if lists::allowed(&syn.source, record, now) {
        return pass(Outcome::Allowed);
    }
    if let Some(outcome) = lists::denied(&syn.source, record, now)
        && case.drops(outcome, 0)
    {
        return XDP_DROP;
    }
    if let Some(source) = source::key(&syn.source) {
        if !listener.is_null() && source::is_at_cap(&source, listener) && case.drops(Outcome::SourceCap, 0) {
            return XDP_DROP;
        }
        if !rate::take(&source, record, now) && case.drops(Outcome::SynRate, 0) {
            return XDP_DROP;
        }
    }
    if !listener.is_null()
        && let Some(closed) = zone::closed(listener, now)
        && case.drops(closed.outcome, closed.zone_key)
    {
        closed.count();
        return XDP_DROP;
    }
    pass(clean)
}

#[inline(always)]
fn pass(outcome: Outcome) -> u32 {
    tell::count(outcome.counter());
    XDP_PASS
}

/// A SYN under judgement.
struct Case<'a> {
    syn: &'a Syn,
    record: *mut GateRecord,
    now: u64,
}

impl Case<'_> {
    /// Counts and tells that a rule is against the SYN. True if it is to be dropped for it, false if the rule runs dry.
    #[inline(always)]
    fn drops(&self, outcome: Outcome, zone_key: u64) -> bool {
        let Some(rule) = outcome.rule() else { return false };
        // SAFETY: the record lives as long as its map.
        let dry = unsafe { atomic::load(&raw const (*self.record).policy.dry) } & rule.bit() != 0;
        tell::count(if dry { outcome.dry_counter() } else { outcome.counter() });
        tell::sample(self, outcome, zone_key, dry);
        !dry
    }
}
