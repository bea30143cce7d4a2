//! The smallest shell around the core: a ledger and an outbox that commit together, and mails that leave afterwards.

use std::collections::BTreeMap;
use time::OffsetDateTime;
use weir_reachout::{
    actor::{Person, Reason},
    command::Command,
    contact::NoticeKey,
    ledger::{Entry, Head},
    policy::Policy,
    refusal::Refused,
    zone::{Act, Input, Step, Terms, Zone},
};

pub const ZONE: &str = "example.com";

/// What a database would hold. Its unique keys are the ledger's sequence and the outbox row.
#[derive(Clone, Default)]
pub struct Store {
    pub entries: Vec<Entry>,
    pub head: Head,
    /// Rows by key, and whether their mail has left.
    pub outbox: BTreeMap<NoticeKey, bool>,
    pub mails: Vec<NoticeKey>,
}

impl Store {
    /// Entries and outbox rows in one transaction; refused if somebody else has written since `seen`.
    pub fn commit(&mut self, seen: Head, step: &Step) -> bool {
        if self.head != seen {
            return false;
        }
        for draft in step.entries.clone() {
            self.entries.push(self.head.append(draft).expect("writable"));
        }
        for command in &step.commands {
            if let Command::SendNotice { notice } = command {
                assert!(!self.outbox.contains_key(notice), "the row {notice} is there already");
                self.outbox.insert(notice.clone(), false);
            }
        }
        true
    }

    /// What the outbox's worker does, after any crash too.
    pub fn send(&mut self) {
        for (key, sent) in &mut self.outbox {
            if !std::mem::replace(sent, true) {
                self.mails.push(key.clone());
            }
        }
    }

    pub fn zone(&self, policy: &Policy) -> Zone {
        let known = |version: &_| Some(policy).filter(|policy| policy.version() == version);
        Zone::replay(ZONE, &self.entries, known).expect("a ledger that can have happened")
    }
}

/// One evaluator on one store.
pub struct Shell {
    pub policy: Policy,
    pub terms: Terms,
    pub store: Store,
    pub zone: Zone,
    pub commands: Vec<Command>,
}

impl Shell {
    pub fn new(automatic_notices: bool) -> Self {
        let (policy, store) = (Policy::default(), Store::default());
        Self {
            policy,
            terms: Terms { automatic_notices },
            store,
            zone: Zone::new(ZONE),
            commands: Vec::new(),
        }
    }

    /// Decides, keeps, and goes on: the commands of this input.
    pub fn input(&mut self, now: OffsetDateTime, input: Input) -> Result<Vec<Command>, Refused> {
        let step = self.zone.decide(&self.policy, self.terms, now, input)?;
        let seen = self.store.head;
        assert!(self.store.commit(seen, &step));
        self.zone = step.next;
        self.commands.extend(step.commands.clone());
        self.store.send();
        Ok(step.commands)
    }

    pub fn act(&mut self, now: OffsetDateTime, act: Act) -> Result<Vec<Command>, Refused> {
        let (by, reason) = (Person::new("ann").expect("named"), Reason::new("as agreed").expect("given"));
        self.input(now, Input::Act { by, reason, act })
    }

    /// A tick each 5 minutes, both ends included.
    pub fn ticks(&mut self, from: OffsetDateTime, to: OffsetDateTime) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut now = from;
        while now <= to {
            commands.extend(self.input(now, Input::Tick).expect("a tick is never refused"));
            now += time::Duration::minutes(5);
        }
        commands
    }

    pub fn state(&self) -> &'static str {
        self.zone.case().map_or("none", |case| case.state().label())
    }
}
