//! What the ledger knows of one zone: its case, its month as a plot, and what a letter about it says.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use weir_config::Bounds;
use weir_notices::{
    letter::{About, Letterhead, Links, Offer, Resource},
    plot::{Level, Plot, PlotSlot, Totals},
};
use weir_reachout::{
    case::{Case, CaseId, CaseState, Closing},
    contact::NoticeKind,
    decision::Rule,
    fact::Fact,
    forecast::percentile,
    ledger::Entry,
    policy::{Policy, PolicyVersion},
    recommend::{self, ClientSigns, Offered, Resources},
    slot::{Judgement, SlotIndex},
    zone::Zone,
};

use crate::{
    ledger::{LedgerError, Store},
    reachout::Spent,
};

/// A zone's plan as the configuration has it now, and all plans.
#[derive(Clone, Debug)]
pub struct Plans {
    pub plan: String,
    pub guideline: u64,
    /// Name and guideline, of every plan.
    pub all: Vec<(String, u64)>,
    /// What they bound beside WebSockets.
    pub bounds: BTreeMap<String, Bounds>,
}

/// What a letter is asked to be.
pub struct Asked<'a> {
    pub kind: NoticeKind,
    /// 1 for a case's first notice.
    pub number: u8,
    pub sender_name: &'a str,
    pub links: Option<Links>,
    pub plans: &'a Plans,
    pub policy: &'a Policy,
    /// When it is sent.
    pub at: OffsetDateTime,
}

pub struct Dossier {
    /// Replayed from its entries.
    pub zone: Zone,
    pub plot: Plot,
    /// The 95th percentile of what its plan bounds beside WebSockets; infinite is what is not known.
    used: Resources,
    /// Cases on which a limit was in force.
    limited: Vec<CaseId>,
    /// What cases by R3 are about.
    resources: Vec<(CaseId, Resource)>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum DossierError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the ledger's entries of {zone} are not what can have been: {why}")]
    Replay { zone: String, why: String },
}

impl Dossier {
    /// As it was at `at`: the same moment gives the same plot, whenever it is asked for.
    pub fn read(
        store: &Store,
        name: &str,
        plans: &Plans,
        policy: &Policy,
        at: OffsetDateTime,
    ) -> Result<Self, DossierError> {
        let entries = store.entries_of(name)?;
        let policies = policies(store, policy)?;
        let known = |version: &PolicyVersion| policies.iter().find(|policy| policy.version() == version);
        let zone = Zone::replay(name, &entries, known);
        let zone =
            zone.map_err(|error| DossierError::Replay { zone: name.to_owned(), why: error.to_string() })?;
        let until = SlotIndex::containing(at);
        let from = until.back(policy.detection().window_days * SLOTS_PER_DAY);
        let history = store.history(name, from, until)?;
        let slots: Vec<PlotSlot> = history
            .slots
            .iter()
            .filter(|slot| slot.index >= from && slot.index < until)
            .map(|slot| PlotSlot {
                index: slot.index,
                mean: slot.value,
                max: slot.max,
                judgement: slot.judgement,
            })
            .collect();
        let mut guidelines: Vec<(SlotIndex, u64)> =
            history.guidelines.iter().map(|from| (from.slot, from.guideline)).collect();
        if guidelines.is_empty() {
            guidelines.push((from, plans.guideline));
        }
        let plan = history.guidelines.last().map_or(&plans.plan, |from| &from.plan).clone();
        let plot = Plot {
            zone: name.to_owned(),
            plan: plan.clone(),
            from,
            until,
            totals: totals(&slots, from, until),
            slots,
            guidelines,
            over_ratio: policy.detection().over_ratio,
            spikes: spikes(&entries, from, until),
            levels: levels(plans),
        };
        let spent = store.spent(name)?.and_then(|data| Spent::decode(&data));
        let bounds = plans.bounds.get(&plan).copied().unwrap_or_default();
        let used = spent.unwrap_or_default().p95(&bounds);
        let limited = entries.iter().filter_map(|entry| match entry.fact() {
            Ok(Fact::LimitBegan { case, .. }) => Some(case),
            _ => None,
        });
        let limited = limited.collect();
        Ok(Self { zone, plot, used, limited, resources: entries.iter().filter_map(resource).collect() })
    }

