//! What the policy knows of every zone, and what follows from a look, an act, a notice's end or time: a [`Turn`].
//!
//! A turn is a batch for the ledger and the effects that come after it. The mind itself has moved on by then: batches are
//! written in their order, and what is not written is tried again before anything else. A process that dies has what was
//! written, all of it, and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use time::OffsetDateTime;
use weir_config::{Bounds, Notify, Plan};
use weir_reachout::{
    abuse::Abuse,
    actor::{Person, Reason},
    case::{Case, CaseId, CaseState},
    command::{About, Command},
    contact::{Failure, NoticeKey},
    decision::{Decision, Event},
    detector::{Detector, Usage},
    fact::{Answer, Fact},
    limit::Lease,
    outbox::Subject,
    policy::{Policy, PolicyVersion},
    refusal::Refused,
    signal::Signals,
    slot::{Judgement, Slot, SlotIndex},
    surge::Surge,
    zone::{Act, Input, Step, Terms, Zone},
};

use super::{
    building::{Building, Closed},
    say,
    spending::{Fleet, Spending},
    watch::Watch,
};
use crate::ledger::{Batch, CHUNK, CaseRow, DetectorRow, GuidelineRow, Packed, Returned, Unheard, pack_row};

/// Every zone's detector is written once in so many slots, and when something but a slot has changed it.
pub const SPREAD: u32 = 12;

/// A zone as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    pub name: Arc<str>,
    pub plan: Arc<str>,
    pub guideline: u64,
    pub bounds: Bounds,
    pub terms: Terms,
}

impl Configured {
    pub fn new(name: &str, plan: &Plan) -> Self {
        Self {
            name: name.into(),
            plan: plan.name.as_str().into(),
            guideline: plan.guideline,
            bounds: plan.bounds,
            terms: Terms { automatic_notices: plan.notify == Notify::Automatic },
        }
    }
}

/// One zone.
#[derive(Clone, Debug)]
pub struct Known {
    pub is: Configured,
    /// The guideline that the running slot is judged by: the one at its start.
    pub guideline: u64,
    pub configured: bool,
    pub detector: Detector,
    pub surge: Surge,
    pub dialogue: Zone,
    /// Signs of abuse, and what follows from them.
    pub watch: Watch,
    /// Other resources, if its plan bounds some.
    pub spending: Option<Box<Spending>>,
    /// The last slot that was judged.
    pub last: Option<Slot>,
}

/// What happens once the batch is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Grant(Lease),
    EndLimit { zone: Arc<str>, case: CaseId },
    Tell { zone: Arc<str>, subject: Subject },
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    pub batch: Batch,
    pub effects: Vec<Effect>,
}

/// All zones.
pub struct Mind {
    pub(super) policy: Policy,
    /// The ledger knows that this policy judges.
    adopted: bool,
    pub zones: Vec<Known>,
    ids: HashMap<Arc<str>, u32>,
    pub building: Building,
    /// By which ways operators are told.
    pub ways: Vec<String>,
    /// Slots that were judged, and decisions, since the start.
    pub slots_total: u64,
    pub decisions_total: HashMap<Event, u64>,
    /// Zones with a verdict.
    pub(super) accused: BTreeSet<u32>,
    /// Of the watch on signs of abuse.
    pub(super) round: u32,
    /// Of rule R3.
    pub(super) fleet: Fleet,
}

impl Turn {
    pub fn is_empty(&self) -> bool {
        self.batch == Batch::default() && self.effects.is_empty()
    }
}

