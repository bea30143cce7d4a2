//! Cases as people see them, and the numbers for metrics: a copy that is made once a second, so that nobody waits for a disk.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use weir_reachout::{
    case::{Case, CaseState},
    contact::{Delivery, Notice},
    decision::{Event, Rule},
    history::History,
    policy::Policy,
    slot::{Judgement, SlotIndex},
    verdict::Measure,
};

use super::{
    Reach,
    mind::{Known, Mind},
    wire::{CaseRecord, CasesReply, DayRecord, NoticeRecord, PolicyReply, ReportReply, VerdictRecord},
};
use crate::{
    ledger::{LedgerError, Tally},
    state::{State, lock},
};

/// What others look at.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub now: Option<OffsetDateTime>,
    /// Cases and flagged zones.
    pub cases: Vec<CaseRecord>,
    pub verdicts: Vec<VerdictRecord>,
    /// Prefixes that the gate has because of them.
    pub refused_prefixes: usize,
    pub usage: Vec<UsageRow>,
    pub fault: Option<String>,
    pub policy: Option<PolicyReply>,
    /// Seconds since the last slot that was judged was over.
    pub lag_seconds: f64,
    /// Known part of the windows, over all configured zones.
    pub coverage: f64,
    pub slots_total: u64,
    pub decisions: BTreeMap<&'static str, u64>,
    pub notices: Tally,
    pub unwritten: usize,
    pub limits: usize,
}

/// A zone that is, or lately was, above its guideline.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRow {
    pub zone: String,
    pub plan: String,
    /// The last slot's mean, in guidelines.
    pub ratio: f64,
    pub budget_spent: f64,
    pub spikes: u32,
}

impl View {
    pub fn reply(&self) -> CasesReply {
        let now = self.now.unwrap_or_else(OffsetDateTime::now_utc);
        CasesReply {
            cases: self.cases.clone(),
            verdicts: self.verdicts.clone(),
            fault: self.fault.clone(),
            now,
        }
    }
}

/// Zones' usage is copied once a slot: it changes no sooner.
impl Reach {
    pub(super) fn show(&mut self, state: &State, fault: Option<String>) {
        let now = self.clock.now();
        let mut view = lock(&state.view).clone();
        (view.now, view.fault, view.unwritten) = (Some(now), fault, self.unwritten.len());
        view.limits = self.limits.len();
        view.refused_prefixes = self.refusals.len();
        if let Some(mind) = &self.mind {
            view.lag_seconds = mind.building.last().map_or(0.0, |last| (now - last).as_seconds_f64());
            let judged = (mind.slots_total, mind.zones.len());
            if view.slots_total != judged.0 || view.policy.is_none() {
                view.usage =
                    mind.zones.iter().filter(|known| known.configured).filter_map(|k| row(mind, k)).collect();
                view.coverage = coverage(mind);
            }
            view.slots_total = mind.slots_total;
            view.decisions = mind.decisions_total.iter().map(|(event, n)| (label(*event), *n)).collect();
            view.cases = cases(mind, now);
            view.verdicts = mind.accused().filter_map(verdict).collect();
            view.notices.clone_from(&self.notices);
            view.policy = Some(policy(mind.policy()));
        }
        *lock(&state.view) = view;
    }
}

fn policy(policy: &Policy) -> PolicyReply {
    let params = serde_json::to_value(policy.params()).unwrap_or_default();
    PolicyReply { version: policy.version().to_string(), policy: params }
}

fn row(mind: &Mind, known: &Known) -> Option<UsageRow> {
    let last = known.last.map_or(0.0, |slot| slot.value);
    let usage = mind.usage(known);
    let ratio = last / known.guideline.max(1) as f64;
    let quiet = ratio <= 1.0 && usage.budget_spent == 0.0 && known.dialogue.open_case().is_none();
    (!quiet).then(|| UsageRow {
        zone: known.is.name.to_string(),
        plan: known.is.plan.to_string(),
        ratio,
        budget_spent: usage.budget_spent,
        spikes: usage.counted_spikes,
    })
}

