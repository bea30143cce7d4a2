//! The operator's hand: acts of people, each recorded in the ledger before it takes effect.
//!
//! Acts come in on a Unix socket ([`socket`]), from whom the kernel says it is ([`peer`]). One act at a time is read and
//! bounded ([`asked`]), recorded ([`crate::ledger`]), and then done: a lease is written to the kernel ([`standing`]), which ends
//! it by its own clock, or sockets are ended ([`kill`]). An act that cannot be recorded is not done. An agent that dies between
//! record and effect finds the record when it starts again, and does it then; a kill is not done again.

mod asked;
mod denials;
mod deny;
mod kill;
mod peer;
mod places;
pub mod socket;
mod standing;
mod wire;

use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;
use weir_common::zone::UNCAPPED;
use weir_reachout::{
    actor::{Actor, Person, Reason},
    fact::Fact,
    hand::{HandAct, Standing, Subject},
    ledger::{Draft, Entry},
};

pub use asked::{Asked, Unclear};
pub use denials::{Denials, Gate};
pub use deny::denied;
pub use peer::Peer;
pub use standing::{Hand, Now};
pub use wire::{ActRecord, ActReply, ActRequest, ActsReply, DeniedRecord, DeniedReply};

use self::{asked::Target, denials::Undone};
use crate::{
    fault,
    gate::ListError,
    kernel::{KernelError, at_least_zero},
    ledger::LedgerError,
    state::{State, lock},
    zones::ZoneTable,
};