impl Mind {
    /// `adopted`: the ledger says that this policy judged last.
    pub fn new(policy: Policy, adopted: bool, building: Building) -> Self {
        Self {
            policy,
            adopted,
            zones: Vec::new(),
            ids: HashMap::new(),
            building,
            ways: Vec::new(),
            slots_total: 0,
            decisions_total: HashMap::new(),
            accused: BTreeSet::new(),
            round: 0,
            fleet: Fleet::default(),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Puts a zone back that the ledger knows, in the order of their numbers.
    pub fn put_back(&mut self, known: Known) {
        let id = self.zones.len() as u32;
        self.ids.insert(Arc::clone(&known.is.name), id);
        self.zones.push(known);
        self.note_accused(id);
    }

    pub fn id_of(&self, zone: &str) -> Option<u32> {
        self.ids.get(zone).copied()
    }

    pub fn zone(&self, name: &str) -> Option<&Known> {
        self.zones.get(self.id_of(name)? as usize)
    }

    /// The zone that has this case, open or its last.
    pub fn zone_of_case(&self, case: &str) -> Option<u32> {
        let has = |known: &Known| known.dialogue.case().is_some_and(|found| found.id().as_str() == case);
        self.zones.iter().position(has).map(|place| place as u32)
    }

    /// From now on these are the zones, this is the policy, and operators are told by these ways.
    pub fn configure(
        &mut self,
        now: OffsetDateTime,
        policy: Policy,
        ways: Vec<String>,
        zones: impl IntoIterator<Item = Configured>,
    ) -> Turn {
        let mut turn = Turn::default();
        self.ways = ways;
        if policy != self.policy {
            self.adopted = false;
            self.policy = policy;
            for (id, known) in (0..).zip(&mut self.zones) {
                known.detector.adopt(&self.policy);
                turn.batch.detectors.extend(detector_row(id, known));
            }
        }
        if !std::mem::replace(&mut self.adopted, true) {
            turn.batch.policy = Some(stored(&self.policy));
            turn.batch.adopted = Some(SlotIndex::containing(now));
        }
        self.zones.iter_mut().for_each(|known| known.configured = false);
        for zone in zones {
            self.configure_zone(now, zone, &mut turn);
        }
        turn
    }

    fn configure_zone(&mut self, now: OffsetDateTime, zone: Configured, turn: &mut Turn) {
        let slot = SlotIndex::containing(now);
        let Some(id) = self.id_of(&zone.name) else {
            let id = self.zones.len() as u32;
            turn.batch.zones.push((id, zone.name.to_string()));
            turn.batch.guidelines.push(guideline_row(id, slot, &zone));
            let dialogue = Zone::new(zone.name.to_string());
            let (detector, surge, guideline) = (Detector::default(), Surge::default(), zone.guideline);
            let spending = Spending::wanted(&zone.bounds, None);
            let watch = Watch::new(Signals::default(), Abuse::new(zone.name.to_string()));
            self.put_back(Known {
                is: zone,
                guideline,
                configured: true,
                detector,
                surge,
                dialogue,
                watch,
                spending,
                last: None,
            });
            return;
        };
        let known = &mut self.zones[id as usize];
        known.configured = true;
        let was = std::mem::replace(&mut known.is, zone);
        let mut freed = None;
        if was.bounds != known.is.bounds {
            let spent = known.spending.take().map(|spending| spending.spent);
            if spent.as_ref().is_some_and(|spent| spent.is_freed_by(&known.is.bounds)) {
                freed = Some(say::bounds(&was.bounds, &known.is.bounds).to_string());
            }
            known.spending = Spending::wanted(&known.is.bounds, spent);
            turn.batch.overuse.extend(known.spending.as_ref().and_then(|spending| spending.row(id)));
        }
        if (was.guideline, &was.plan) != (known.is.guideline, &known.is.plan) {
            // The running slot is judged by what was in force at its start.
            turn.batch.guidelines.push(guideline_row(id, slot.next(), &known.is));
        }
        if was.guideline != known.is.guideline {
            let input = Input::Guideline { was: was.guideline, is: known.is.guideline };
            let _refused = self.input(id, now, input, turn);
        }
        if let Some(evidence) = freed {
            let _refused = self.input(id, now, Input::Bounds { evidence }, turn);
        }
    }

    /// Takes a look: of each zone its number, live WebSockets and the highest count since the look before.
    pub fn look(&mut self, now: OffsetDateTime, counts: impl IntoIterator<Item = (u32, u64, u64)>) -> Turn {
        let mut turn = Turn::default();
        if let Some(closed) = self.building.look(now, counts) {
            self.judge(now, &closed, &mut turn);
        }
        turn
    }

    fn judge(&mut self, now: OffsetDateTime, closed: &Closed, turn: &mut Turn) {
        self.slots_total += 1;
        let mut rows = vec![Packed::default(); self.zones.len()];
        let seen = closed.zones.iter().zip(0_u32..).filter_map(|(slot, id)| Some(((*slot)?, id)));
        for (slot, id) in seen {
            // What belongs to an attack is in no budget, and nobody's success.
            let is_covered = self.is_covered(id, slot.index);
            let Some(known) = self.zones.get_mut(id as usize) else { continue };
            let judgement =
                if is_covered { Judgement::Unknown } else { slot.judge(&self.policy, known.guideline) };
            let packed = Packed::new(judgement, slot.value, slot.max);
            rows[id as usize] = packed;
            // What is recorded of a surge rests on what is kept of the slot, so that a replay says the same.
            let kept = packed.kept(slot.index);
            let surging = !is_covered && known.surge.observe(&self.policy, &kept, known.guideline);
            known.last = Some(slot);
            let decisions = known.detector.observe(&self.policy, slot.index, judgement);
            if !decisions.is_empty() {
                self.decided(id, now, decisions, turn);
            }
            if surging {
                let evidence = say::surge(&self.zones[id as usize], &self.policy, &kept).to_string();
                let _refused = self.input(id, slot.index.end(), Input::Surging { evidence }, turn);
            }
        }
        self.zones.iter_mut().for_each(|known| known.guideline = known.is.guideline);
        let chunks = rows.chunks(CHUNK as usize).map(pack_row).collect();
        turn.batch.slot = Some((closed.index, chunks));
        let turn_of = closed.index.number() % SPREAD;
        for (id, known) in (0_u32..).zip(&self.zones).filter(|(id, _)| id % SPREAD == turn_of) {
            turn.batch.detectors.extend(detector_row(id, known));
            turn.batch.signs.extend(known.watch.row(id));
            turn.batch.overuse.extend(known.spending.as_ref().and_then(|spending| spending.row(id)));
        }
        turn.batch.building = Some(self.building.encode());
    }

    /// The detector's words, and those that come of what follows from them.
    pub(super) fn decided(
        &mut self,
        id: u32,
        now: OffsetDateTime,
        decisions: Vec<Decision>,
        turn: &mut Turn,
    ) {
        for decision in decisions {
            *self.decisions_total.entry(decision.event).or_default() += 1;
            let known = &self.zones[id as usize];
            let evidence = say::evidence(&decision, known).to_string();
            let input = Input::Decided { decision, evidence };
            if let Err(refused) = self.input(id, now, input, turn) {
                tracing::error!(zone = %self.zones[id as usize].is.name, %refused, "a decision has no consequence");
            }
        }
    }

    /// What a person does with a case.
    pub fn act(
        &mut self,
        id: u32,
        now: OffsetDateTime,
        by: Person,
        reason: Reason,
        act: Act,
    ) -> Result<Turn, Refused> {
        let mut turn = Turn::default();
        self.input(id, now, Input::Act { by, reason, act }, &mut turn)?;
        let returned = turn.batch.drafts.iter().filter_map(|draft| match &draft.fact {
            Fact::NoticeFailed { notice, failure: Failure::Bounced } => {
                Some(Returned { key: notice.to_string(), why: draft.reason.to_string(), at: draft.at })
            }
            _ => None,
        });
        turn.batch.returned = returned.collect();
        Ok(turn)
    }

    /// The customer has answered by a link.
    pub fn answered(&mut self, now: OffsetDateTime, case: &CaseId, answer: Answer) -> Result<Turn, Refused> {
        let id = self.zone_of_case(case.as_str()).ok_or(Refused::NoCase)?;
        let mut turn = Turn::default();
        self.input(id, now, Input::Answered { case: case.clone(), answer }, &mut turn)?;
        Ok(turn)
    }

    /// A notice has an end.
    pub fn hear(&mut self, unheard: Vec<Unheard>) -> Turn {
        let mut turn = Turn::default();
        for end in unheard {
            let Subject::Notice(kind) = end.subject else { continue };
            let case = self.zone_of_case(&end.case);
            let id = case.and_then(|id| Some((id, self.zones[id as usize].dialogue.case()?.id().clone())));
            if let Some((id, case)) = id {
                let notice = NoticeKey { case, kind, number: end.number };
                let input = match end.failure {
                    None => Input::Delivered { notice },
                    Some(failure) => Input::NotDelivered { notice, failure },
                };
                let _refused = self.input(id, end.ended_at, input, &mut turn);
            }
            turn.batch.heard.push(end);
        }
        turn
    }

    /// Time has passed: reminders, escalations, limits that begin, leases that go on. At least once a minute.
    pub fn tick(&mut self, now: OffsetDateTime) -> Turn {
        let mut turn = Turn::default();
        let waits =
            |known: &Known| known.dialogue.open_case().is_some() || known.dialogue.exempt_until().is_some();
        let ids: Vec<u32> =
            (0..).zip(&self.zones).filter(|(_, known)| waits(known)).map(|(id, _)| id).collect();
        for id in ids {
            let _refused = self.input(id, now, Input::Tick, &mut turn);
        }
        turn
    }

    pub(super) fn input(
        &mut self,
        id: u32,
        now: OffsetDateTime,
        input: Input,
        turn: &mut Turn,
    ) -> Result<(), Refused> {
        let known = &mut self.zones[id as usize];
        let step = known.dialogue.decide(&self.policy, known.is.terms, now, input)?;
        let Step { entries, commands, next } = step;
        known.dialogue = next;
        if !entries.is_empty() {
            turn.batch.policy = Some(stored(&self.policy));
            turn.batch.cases.retain(|row| row.zone != *known.is.name || row.state == "closed");
            turn.batch.cases.extend(known.dialogue.case().map(|case| case_row(&known.is.name, case)));
        }
        turn.batch.drafts.extend(entries);
        for command in commands {
            self.command(id, now, command, turn);
        }
        Ok(())
    }

    pub(super) fn command(&mut self, id: u32, now: OffsetDateTime, command: Command, turn: &mut Turn) {
        let known = &mut self.zones[id as usize];
        let zone = Arc::clone(&known.is.name);
        let mut tell = |known: &Known, subject: Subject, key: String| {
            turn.batch.messages.extend(say::to_operators(
                known,
                &self.policy,
                &self.ways,
                subject,
                &key,
                now,
            ));
            turn.effects.push(Effect::Tell { zone: Arc::clone(&known.is.name), subject });
        };
        match command {
            Command::OpenCase { case, .. } => tell(known, Subject::CaseOpened, format!("{case}/opened")),
            Command::CloseCase { case, .. } => tell(known, Subject::CaseClosed, format!("{case}/closed")),
            Command::SendNotice { notice } => {
                turn.batch.messages.push(say::to_customer(known, &self.policy, &notice, now));
            }
            Command::DraftNotice { case, kind } => {
                let key = format!("{case}/draft/{}/{}", kind.label(), now.unix_timestamp());
                tell(known, Subject::Draft(kind), key);
            }
            Command::TellOperators { about, .. } => {
                let (subject, of) = subject(about);
                let key = format!("{of}/{}/{}", subject.label(), now.unix_timestamp());
                tell(known, subject, if of.is_empty() { format!("{zone}{key}") } else { key });
            }
            Command::GrantLease(lease) => turn.effects.push(Effect::Grant(lease)),
            Command::EndLimit { case } => turn.effects.push(Effect::EndLimit { zone, case }),
            // Refused prefixes are those of the verdicts that are.
            Command::EndVerdict { verdict } => {
                tracing::info!(%zone, verdict, "a verdict on suspicion of abuse ends");
            }
            Command::SettleUsage { until } => {
                known.detector.settle(until);
                turn.batch.detectors.extend(detector_row(id, known));
                if let Some(spending) = &mut known.spending {
                    spending.spent.settle(until);
                    turn.batch.overuse.extend(spending.row(id));
                }
            }
            Command::LeaveOut { from, to } => {
                let slots = (0..=to.since(from)).map(|n| from.forth(n));
                let decisions = known.detector.exclude(&self.policy, slots.clone());
                turn.batch.detectors.extend(detector_row(id, known));
                if let Some(spending) = &mut known.spending {
                    spending.spent.exclude(slots);
                    turn.batch.overuse.extend(spending.row(id));
                }
                self.decided(id, now, decisions, turn);
            }
        }
    }

    pub fn usage(&self, known: &Known) -> Usage {
        known.detector.usage(&self.policy)
    }
}

fn subject(about: About) -> (Subject, String) {
    match about {
        About::Closable { case } => (Subject::Closable, case.to_string()),
        About::Answered { case } => (Subject::Answered, case.to_string()),
        About::Escalated { case } => (Subject::Escalated, case.to_string()),
        About::NoticeFailed { notice } => (Subject::NoticeFailed, notice.to_string()),
        About::Surging => (Subject::Surging, String::new()),
        About::Suspected { verdict } => (Subject::Suspected, verdict),
        About::Mitigating { verdict } => (Subject::Mitigating, verdict),
        About::Unattended { verdict } => (Subject::Unattended, verdict),
    }
}

/// A policy as it is kept: its version and its parameters.
pub fn stored(policy: &Policy) -> (String, String) {
    // Plain numbers: nothing of them can fail to be written.
    (policy.version().to_string(), serde_json::to_string(policy.params()).unwrap_or_default())
}

/// The policies of these versions and parameters. One that cannot be read is unknown, and whatever rests on it.
pub fn policies(stored: &[(String, String)]) -> HashMap<PolicyVersion, Policy> {
    let read = |params: &String| Policy::new(serde_json::from_str(params).ok()?).ok();
    let known = stored.iter().filter_map(|(_, params)| read(params));
    known.map(|policy| (policy.version().clone(), policy)).collect()
}

/// Detector and surge as they are kept: JSON.
pub fn detector_row(id: u32, known: &Known) -> Option<DetectorRow> {
    let next = known.detector.next()?;
    let data = serde_json::to_vec(&(&known.detector, &known.surge)).ok()?;
    Some(DetectorRow { zone: id, next, data })
}

fn guideline_row(id: u32, slot: SlotIndex, zone: &Configured) -> GuidelineRow {
    GuidelineRow { zone: id, slot, guideline: zone.guideline, plan: zone.plan.to_string() }
}

fn case_row(zone: &str, case: &Case) -> CaseRow {
    let limit = match case.state() {
        CaseState::Limited(limit) => {
            Some((limit.cap(), limit.approval().by().to_string(), case.since().unix_timestamp()))
        }
        _ => None,
    };
    CaseRow {
        id: case.id().to_string(),
        zone: zone.to_owned(),
        state: case.state().label(),
        opened_at: case.opened_at().unix_timestamp(),
        limit,
    }
}
