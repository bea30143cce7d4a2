//! What people do with cases: recorded with who they are, or refused with the rule that stands against it and a way out.

use time::OffsetDateTime;
use weir_notices::answer::Answered;
use weir_reachout::{
    actor::{Actor, Person, Reason},
    fact::Fact,
    ledger::Entry,
    refusal::Refused,
    zone::{Act, Resolution},
};

use super::{
    Reach, board,
    mind::{Mind, Turn},
    wire::{CaseAct, CaseReply, CaseRequest},
};
use crate::{ledger::LedgerError, operator::Peer, state::State};

/// Of a reason, in characters.
const LONGEST_REASON: usize = 1000;

/// Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    #[error("no case and no zone is called `{0}`: see `weir cases`")]
    Unknown(String),
    #[error(
        "a reason has to be given, of at most {LONGEST_REASON} characters: it is what others will read in the ledger"
    )]
    Reason,
    #[error("`{0}` is no way to resolve a case: write resolved, upgraded or false_alarm")]
    Resolution(String),
    #[error("{refused}{}", remedy(.refused))]
    Refused { refused: Refused },
    #[error("not done, as it cannot be recorded: {0}")]
    Ledger(#[from] LedgerError),
    #[error("not done: the policy does not know its past yet ({0})")]
    NotReady(String),
}

impl From<Refused> for CaseError {
    fn from(refused: Refused) -> Self {
        Self::Refused { refused }
    }
}

/// The rule that stands against it, and what to do.
fn remedy(refused: &Refused) -> &'static str {
    match refused {
        Refused::NotContacted => {
            " (nobody is limited without having been contacted: invariant 1); send a notice with `weir case contact`, and wait until it is delivered"
        }
        Refused::GraceNotOver { .. } => " (invariant 1); schedule it for then, or later",
        Refused::NotApproved => " (invariant 1); `weir case approve`",
        Refused::OtherApproval => "; `weir case approve` once more",
        Refused::Exempt { .. } => " (invariant 1); end the exemption first",
        Refused::NoticeTooSoon { .. } | Refused::NoticesSpent { .. } => " (invariant 10)",
        Refused::CaseOpen { .. } => " (invariant 5)",
        Refused::NeedsPerson => " (invariant 1)",
        Refused::NoCase => ": see `weir cases`",
        Refused::State { .. } | Refused::NotDelivered | Refused::NoNotice { .. } => ": see `weir case show`",
        Refused::NoVerdict => ": see `weir verdicts`",
        _ => "",
    }
}

/// Does what was asked, or nothing.
pub async fn act(state: &State, who: &Peer, request: CaseRequest) -> Result<CaseReply, CaseError> {
    let act = read(request.act)?;
    let reason = Reason::new(request.reason).map_err(|_| CaseError::Reason)?;
    if reason.as_str().chars().count() > LONGEST_REASON {
        return Err(CaseError::Reason);
    }
    let person = Person::new(who.user.clone()).or_else(|_| Person::new(who.uid.to_string()));
    let by = person.map_err(|_| CaseError::Refused { refused: Refused::NeedsPerson })?;
    let mut reach = state.reach.lock().await;
    let now = reach.now();
    let (id, mind) = find(&mut reach, state, &request.case)?;
    let before = mind.zones[id as usize].clone();
    let turn = match act {
        Asked::Case(act) => mind.act(id, now, by, reason, act)?,
        Asked::Verdict { goes_on } => mind.on_verdict(id, now, by, reason, goes_on)?,
    };
    let entries = turn.batch.drafts.len() as u64;
    if let Err(error) = keep(&mut reach, state, turn).await {
        if let Some(mind) = &mut reach.mind {
            mind.zones[id as usize] = before;
            mind.note_accused(id);
        }
        return Err(error);
    }
    // What follows at once: a limit whose date has come with its approval.
    reach.ticked = None;
    reach.show(state, None);
    let mind = reach.mind.as_ref().ok_or_else(|| CaseError::Unknown(request.case.clone()))?;
    Ok(CaseReply { case: board::record(mind, &mind.zones[id as usize], now), entries })
}