fn coverage(mind: &Mind) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for known in mind.zones.iter().filter(|known| known.configured) {
        (sum, count) = (sum + mind.usage(known).coverage, count + 1);
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// Closed cases are told for so long.
const TOLD: Duration = Duration::days(30);

fn cases(mind: &Mind, now: OffsetDateTime) -> Vec<CaseRecord> {
    let shown = |known: &&Known| {
        let recent = |case: &Case| case.is_open() || now - case.since() < TOLD;
        known.dialogue.case().is_some_and(recent)
            || known.dialogue.is_flagged()
            || known.dialogue.exempt_until().is_some()
    };
    let mut cases: Vec<_> = mind.zones.iter().filter(shown).map(|known| record(mind, known, now)).collect();
    let order = |record: &CaseRecord| match record.state.as_str() {
        "closed" | "none" => 2,
        "flagged" => 1,
        _ => 0,
    };
    cases.sort_by(|a, b| order(a).cmp(&order(b)).then(a.since.cmp(&b.since)).then(a.zone.cmp(&b.zone)));
    cases
}

/// A zone's case, or that it has none.
pub(super) fn record(mind: &Mind, known: &Known, now: OffsetDateTime) -> CaseRecord {
    let usage = mind.usage(known);
    let dialogue = &known.dialogue;
    let case = dialogue.case().filter(|case| case.is_open() || !dialogue.is_flagged());
    let (next, next_at) = next(mind.policy(), known, case, now);
    let (cap, limit_from, approved_by) = match case.map(Case::state) {
        Some(CaseState::LimitScheduled(terms)) => (
            Some(terms.cap),
            Some(terms.from),
            terms.approval.as_ref().map(|approval| approval.by().to_string()),
        ),
        Some(CaseState::Limited(limit)) => {
            (Some(limit.cap()), case.map(Case::since), Some(limit.approval().by().to_string()))
        }
        _ => (None, None, None),
    };
    let without = if dialogue.is_flagged() { "flagged" } else { "none" };
    CaseRecord {
        case: case.map(|case| case.id().to_string()),
        zone: known.is.name.to_string(),
        plan: known.is.plan.to_string(),
        state: case.map_or(without, |case| case.state().label()).to_owned(),
        closing: case.and_then(|case| match case.state() {
            CaseState::Closed { closing } => word(closing),
            _ => None,
        }),
        rule: case.map(|case| rule(case.rule()).to_owned()),
        guideline: known.guideline,
        over_hours: (usage.over_hours * 100.0).round() / 100.0,
        budget_spent: (usage.budget_spent * 10_000.0).round() / 10_000.0,
        occasions: usage.counted_spikes,
        coverage: (usage.coverage * 10_000.0).round() / 10_000.0,
        opened_at: case.map(Case::opened_at),
        since: case.map(Case::since),
        days_in_state: case
            .map_or(0.0, |case| ((now - case.since()).as_seconds_f64() / 864.0).round() / 100.0),
        answered: case.is_some_and(Case::is_answered),
        notices: case.map(Case::notices).unwrap_or_default().iter().map(notice).collect(),
        cap,
        limit_from,
        approved_by,
        exempt_until: dialogue.exempt_until(),
        next: next.to_owned(),
        next_at,
    }
}

fn verdict(known: &Known) -> Option<VerdictRecord> {
    let verdict = known.watch.region.verdict()?;
    let (measure, prefixes) = match verdict.measure() {
        Measure::Observe => ("observe", Vec::new()),
        Measure::RefusePrefixes { prefixes } => ("refuse_prefixes", prefixes.clone()),
    };
    Some(VerdictRecord {
        verdict: verdict.id().to_owned(),
        zone: known.is.name.to_string(),
        plan: known.is.plan.to_string(),
        measure: measure.to_owned(),
        prefixes,
        since: verdict.since(),
        until: verdict.until(),
        attended_by: verdict.attended_by().map(ToString::to_string),
        evidence: serde_json::to_value(verdict.evidence()).unwrap_or_default(),
    })
}

fn next(
    policy: &Policy,
    known: &Known,
    case: Option<&Case>,
    now: OffsetDateTime,
) -> (&'static str, Option<OffsetDateTime>) {
    let automatic = known.is.terms.automatic_notices;
    let Some(case) = case.filter(|case| case.is_open()) else {
        let exempt = known.dialogue.exempt_until();
        return if exempt.is_some() { ("the exemption ends", exempt) } else { ("", None) };
    };
    let queued = case.notices().iter().any(Notice::is_queued);
    let spaced = case.notices().last().map(|last| last.queued_at() + policy.case_gap());
    let spent = case.notices().len() >= usize::from(policy.params().contact.per_case);
    match case.state() {
        CaseState::Open | CaseState::Contacted if queued => ("the notice is on its way", None),
        CaseState::Open | CaseState::Contacted if spent => ("to a person, if nobody answers", spaced),
        CaseState::Open if automatic => ("the first notice leaves", spaced.or(Some(now))),
        CaseState::Open => ("send the first notice (contact)", spaced),
        CaseState::Contacted if automatic => ("a reminder leaves", spaced),
        CaseState::Contacted => ("send a reminder (contact)", spaced),
        CaseState::InDialogue => ("talk with the customer", None),
        CaseState::Escalated => ("speak to the customer in person", None),
        CaseState::LimitScheduled(terms) if terms.approval.is_none() => {
            ("somebody has to approve the limit", None)
        }
        CaseState::LimitScheduled(terms) => ("the limit begins", Some(terms.from)),
        CaseState::Limited(_) => ("lift the limit when it is agreed", None),
        CaseState::Closed { .. } => ("", None),
    }
}

fn notice(notice: &Notice) -> NoticeRecord {
    let (outcome, delivered_at) = match notice.delivery() {
        Delivery::Queued => ("queued", None),
        Delivery::Delivered { at } => ("delivered", Some(at)),
        Delivery::Failed(failure) => (failure.label(), None),
    };
    let key = notice.key();
    NoticeRecord {
        key: key.to_string(),
        kind: key.kind.label().to_owned(),
        queued_at: notice.queued_at(),
        outcome: outcome.to_owned(),
        delivered_at,
    }
}

const fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::R1 => "R1",
        Rule::R2 => "R2",
        Rule::R3 => "R3",
    }
}