/// Why an act is not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error(transparent)]
    Unclear(#[from] Unclear),
    #[error("no zone is called `{name}`{hint}")]
    NoZone { name: String, hint: String },
    #[error("{what} is not in force, so there is nothing to end: see `weir acts`")]
    NotInForce { what: String },
    #[error(
        "the zone's plan already refuses above {abuse_cap} live WebSockets: a cap of {asked} would change nothing"
    )]
    NoChange { asked: u64, abuse_cap: u64 },
    #[error("not done, as it cannot be recorded: {0}")]
    Ledger(#[from] LedgerError),
    #[error("not done, as the list of denied prefixes is full: it has room for {capacity}")]
    DenyFull { capacity: u32 },
    #[error("recorded, and not in force yet (it is tried again every second): {0}")]
    Denial(#[source] ListError),
    #[error("this kernel cannot end sockets of others: it is built without CONFIG_INET_DIAG_DESTROY")]
    CannotKill,
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Does what was asked, to the end, whether or not whoever asked is still there.
pub async fn act(state: &Arc<State>, who: &Peer, request: ActRequest) -> Result<ActReply, ActError> {
    let asked = Asked::read(request, OffsetDateTime::now_utc())?;
    let _one_at_a_time = state.acts.lock().await;
    match asked {
        Asked::Lease { zone, act, reason } => {
            if let HandAct::DenyAdd { prefix, .. } = &act {
                deny::check_room(state, prefix)?;
            }
            let evidence = evidence(state, who, &zone)?;
            if let HandAct::CapSet { websockets, .. } = act {
                check_cap(state, &zone, websockets)?;
            }
            lease(state, who, zone, act, reason, evidence).await
        }
        Asked::End { zone, act, reason } => {
            check_in_force(state, &zone, &act)?;
            let evidence = said_by(who);
            lease(state, who, zone, act, reason, evidence).await
        }
        Asked::Kill { target, reason } => kill(state, who, target, reason).await,
    }
}

/// Records the beginning or the end of a lease, then has the kernel hold it.
async fn lease(
    state: &Arc<State>,
    who: &Peer,
    zone: String,
    act: HandAct,
    reason: Reason,
    evidence: serde_json::Value,
) -> Result<ActReply, ActError> {
    let entry = record(state, who, zone, act, reason, evidence).await?;
    fault::point("recorded");
    let now = Now::read();
    lock(&state.hand).follow(&entry, now).map_err(LedgerError::from)?;
    let undone = enforce(state, now);
    let record = act_record(&entry, true);
    tracing::info!(
        entry = record.entry,
        act = record.act,
        who = record.who,
        zone = record.zone,
        prefix = record.prefix,
        reason = record.reason,
        "an operator's act is recorded"
    );
    let about = |undone: &Undone<ListError>| record.prefix.as_ref() == Some(&undone.prefix.to_string());
    if let Some(undone) = undone.into_iter().find(about) {
        return Err(ActError::Denial(undone.error));
    }
    let warning = deny::warning(state, &record);
    Ok(ActReply { act: Some(record), sockets: None, ended: None, warning })
}

async fn kill(
    state: &Arc<State>,
    who: &Peer,
    target: Target,
    reason: Option<Reason>,
) -> Result<ActReply, ActError> {
    let (zone, source) = match &target {
        Target::Zone(name) => (name.clone(), None),
        Target::Source(prefix) => (String::new(), Some(prefix.to_string())),
    };
    let slot = match &target {
        // Also a zone that drains: to end what is left of it is what one may want.
        Target::Zone(name) => Some(slot_of(state, name, true)?),
        Target::Source(_) => None,
    };
    let chosen = kill::Chosen::new(slot, &target);
    let found = kill::find(state, chosen).await?;
    let sockets = found.len() as u64;
    let Some(reason) = reason else {
        return Ok(ActReply { act: None, sockets: Some(sockets), ended: None, warning: None });
    };
    if !kill::is_possible().await? {
        return Err(ActError::CannotKill);
    }
    let act = HandAct::Kill { source, sockets };
    let entry = record(state, who, zone, act, reason, said_by(who)).await?;
    fault::point("recorded");
    let ended = kill::end(found).await?;
    let record = act_record(&entry, false);
    tracing::info!(
        entry = record.entry,
        who = record.who,
        zone = record.zone,
        prefix = record.prefix,
        sockets,
        ended,
        reason = record.reason,
        "an operator ended established sockets"
    );
    Ok(ActReply { act: Some(record), sockets: Some(sockets), ended: Some(ended), warning: None })
}

async fn record(
    state: &State,
    who: &Peer,
    zone: String,
    act: HandAct,
    reason: Reason,
    evidence: serde_json::Value,
) -> Result<Entry, ActError> {
    if !lock(&state.hand).is_known() {
        // What is in force by it is not known, so nothing can be added to it.
        load(state).await?;
    }
    let person = Person::new(who.user.clone()).or_else(|_| Person::new(who.uid.to_string()));
    let (policy, params) = {
        let policy = lock(&state.policy);
        // Plain numbers: nothing of them can fail to be written.
        (policy.version().clone(), serde_json::to_string(policy.params()).unwrap_or_default())
    };
    let draft = Draft {
        at: OffsetDateTime::now_utc(),
        zone,
        actor: person.map_or(Actor::Policy, Actor::Person),
        reason,
        evidence: evidence.to_string(),
        policy,
        fact: Fact::ByHand { act },
    };
    Ok(state.ledger.record(draft, params).await?)
}

/// Reads the ledger, if it could not be read so far, and has the kernel hold what is in force by it.
pub async fn load(state: &State) -> Result<(), LedgerError> {
    let in_force = state.ledger.load().await?;
    let now = Now::read();
    *lock(&state.hand) = Hand::new(in_force, now);
    // What fails is tried again every second.
    enforce(state, now);
    Ok(())
}

/// Has the kernel hold what is in force, and nothing that is over.
/// Returns which denials could not be put into force, or be ended.
pub fn enforce(state: &State, now: Now) -> Vec<Undone<ListError>> {
    {
        let mut zones = lock(&state.zones);
        lock(&state.hand).enforce(&mut zones, &state.memory, now);
    }
    let mut kernel = lock(&state.kernel);
    // Held until the list is right: an act that comes meanwhile is not undone by what was wanted before.
    let hand = lock(&state.hand);
    let Some(wanted) = hand.denied() else { return Vec::new() };
    let undone = lock(&state.denials).enforce(&mut Gate(&mut kernel.gate), &wanted, now.boot_ns);
    denials::tell(&undone);
    undone
}

/// What is in force, by what it is on.
pub fn in_force(state: &State) -> Vec<ActRecord> {
    let mut hand = lock(&state.hand);
    // What has ended since the last look is in force no more.
    hand.expire(Now::read());
    hand.iter().map(|(subject, standing)| standing_record(subject, standing)).collect()
}

/// The newest acts of the ledger, newest first.
pub async fn history(state: &State, count: u64) -> Result<Vec<ActRecord>, LedgerError> {
    let entries = state.ledger.newest(count).await?;
    Ok(entries
        .iter()
        .map(|entry| {
            let in_force = lock(&state.hand).iter().any(|(_, standing)| standing.seq == entry.seq);
            act_record(entry, in_force)
        })
        .collect())
}

/// Who said so, and of a zone its numbers at that time.
fn evidence(state: &State, who: &Peer, zone: &str) -> Result<serde_json::Value, ActError> {
    let mut evidence = said_by(who);
    if zone.is_empty() {
        return Ok(evidence);
    }
    let slot = slot_of(state, zone, false)?;
    let usage = state.memory.usage(slot);
    evidence["zone"] = json!({
        "websockets": at_least_zero(usage.websockets),
        "sockets": at_least_zero(usage.sockets),
        "admitted_total": usage.admitted_total,
    });
    Ok(evidence)
}

fn said_by(who: &Peer) -> serde_json::Value {
    match &who.login {
        Some(login) => json!({ "uid": who.uid, "login": login }),
        None => json!({ "uid": who.uid }),
    }
}

fn check_cap(state: &State, zone: &str, asked: u64) -> Result<(), ActError> {
    let abuse_cap = lock(&state.zones).by_name(zone).map_or(UNCAPPED, |entry| entry.abuse_cap);
    if asked >= abuse_cap { Err(ActError::NoChange { asked, abuse_cap }) } else { Ok(()) }
}

fn check_in_force(state: &State, zone: &str, act: &HandAct) -> Result<(), ActError> {
    let Some(subject) = act.subject(zone) else { return Ok(()) };
    let hand = lock(&state.hand);
    if !hand.is_known() || hand.get(&subject).is_some() {
        return Ok(());
    }
    let what = match subject {
        Subject::Deny { prefix } => format!("a denial of {prefix}"),
        Subject::Cap { zone } => format!("a cap on `{zone}`"),
        Subject::Block { zone } => format!("a block of `{zone}`"),
    };
    Err(ActError::NotInForce { what })
}

/// The slot of a zone; of one that drains too, if it is asked for.
fn slot_of(state: &State, name: &str, draining: bool) -> Result<u32, ActError> {
    let zones = lock(&state.zones);
    let entry = if draining { zones.any_by_name(name) } else { zones.by_name(name) };
    entry.map(|entry| entry.slot).ok_or_else(|| no_zone(&zones, name))
}

fn no_zone(zones: &ZoneTable, name: &str) -> ActError {
    let near: Vec<_> = zones
        .entries()
        .into_iter()
        .filter(|entry| name.len() > 2 && (entry.name.contains(name) || name.contains(&*entry.name)))
        .take(3)
        .map(|entry| format!("`{}`", entry.name))
        .collect();
    let hint = if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) };
    ActError::NoZone { name: name.to_owned(), hint }
}