/// The customer has answered, by a link that was signed by us. False if the case is closed; the same answer again is one answer.
pub async fn answered(state: &State, case: &str, answered: &Answered) -> Result<bool, CaseError> {
    let mut reach = state.reach.lock().await;
    let now: OffsetDateTime = reach.now();
    let (id, mind) = find(&mut reach, state, case)?;
    let before = mind.zones[id as usize].clone();
    let found = before.dialogue.case().filter(|found| found.id().as_str() == case);
    let found = found.ok_or_else(|| CaseError::Unknown(case.to_owned()))?;
    let (open, case) = (found.is_open(), found.id().clone());
    if !open {
        return Ok(false);
    }
    let reason = match &answered.words {
        Some(words) => format!("by link: {words}"),
        None => "answered by link".to_owned(),
    };
    let reason = Reason::new(reason).map_err(|_| CaseError::Reason)?;
    let fact = Fact::Answered { case: case.clone(), answer: answered.answer };
    let zone = before.is.name.to_string();
    let entries = state.ledger.run(move |store| store.entries_of(&zone)).await?;
    let same = |entry: &Entry| {
        entry.actor == Actor::Customer
            && entry.reason == reason
            && entry.fact().is_ok_and(|said| said == fact)
    };
    if entries.iter().any(same) {
        return Ok(true);
    }
    let (id, mind) = find(&mut reach, state, case.as_str())?;
    let mut turn = mind.answered(now, &case, answered.answer)?;
    for draft in turn.batch.drafts.iter_mut().filter(|draft| draft.fact == fact) {
        draft.reason = reason.clone();
    }
    if let Err(error) = keep(&mut reach, state, turn).await {
        if let Some(mind) = &mut reach.mind {
            mind.zones[id as usize] = before;
        }
        return Err(error);
    }
    reach.show(state, None);
    Ok(true)
}

fn find<'a>(reach: &'a mut Reach, state: &State, name: &str) -> Result<(u32, &'a mut Mind), CaseError> {
    let fault = || crate::state::lock(&state.view).fault.clone().unwrap_or_else(|| "it starts".to_owned());
    if !reach.unwritten.is_empty() {
        return Err(CaseError::NotReady(fault()));
    }
    let Some(mind) = &mut reach.mind else { return Err(CaseError::NotReady(fault())) };
    let id = mind.zone_of_case(name).or_else(|| mind.id_of(name));
    Ok((id.ok_or_else(|| CaseError::Unknown(name.to_owned()))?, mind))
}

/// Writes it now, or it has not been.
async fn keep(reach: &mut Reach, state: &State, turn: Turn) -> Result<(), CaseError> {
    reach.unwritten.push_back(turn);
    let kept = reach.flush(state).await;
    if kept.is_err() {
        reach.unwritten.clear();
    }
    Ok(kept?)
}

/// What an act is about.
enum Asked {
    Case(Act),
    Verdict { goes_on: bool },
}

fn read(act: CaseAct) -> Result<Asked, CaseError> {
    Ok(Asked::Case(match act {
        CaseAct::AttendVerdict => return Ok(Asked::Verdict { goes_on: true }),
        CaseAct::EndVerdict => return Ok(Asked::Verdict { goes_on: false }),
        CaseAct::Contact => Act::Contact,
        CaseAct::Reply { answer } => Act::Reply { answer },
        CaseAct::Note => Act::Note,
        CaseAct::Bounce { number } => Act::Bounce { number },
        CaseAct::Exempt { until } => Act::Exempt { until },
        CaseAct::EndExemption => Act::EndExemption,
        CaseAct::Resolve { how } => Act::Resolve {
            how: match how.as_str() {
                "resolved" => Resolution::Resolved,
                "upgraded" => Resolution::Upgraded,
                "false_alarm" => Resolution::FalseAlarm,
                _ => return Err(CaseError::Resolution(how)),
            },
        },
        CaseAct::ScheduleLimit { cap, from } => Act::ScheduleLimit { cap, from },
        CaseAct::Approve => Act::Approve,
        CaseAct::Lift => Act::Lift,
    }))
}