/// The label of a decision, as in `weir simulate --json`.
pub const fn label(event: Event) -> &'static str {
    match event {
        Event::SpikeCounted => "spike_counted",
        Event::Flagged => "flagged",
        Event::CaseOpened => "case_opened",
        Event::Closable => "closable",
        Event::Unflagged => "unflagged",
    }
}

fn word(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// A zone's window in days. `None`: no such zone.
pub async fn report(state: &State, zone: &str) -> Result<Option<ReportReply>, LedgerError> {
    let (record, policy, to, window) = {
        let reach = state.reach.lock().await;
        let Some(mind) = &reach.mind else { return Ok(None) };
        let Some(known) = mind.zone(zone) else { return Ok(None) };
        let now = reach.clock.now();
        let window = mind.policy().params().detection.window_days;
        (record(mind, known, now), mind.policy().version().to_string(), SlotIndex::containing(now), window)
    };
    let from = to.back(window * 288);
    let name = zone.to_owned();
    let history = state.ledger.run(move |store| store.history(&name, from, to)).await?;
    let mut values: Vec<f64> =
        history.slots.iter().filter(|slot| slot.judgement.is_known()).map(|slot| slot.value).collect();
    Ok(Some(ReportReply {
        record,
        policy,
        from: from.start(),
        to: to.start(),
        p95: weir_reachout::forecast::percentile(&mut values, 0.95),
        highest: history.slots.iter().map(|slot| slot.max).reduce(f64::max),
        days: days(&history),
    }))
}

fn days(history: &History) -> Vec<DayRecord> {
    let day = |slot: &weir_reachout::history::PastSlot| slot.index.start().date();
    history
        .slots
        .chunk_by(|a, b| day(a) == day(b))
        .map(|slots| {
            let known = slots.iter().filter(|slot| slot.judgement.is_known()).count();
            let over = slots.iter().filter(|slot| slot.judgement == Judgement::Over).count();
            DayRecord {
                day: day(&slots[0]).to_string(),
                mean: slots.iter().map(|slot| slot.value).sum::<f64>() / slots.len() as f64,
                max: slots.iter().map(|slot| slot.max).fold(0.0, f64::max),
                over_hours: over as f64 / 12.0,
                known: known as f64 / 288.0,
            }
        })
        .collect()
}