    /// The zone's case of this number, if it is its last one.
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.zone.case().filter(|case| case.id().as_str() == id)
    }

    /// What a letter or a page says about the case; none if that would not be so any more.
    pub fn about(&self, case: &Case, asked: Asked<'_>) -> Option<About> {
        let Asked { kind, number, sender_name, links, plans, policy, at } = asked;
        let limit = match case.state() {
            CaseState::LimitScheduled(terms) => Some((terms.cap, terms.from)),
            _ => None,
        };
        if kind == NoticeKind::LimitScheduled && limit.is_none() {
            return None;
        }
        let first_delivered = case.contact().ok().map(|contact| contact.at()).filter(|_| number > 1);
        let head = Letterhead {
            kind,
            number,
            sender_name: sender_name.to_owned(),
            case: case.id().to_string(),
            at,
            first_delivered: match kind {
                NoticeKind::First => None,
                // A reminder reminds of something; what it is dated by is the case's first contact.
                NoticeKind::Reminder | NoticeKind::LimitScheduled => {
                    Some(first_delivered.unwrap_or(case.opened_at()))
                }
                NoticeKind::EventExempted | NoticeKind::Resolved => first_delivered,
            },
            resource: self.resources.iter().find(|(of, _)| of == case.id()).map(|(_, is)| is.clone()),
            client: None,
            offer: self.offer(case.rule(), plans, policy),
            links,
            limit,
            was_limited: self.limited.contains(case.id()),
            exempt_until: self.zone.exempt_until(),
            new_plan: matches!(case.state(), CaseState::Closed { closing: Closing::Upgraded }),
        };
        Some(About::new(head, policy, &self.plot))
    }

    fn offer(&self, rule: Rule, plans: &Plans, policy: &Policy) -> Offer {
        let known = self.plot.slots.iter().filter(|slot| slot.judgement.is_known());
        let mut means: Vec<f64> = known.map(|slot| slot.mean).collect();
        let websockets = percentile(&mut means, 0.95).unwrap_or(f64::INFINITY);
        let p95 = Resources { websockets, ..self.used };
        let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64);
        let holds = |name: &str, guideline: u64| {
            let bounds = plans.bounds.get(name).copied().unwrap_or_default();
            Resources {
                websockets: guideline as f64,
                socket_memory_bytes: bound(bounds.socket_memory_bytes),
                bytes_per_second: bound(bounds.bytes_per_second),
                upgrades_per_second: bound(bounds.upgrades_per_second),
            }
        };
        let offer = |(name, guideline): &(String, u64)| recommend::Offer {
            name: name.clone(),
            holds: holds(name, *guideline),
        };
        let offers: Vec<_> = plans.all.iter().map(offer).collect();
        let signs = ClientSigns::default();
        match recommend::recommend(policy, rule, &p95, &signs, &self.plot.plan, &offers).offer {
            Offered::Exemption => Offer::Exemption,
            Offered::Plan(plan) => Offer::Plan { plan },
            Offered::Stay => Offer::Stay,
            Offered::Talk => Offer::Talk,
        }
    }
}

const SLOTS_PER_DAY: u32 = 288;

/// Every policy that an entry was made under, and the one in force.
fn policies(store: &Store, in_force: &Policy) -> Result<Vec<Policy>, LedgerError> {
    let kept = store.policies()?;
    // What cannot be read any more is a version that an entry names in vain: the replay says so.
    let read = |(_, params): &(String, String)| Policy::new(serde_json::from_str(params).ok()?).ok();
    Ok(kept.iter().filter_map(read).chain([in_force.clone()]).collect())
}

fn totals(slots: &[PlotSlot], from: SlotIndex, until: SlotIndex) -> Totals {
    let count = |judged: fn(Judgement) -> bool| slots.iter().filter(|slot| judged(slot.judgement)).count();
    let over = count(|judgement| judgement == Judgement::Over);
    let first = slots.first().map_or(from, |slot| slot.index);
    let span = f64::from(until.since(first).max(1));
    Totals { over_hours: over as f64 / 12.0, coverage: count(Judgement::is_known) as f64 / span }
}

/// What a case by R3 was opened for, of several the first: as the evidence of its opening says.
fn resource(entry: &Entry) -> Option<(CaseId, Resource)> {
    let Ok(Fact::CaseOpened { case, rule: Rule::R3 }) = entry.fact() else { return None };
    let evidence: serde_json::Value = serde_json::from_str(&entry.evidence).ok()?;
    let told = &evidence["resources"]["disproportionate"][0];
    let (name, bound) = (told["resource"].as_str()?, told["bound"].as_u64()?);
    Some((case, Resource::new(name, bound, told["over_hours"].as_f64()?, entry.at)))
}

/// Counted spikes that were proved in the span, by the slot that proved them.
fn spikes(entries: &[Entry], from: SlotIndex, until: SlotIndex) -> Vec<SlotIndex> {
    let counted = entries.iter().filter(|entry| matches!(entry.fact(), Ok(Fact::SpikeCounted)));
    let slots = counted.map(|entry| SlotIndex::containing(entry.at).back(1));
    slots.filter(|slot| *slot >= from && *slot < until).collect()
}

fn levels(plans: &Plans) -> Vec<Level> {
    plans.all.iter().map(|(plan, guideline)| Level { plan: plan.clone(), guideline: *guideline }).collect()
}
