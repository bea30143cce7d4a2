//! The ledger's inputs once more: what the stored slots, guidelines and policies, and what people, customers and mail servers did, would
//! be decided as today. Every minute is walked, as an agent that never rests would.
//!
//! What comes from elsewhere is in the ledger as entries of its own: a person's act, an answer, a delivery, a larger plan, a verdict. Each
//! is put in again where it stands; what the policy made of it has to follow. So is every decision by R3: the readings of bytes, memory and
//! upgrades that it was made from are not kept. The only thing else that no ledger has is the plans' word on who sends notices ([`Terms`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use time::{Duration, OffsetDateTime};
use weir_config::Bounds;
use weir_reachout::{
    abuse::Abuse,
    actor::{Actor, Person, Reason},
    case::Closing,
    contact::Failure,
    decision::{Decision, Rule},
    detector::Detector,
    fact::Fact,
    history::History,
    ledger::{Draft, Entry},
    policy::Policy,
    refusal::Refused,
    signal::Signals,
    slot::SlotIndex,
    surge::Surge,
    zone::{Act, Input, Resolution, Terms, Zone},
};

use super::{
    mind::{Configured, Known, Mind, Turn, policies},
    say,
    watch::Watch,
};
use crate::ledger::{LedgerError, Packed, Store};

/// Every entry that these inputs lead to, in the order in which they come about.
pub fn replay(store: &Store, terms: impl Fn(&str) -> Terms) -> Result<Vec<Draft>, LedgerError> {
    let memory = store.memory()?;
    let known = policies(&store.policies()?);
    let mut adopted: VecDeque<(SlotIndex, Policy)> = memory
        .adopted
        .iter()
        .filter_map(|(slot, version)| {
            Some((*slot, known.values().find(|policy| policy.version().as_str() == version)?.clone()))
        })
        .collect();
    let Some((_, policy)) = adopted.pop_front() else { return Ok(Vec::new()) };
    let mut entries = VecDeque::new();
    store.each(|entry| {
        entries.push_back(entry);
        Ok(())
    })?;
    let mut again = Again { mind: Mind::of(policy), pasts: Vec::new(), drafts: Vec::new() };
    for id in 0..memory.zones.len() as u32 {
        let name = memory.zones.get(&id).cloned().unwrap_or_default();
        let past = store.history(&name, SlotIndex::EPOCH, SlotIndex::of_number(u32::MAX))?;
        again.add(&name, terms(&name), past);
    }
    let slots: BTreeSet<SlotIndex> =
        again.pasts.iter().flat_map(|past| past.slots.iter().map(|slot| slot.index)).collect();
    let (Some(first), Some(last)) = (slots.first().copied(), slots.last().copied()) else {
        return Ok(Vec::new());
    };
    let end = entries.back().map_or(last.end(), |entry: &Entry| entry.at.max(last.end()));
    let mut minute = first.start();
    while minute <= end {
        minute += Duration::MINUTE;
        let slot = SlotIndex::containing(minute).back(1);
        if minute == slot.end() {
            again.slot(slot);
        }
        let turn = again.mind.tick(minute);
        again.take(turn);
        // From the slot under way on another policy judges.
        while adopted.front().is_some_and(|(from, _)| *from <= SlotIndex::containing(minute)) {
            adopted.pop_front().into_iter().for_each(|(_, policy)| again.mind.adopt(policy));
        }
        again.others(&mut entries, minute + Duration::MINUTE);
    }
    Ok(again.drafts)
}

struct Again {
    mind: Mind,
    /// By the zones' numbers.
    pasts: Vec<History>,
    drafts: Vec<Draft>,
}

impl Again {
    fn add(&mut self, name: &str, terms: Terms, past: History) {
        let first = past.guidelines.first();
        let guideline = first.map_or(0, |from| from.guideline);
        let plan = first.map(|from| from.plan.clone()).unwrap_or_default();
        self.mind.put_back(Known {
            is: Configured {
                name: name.into(),
                plan: plan.into(),
                guideline,
                bounds: Bounds::default(),
                terms,
            },
            guideline,
            configured: true,
            detector: Detector::default(),
            surge: Surge::default(),
            dialogue: Zone::new(name),
            watch: Watch::new(Signals::default(), Abuse::new(name)),
            spending: None,
            last: None,
        });
        self.pasts.push(past);
    }

    fn take(&mut self, turn: Turn) {
        self.drafts.extend(turn.batch.drafts);
    }

    /// The judgements as they are stored, zone by zone.
    fn slot(&mut self, slot: SlotIndex) {
        for id in 0..self.pasts.len() as u32 {
            let past = &self.pasts[id as usize];
            let known = &mut self.mind.zones[id as usize];
            if let Some(from) = past.guidelines.iter().rev().find(|from| from.slot <= slot) {
                (known.guideline, known.is.guideline) = (from.guideline, from.guideline);
                known.is.plan = from.plan.as_str().into();
            }
            let Ok(at) = past.slots.binary_search_by(|found| found.index.cmp(&slot)) else { continue };
            let found = past.slots[at];
            let turn = self.mind.judged(id, slot, Packed::new(found.judgement, found.value, found.max));
            self.take(turn);
        }
    }

