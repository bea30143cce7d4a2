//! What is in force here and now: the ledger's leases by the kernel's clock, and written to the kernel.
//!
//! A lease's end is turned into the kernel's own clock (`CLOCK_BOOTTIME`) once, when it is given or read back: a step of the
//! wall clock afterwards neither ends it early nor makes it last. Whatever cannot be known because the ledger cannot be read is
//! left as the kernel has it, and ends there by itself.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use weir_common::zone::{ZoneKey, ZoneLeases};
use weir_reachout::{
    hand::{InForce, Standing, Subject},
    ledger::{Entry, FactError},
};

use crate::{kernel::ZoneMemory, zones::ZoneTable};

/// The two clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: OffsetDateTime,
    /// `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
}

impl Now {
    pub fn read() -> Self {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Self { wall: OffsetDateTime::now_utc(), boot_ns: u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX) }
    }

    fn boot_ns_of(&self, end: OffsetDateTime) -> u64 {
        let left = u64::try_from((end - self.wall).whole_nanoseconds()).unwrap_or(0);
        self.boot_ns.saturating_add(left)
    }
}

/// Leases that people gave.
#[derive(Default)]
pub struct Hand {
    /// `None` until the ledger has been read.
    in_force: Option<InForce>,
    ends_boot_ns: BTreeMap<Subject, u64>,
}

impl Hand {
    /// By all of the ledger.
    pub fn new(in_force: InForce, now: Now) -> Self {
        let ends =
            in_force.iter().map(|(subject, standing)| (subject.clone(), now.boot_ns_of(standing.until)));
        Self { ends_boot_ns: ends.collect(), in_force: Some(in_force) }
    }

    /// The ledger has been read, so that it is known what is in force.
    pub fn is_known(&self) -> bool {
        self.in_force.is_some()
    }

    /// Takes an entry that was just recorded into account.
    pub fn follow(&mut self, entry: &Entry, now: Now) -> Result<(), FactError> {
        let Some(in_force) = &mut self.in_force else { return Ok(()) };
        if let Some(subject) = in_force.follow(entry)? {
            match in_force.get(&subject) {
                Some(standing) => drop(self.ends_boot_ns.insert(subject, now.boot_ns_of(standing.until))),
                None => drop(self.ends_boot_ns.remove(&subject)),
            }
        }
        Ok(())
    }

    pub fn get(&self, subject: &Subject) -> Option<&Standing> {
        self.in_force.as_ref()?.get(subject)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Standing)> {
        self.in_force.iter().flat_map(InForce::iter)
    }

    /// Has the kernel hold what is in force, and nothing that is over. Limits are not a person's lease and stay as they are.
    pub fn enforce(&mut self, zones: &mut ZoneTable, memory: &ZoneMemory, now: Now) {
        self.expire(now);
        let wanted = self.wanted();
        let mut keys = zones.leased();
        keys.extend(wanted.keys().filter(|key| zones.leases(**key) == ZoneLeases::NONE));
        for key in keys {
            let has = zones.leases(key);
            let by_hand = if self.is_known() { wanted.get(&key).copied().unwrap_or_default() } else { has };
            let wants = ZoneLeases {
                limit_cap: has.limit_cap,
                limit_until_boot_ns: has.limit_until_boot_ns,
                ..by_hand
            };
            let wants = without_what_is_over(wants, now.boot_ns);
            if wants != has {
                zones.set_leases(key, wants, memory);
            }
        }
    }

    /// Denied prefixes with their ends (`CLOCK_BOOTTIME`); `None` until the ledger has been read.
    pub fn denied(&self) -> Option<BTreeMap<IpNet, u64>> {
        self.in_force.as_ref()?;
        let denied = self.ends_boot_ns.iter().filter_map(|(subject, end)| match subject {
            Subject::Deny { prefix } => Some((prefix.parse().ok()?, *end)),
            _ => None,
        });
        Some(denied.collect())
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Now) {
        let over = |subject: &Subject| self.ends_boot_ns.get(subject).is_none_or(|end| *end <= now.boot_ns);
        let over: Vec<Subject> = self.iter().map(|(subject, _)| subject.clone()).filter(over).collect();
        for subject in over {
            self.ends_boot_ns.remove(&subject);
            if let Some(in_force) = &mut self.in_force {
                in_force.remove(&subject);
            }
        }
    }

