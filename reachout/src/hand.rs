//! The operator's hand: what a person did to a zone or a prefix beside the policy, and what of it is in force.
//!
//! An act is an entry of the ledger before it has any effect, and what is in force is a function of the ledger's entries
//! and the time alone ([`InForce`]): an agent that dies between entry and effect, and one that starts anew, come to the same.
//! Whatever stays in force is a lease with an end; repeating an act replaces what it said before. Nothing here cuts an
//! established WebSocket but [`HandAct::Kill`], which only a person can ask for and which leaves nothing in force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    actor::{Actor, Reason},
    fact::Fact,
    ledger::{Entry, FactError},
};

/// The longest lease that a person can give in one act. The policy's own end sooner.
pub const LONGEST: Duration = Duration::days(30);

/// One act. Its zone, if it has one, is the entry's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum HandAct {
    /// New connections from the prefix are dropped.
    DenyAdd {
        prefix: String,
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    DenyRemove {
        prefix: String,
    },
    /// New upgrades of the zone are refused while it has this many live WebSockets or more.
    CapSet {
        websockets: u64,
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    CapClear,
    /// Nothing new is attributed or admitted to the zone.
    ZoneBlock {
        #[serde(with = "time::serde::rfc3339")]
        until: OffsetDateTime,
    },
    ZoneUnblock,
    /// Established sockets of the zone, or from the prefix, are ended: so many were counted.
    Kill {
        source: Option<String>,
        sockets: u64,
    },
}

/// What a lease is on. There is one at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Deny { prefix: String },
    Cap { zone: String },
    Block { zone: String },
}

/// A lease that a person gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The ledger's entry.
    pub seq: u64,
    pub since: OffsetDateTime,
    pub until: OffsetDateTime,
    pub actor: Actor,
    pub reason: Reason,
    pub evidence: String,
    /// Of [`Subject::Cap`]: the live WebSockets from which on new ones are refused.
    pub websockets: Option<u64>,
}

/// An act that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlawful {
    #[error("it has to end after it begins")]
    Over,
    #[error("it may last at most {} days: repeat it in time if it has to last longer", LONGEST.whole_days())]
    TooLong,
}

impl HandAct {
    /// The act's lease has an end, and not one that is over or too far away.
    pub fn check(&self, at: OffsetDateTime) -> Result<(), Unlawful> {
        match self.until() {
            Some(until) if until <= at => Err(Unlawful::Over),
            Some(until) if until - at > LONGEST => Err(Unlawful::TooLong),
            _ => Ok(()),
        }
    }

    /// When the lease that it gives ends.
    pub fn until(&self) -> Option<OffsetDateTime> {
        match self {
            Self::DenyAdd { until, .. } | Self::CapSet { until, .. } | Self::ZoneBlock { until } => {
                Some(*until)
            }
            Self::DenyRemove { .. } | Self::CapClear | Self::ZoneUnblock | Self::Kill { .. } => None,
        }
    }

    /// What the act gives or ends a lease on.
    pub fn subject(&self, zone: &str) -> Option<Subject> {
        let zone = || zone.to_owned();
        match self {
            Self::DenyAdd { prefix, .. } | Self::DenyRemove { prefix } => {
                Some(Subject::Deny { prefix: prefix.clone() })
            }
            Self::CapSet { .. } | Self::CapClear => Some(Subject::Cap { zone: zone() }),
            Self::ZoneBlock { .. } | Self::ZoneUnblock => Some(Subject::Block { zone: zone() }),
            Self::Kill { .. } => None,
        }
    }

    fn websockets(&self) -> Option<u64> {
        match self {
            Self::CapSet { websockets, .. } => Some(*websockets),
            _ => None,
        }
    }
}

/// Every lease that a person gave and that is not over: the ledger's entries, followed in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce(BTreeMap<Subject, Standing>);

impl InForce {
    /// Takes the next entry of the ledger into account. Returns what it was about, if it was a person's act on a lease.
    pub fn follow(&mut self, entry: &Entry) -> Result<Option<Subject>, FactError> {
        let Fact::ByHand { act } = entry.fact()? else { return Ok(None) };
        let Some(subject) = act.subject(&entry.zone) else { return Ok(None) };
        match act.until().filter(|_| act.check(entry.at).is_ok()) {
            Some(until) => {
                let standing = Standing {
                    seq: entry.seq,
                    since: entry.at,
                    until,
                    actor: entry.actor.clone(),
                    reason: entry.reason.clone(),
                    evidence: entry.evidence.clone(),
                    websockets: act.websockets(),
                };
                self.0.insert(subject.clone(), standing);
            }
            None => drop(self.0.remove(&subject)),
        }
        Ok(Some(subject))
    }