fn standing_record(subject: &Subject, standing: &Standing) -> ActRecord {
    let (act, zone, prefix) = match subject {
        Subject::Deny { prefix } => ("deny_add", None, Some(prefix.clone())),
        Subject::Cap { zone } => ("cap_set", Some(zone.clone()), None),
        Subject::Block { zone } => ("zone_block", Some(zone.clone()), None),
    };
    ActRecord {
        entry: standing.seq,
        at: standing.since,
        act: act.to_owned(),
        zone,
        prefix,
        websockets: standing.websockets,
        sockets: None,
        who: name(&standing.actor),
        login: login(&standing.evidence),
        reason: standing.reason.to_string(),
        until: Some(standing.until),
        in_force: true,
    }
}

/// An entry of the ledger as people read it; one of the policy's own by the name of its fact.
pub fn act_record(entry: &Entry, in_force: bool) -> ActRecord {
    let fact: serde_json::Value = serde_json::from_str(&entry.fact).unwrap_or_default();
    let of = if fact["fact"] == "by_hand" { &fact["act"] } else { &fact };
    let text = |key: &str| of[key].as_str().map(str::to_owned);
    let name_key = if fact["fact"] == "by_hand" { "act" } else { "fact" };
    ActRecord {
        entry: entry.seq,
        at: entry.at,
        act: text(name_key).unwrap_or_default(),
        zone: Some(entry.zone.clone()).filter(|zone| !zone.is_empty()),
        prefix: text("prefix").or_else(|| text("source")),
        websockets: of["websockets"].as_u64(),
        sockets: of["sockets"].as_u64(),
        who: name(&entry.actor),
        login: login(&entry.evidence),
        reason: entry.reason.to_string(),
        until: entry.fact().ok().and_then(|fact| match fact {
            Fact::ByHand { act } => act.until(),
            _ => None,
        }),
        in_force,
    }
}

fn name(actor: &Actor) -> String {
    match actor {
        Actor::Person(person) => person.to_string(),
        Actor::Policy => "the policy".to_owned(),
        Actor::Customer => "the customer".to_owned(),
        Actor::Delivery => "the mail server".to_owned(),
    }
}

fn login(evidence: &str) -> Option<String> {
    let evidence: serde_json::Value = serde_json::from_str(evidence).ok()?;
    evidence["login"].as_str().map(str::to_owned)
}