    fn wanted(&self) -> HashMap<ZoneKey, ZoneLeases> {
        let mut wanted: HashMap<ZoneKey, ZoneLeases> = HashMap::new();
        for (subject, standing) in self.iter() {
            let Some(end) = self.ends_boot_ns.get(subject).copied() else { continue };
            match subject {
                Subject::Deny { .. } => {}
                Subject::Block { zone } => {
                    wanted.entry(ZoneKey::of(zone)).or_default().block_until_boot_ns = end;
                }
                Subject::Cap { zone } => {
                    let leases = wanted.entry(ZoneKey::of(zone)).or_default();
                    leases.verdict_cap = standing.websockets.unwrap_or(u64::MAX);
                    leases.verdict_until_boot_ns = end;
                }
            }
        }
        wanted
    }
}

fn without_what_is_over(leases: ZoneLeases, boot_ns: u64) -> ZoneLeases {
    let cap = |cap, until| if until > boot_ns { (cap, until) } else { (0, 0) };
    let (verdict_cap, verdict_until_boot_ns) = cap(leases.verdict_cap, leases.verdict_until_boot_ns);
    let (limit_cap, limit_until_boot_ns) = cap(leases.limit_cap, leases.limit_until_boot_ns);
    let (_, block_until_boot_ns) = cap(0, leases.block_until_boot_ns);
    ZoneLeases { block_until_boot_ns, verdict_cap, verdict_until_boot_ns, limit_cap, limit_until_boot_ns }
}

#[cfg(test)]
mod tests {
    use weir_reachout::{
        actor::{Actor, Person, Reason},
        fact::Fact,
        hand::HandAct,
        ledger::{Draft, Head},
        policy::Policy,
    };

    use super::*;

    const WALL: OffsetDateTime = time::macros::datetime!(2026-03-01 00:00 UTC);

    fn now(seconds: u64) -> Now {
        Now { wall: WALL + Duration::from_secs(seconds), boot_ns: (1000 + seconds) * 1_000_000_000 }
    }

    fn given(acts: &[HandAct]) -> Hand {
        let mut hand = Hand::new(InForce::default(), now(0));
        let mut head = Head::default();
        for act in acts {
            let draft = Draft {
                at: WALL,
                zone: "z".to_owned(),
                actor: Actor::Person(Person::new("ann").unwrap()),
                reason: Reason::new("scanner").unwrap(),
                evidence: "{}".to_owned(),
                policy: Policy::default().version().clone(),
                fact: Fact::ByHand { act: act.clone() },
            };
            hand.follow(&head.append(draft).unwrap(), now(0)).unwrap();
        }
        hand
    }

    fn until(seconds: u64) -> OffsetDateTime {
        WALL + Duration::from_secs(seconds)
    }

    #[test]
    fn ends_are_the_kernels_and_a_step_of_the_wall_clock_moves_none() {
        let mut hand = given(&[
            HandAct::CapSet { websockets: 7, until: until(60) },
            HandAct::ZoneBlock { until: until(90) },
        ]);
        let leases = ZoneLeases {
            block_until_boot_ns: 1_090_000_000_000,
            verdict_cap: 7,
            verdict_until_boot_ns: 1_060_000_000_000,
            ..ZoneLeases::NONE
        };
        assert_eq!(hand.wanted(), HashMap::from([(ZoneKey::of("z"), leases)]));
        let stepped = Now { wall: until(999_999), boot_ns: now(59).boot_ns };
        hand.expire(stepped);
        assert_eq!(hand.iter().count(), 2);
        let stepped = Now { wall: until(0), boot_ns: now(60).boot_ns };
        hand.expire(stepped);
        assert_eq!(hand.iter().count(), 1);
    }

    #[test]
    fn what_was_cleared_is_wanted_no_more() {
        let hand = given(&[HandAct::CapSet { websockets: 7, until: until(60) }, HandAct::CapClear]);
        assert!(hand.wanted().is_empty() && hand.ends_boot_ns.is_empty());
    }

    #[test]
    fn a_lease_that_is_over_is_none() {
        let leases = ZoneLeases { verdict_cap: 7, verdict_until_boot_ns: 60, ..ZoneLeases::NONE };
        assert_eq!(without_what_is_over(leases, 59), leases);
        assert_eq!(without_what_is_over(leases, 60), ZoneLeases::NONE);
    }
}