    /// What others did before `until`, and what followed from each at once.
    fn others(&mut self, entries: &mut VecDeque<Entry>, until: OffsetDateTime) {
        while let Some(entry) = entries.front().filter(|entry| entry.at < until) {
            let id = self.mind.id_of(&entry.zone);
            let fact = entry.fact().expect("a fact");
            let input = input(&entry.actor, &entry.reason, &fact, &entry.evidence);
            let (Some(id), Some(input)) = (id, input) else {
                // The policy's own: they are what is to be made.
                entries.pop_front();
                continue;
            };
            let turn = self.mind.input_at(id, entry.at, input).expect("it was possible then");
            let made = turn.batch.drafts.len().max(1);
            self.take(turn);
            entries.drain(..made.min(entries.len()));
        }
    }
}

/// The input that an entry is the first word of; none of what the policy says by itself.
fn input(actor: &Actor, reason: &Reason, fact: &Fact, evidence: &str) -> Option<Input> {
    let act = |by: &Person, act| Some(Input::Act { by: by.clone(), reason: reason.clone(), act });
    match (actor, fact.clone()) {
        (Actor::Delivery, Fact::NoticeDelivered { notice }) => Some(Input::Delivered { notice }),
        (Actor::Delivery, Fact::NoticeFailed { notice, failure }) => {
            Some(Input::NotDelivered { notice, failure })
        }
        (Actor::Customer, Fact::Answered { case, answer }) => Some(Input::Answered { case, answer }),
        (Actor::Policy, Fact::CaseClosed { closing: Closing::Upgraded, .. }) => {
            let said: BTreeMap<String, u64> = serde_json::from_str(evidence).unwrap_or_default();
            Some(match (said.get("was"), said.get("is")) {
                (Some(was), Some(is)) => Input::Guideline { was: *was, is: *is },
                _ => Input::Bounds { evidence: evidence.to_owned() },
            })
        }
        (
            Actor::Policy,
            Fact::CaseOpened { .. }
            | Fact::Spared { .. }
            | Fact::Closable { .. }
            | Fact::CaseClosed { closing: Closing::SelfResolved, .. },
        ) => {
            let decision: Decision = serde_json::from_str(evidence).ok()?;
            let is_r3 = decision.rule == Some(Rule::R3);
            is_r3.then(|| Input::Decided { decision, evidence: evidence.to_owned() })
        }
        (Actor::Person(by), fact) => match fact {
            Fact::NoticeQueued { .. } => act(by, Act::Contact),
            Fact::NoticeFailed { notice, failure: Failure::Bounced } => {
                act(by, Act::Bounce { number: Some(notice.number) })
            }
            Fact::Answered { answer, .. } => act(by, Act::Reply { answer }),
            Fact::Noted { .. } => act(by, Act::Note),
            Fact::Exempted { until } => act(by, Act::Exempt { until }),
            Fact::ExemptionEnded => act(by, Act::EndExemption),
            Fact::CaseClosed { closing, .. } => {
                let how = match closing {
                    Closing::Upgraded => Resolution::Upgraded,
                    Closing::FalseAlarm => Resolution::FalseAlarm,
                    _ => Resolution::Resolved,
                };
                act(by, Act::Resolve { how })
            }
            Fact::LimitScheduled { cap, from, .. } => act(by, Act::ScheduleLimit { cap, from }),
            Fact::LimitApproved { .. } => act(by, Act::Approve),
            Fact::LimitLifted { .. } => act(by, Act::Lift),
            _ => None,
        },
        _ => None,
    }
}

/// What a mind does with what was judged before it.
impl Mind {
    fn of(policy: Policy) -> Self {
        Self::new(policy, true, super::building::Building::new())
    }

    fn adopt(&mut self, policy: Policy) {
        let (ways, zones) =
            (self.ways.clone(), self.zones.iter().map(|known| known.is.clone()).collect::<Vec<_>>());
        let _detectors = self.configure(OffsetDateTime::UNIX_EPOCH, policy, ways, zones);
    }

    fn judged(&mut self, id: u32, slot: SlotIndex, packed: Packed) -> Turn {
        let mut turn = Turn::default();
        let policy = self.policy().clone();
        let known = &mut self.zones[id as usize];
        let kept = packed.kept(slot);
        // What a verdict covers is unknown, and so is nothing that is far above.
        let is_known = packed.judgement().is_known();
        let surging = is_known && known.surge.observe(&policy, &kept, known.guideline);
        let decisions = known.detector.observe(&policy, slot, packed.judgement());
        self.decided(id, slot.end(), decisions, &mut turn);
        if surging {
            let evidence = say::surge(&self.zones[id as usize], &policy, &kept).to_string();
            self.input(id, slot.end(), Input::Surging { evidence }, &mut turn).expect("it may be told");
        }
        turn
    }

    fn input_at(&mut self, id: u32, now: OffsetDateTime, input: Input) -> Result<Turn, Refused> {
        let mut turn = Turn::default();
        self.input(id, now, input, &mut turn)?;
        Ok(turn)
    }
}