    /// Drops what is over.
    pub fn expire(&mut self, now: OffsetDateTime) {
        self.0.retain(|_, standing| now < standing.until);
    }

    /// Drops one lease, which is over.
    pub fn remove(&mut self, subject: &Subject) {
        self.0.remove(subject);
    }

    pub fn get(&self, subject: &Subject) -> Option<&Standing> {
        self.0.get(subject)
    }

    /// By what it is on.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Standing)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actor::Person,
        ledger::{Draft, Head},
        policy::Policy,
    };

    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 00:00 UTC);

    fn hours(n: i64) -> OffsetDateTime {
        START + Duration::hours(n)
    }

    /// The ledger of these acts on the zone `z`, one an hour.
    fn ledger(acts: impl IntoIterator<Item = HandAct>) -> Vec<Entry> {
        let mut head = Head::default();
        let draft = |(hour, act)| Draft {
            at: hours(hour),
            zone: "z".to_owned(),
            actor: Actor::Person(Person::new("ann").unwrap()),
            reason: Reason::new("scanner").unwrap(),
            evidence: "{}".to_owned(),
            policy: Policy::default().version().clone(),
            fact: Fact::ByHand { act },
        };
        (0..).zip(acts).map(draft).map(|draft| head.append(draft).unwrap()).collect()
    }

    fn followed(entries: &[Entry]) -> InForce {
        let mut in_force = InForce::default();
        for entry in entries {
            in_force.follow(entry).unwrap();
        }
        in_force
    }

    fn cap(websockets: u64, until: i64) -> HandAct {
        HandAct::CapSet { websockets, until: hours(until) }
    }

    fn deny(until: i64) -> HandAct {
        HandAct::DenyAdd { prefix: "192.0.2.0/24".to_owned(), until: hours(until) }
    }

    #[test]
    fn the_last_word_on_a_subject_is_in_force() {
        let zone_cap = Subject::Cap { zone: "z".to_owned() };
        let in_force = followed(&ledger([cap(5, 9), deny(9), cap(3, 7)]));
        assert_eq!(in_force.iter().count(), 2);
        let standing = in_force.get(&zone_cap).unwrap();
        assert_eq!((standing.websockets, standing.until, standing.seq), (Some(3), hours(7), 3));
        let in_force = followed(&ledger([cap(5, 9), HandAct::ZoneUnblock, HandAct::CapClear]));
        assert_eq!(in_force, InForce::default());
        let in_force = followed(&ledger([HandAct::CapClear, cap(5, 9)]));
        assert!(in_force.get(&zone_cap).is_some());
    }

    #[test]
    fn a_lease_ends_at_its_end() {
        let mut in_force = followed(&ledger([cap(5, 2), deny(3)]));
        in_force.expire(hours(2));
        assert_eq!(in_force.iter().map(|(_, standing)| standing.seq).collect::<Vec<_>>(), [2]);
        in_force.expire(hours(3));
        assert_eq!(in_force, InForce::default());
    }

    #[test]
    fn a_kill_leaves_nothing_in_force() {
        assert_eq!(followed(&ledger([HandAct::Kill { source: None, sockets: 3 }])), InForce::default());
    }

    #[test]
    fn a_lease_that_is_over_or_endless_is_unlawful_and_is_not_followed() {
        assert_eq!(deny(0).check(START), Err(Unlawful::Over));
        assert_eq!(deny(31 * 24).check(START), Err(Unlawful::TooLong));
        assert_eq!(deny(30 * 24).check(START), Ok(()));
        assert_eq!(followed(&ledger([deny(0), cap(5, 9999)])), InForce::default());
    }

    #[test]
    fn acts_are_stored_in_words_that_stay() {
        let text = serde_json::to_string(&Fact::ByHand { act: cap(5, 1) }).unwrap();
        assert_eq!(
            text,
            r#"{"fact":"by_hand","act":{"act":"cap_set","websockets":5,"until":"2026-03-01T01:00:00Z"}}"#
        );
    }
}
