//! Prefixes that verdicts refuse, brought into the gate's list as leases: each entry ends by the kernel's clock when its verdict does,
//! whether an agent lives or not.
//!
//! An operator's own denial of the same prefix comes first and is not touched: the verdict's takes its place when that has ended, if
//! there still is one. What an earlier agent left there and no verdict wants is taken out by the first look.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    gate::{self, By, List, ListError},
    kernel::GateTables,
};

/// The gate's deny list, as far as verdicts change it.
pub trait RefusalList {
    type Error: std::fmt::Display;

    /// Who has put it there for a time, by prefix.
    fn temporary(&self) -> BTreeMap<IpNet, By>;

    fn refuse(&mut self, prefix: IpNet, time: Duration) -> Result<(), Self::Error>;

    fn forgive(&mut self, prefix: IpNet) -> Result<(), Self::Error>;
}

/// The kernel's own.
pub struct Gate<'a>(pub &'a mut GateTables);

impl RefusalList for Gate<'_> {
    type Error = ListError;

    fn temporary(&self) -> BTreeMap<IpNet, By> {
        gate::temporary(self.0, List::Deny)
    }

    fn refuse(&mut self, prefix: IpNet, time: Duration) -> Result<(), ListError> {
        gate::add(self.0, List::Deny, prefix, By::Verdict, Some(time))
    }

    fn forgive(&mut self, prefix: IpNet) -> Result<(), ListError> {
        gate::remove(self.0, List::Deny, prefix).map(drop)
    }
}

/// What this agent has put there.
#[derive(Default)]
pub struct Refusals {
    /// Each with its end (`CLOCK_BOOTTIME`); `None` before the first look.
    held: Option<BTreeMap<IpNet, u64>>,
    /// Those for which the list did not do what it should, and which were told.
    failing: BTreeSet<IpNet>,
}

impl Refusals {
    /// Makes the list what is wanted, as far as it can be. Ends are by `CLOCK_BOOTTIME`.
    pub fn enforce<L: RefusalList>(&mut self, list: &mut L, wanted: &BTreeMap<IpNet, u64>, boot_ns: u64) {
        if wanted.is_empty() && self.held.as_ref().is_some_and(BTreeMap::is_empty) {
            return;
        }
        let there = list.temporary();
        let is_ours = |prefix: &IpNet| there.get(prefix) == Some(&By::Verdict);
        // An end of 0 is nobody's: what is wanted of these gets its own.
        let held = self.held.get_or_insert_with(|| {
            there.iter().filter(|(_, by)| **by == By::Verdict).map(|(prefix, _)| (*prefix, 0)).collect()
        });
        let mut failing = BTreeSet::new();
        let mut tell = |prefix: IpNet, error: L::Error| {
            if !self.failing.contains(&prefix) {
                tracing::error!(%prefix, %error, "a verdict's refusal, or its end, is not in force; it is tried again every second");
            }
            failing.insert(prefix);
        };
        held.retain(|prefix, end| {
            if wanted.contains_key(prefix) {
                return is_ours(prefix) || *end > boot_ns;
            }
            let forgiven = if is_ours(prefix) { list.forgive(*prefix) } else { Ok(()) };
            forgiven.map_err(|error| tell(*prefix, error)).is_err()
        });
        for (prefix, end) in wanted {
            let by_operator = there.get(prefix) == Some(&By::Operator);
            if *end <= boot_ns || by_operator || (held.get(prefix) == Some(end) && is_ours(prefix)) {
                continue;
            }
            match list.refuse(*prefix, Duration::from_nanos(end - boot_ns)) {
                Ok(()) => drop(held.insert(*prefix, *end)),
                Err(error) => tell(*prefix, error),
            }
        }
        self.failing = failing;
    }

    /// Prefixes that are refused.
    pub fn len(&self) -> usize {
        self.held.as_ref().map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Fake {
        listed: BTreeMap<IpNet, (By, Duration)>,
        calls: usize,
        room: usize,
    }

    impl RefusalList for Fake {
        type Error = &'static str;

        fn temporary(&self) -> BTreeMap<IpNet, By> {
            self.listed.iter().map(|(prefix, (by, _))| (*prefix, *by)).collect()
        }

        fn refuse(&mut self, prefix: IpNet, time: Duration) -> Result<(), &'static str> {
            self.calls += 1;
            if self.listed.len() >= self.room && !self.listed.contains_key(&prefix) {
                return Err("full");
            }
            self.listed.insert(prefix, (By::Verdict, time));
            Ok(())
        }

        fn forgive(&mut self, prefix: IpNet) -> Result<(), &'static str> {
            self.calls += 1;
            self.listed.remove(&prefix);
            Ok(())
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn wanted(prefixes: &[(&str, u64)]) -> BTreeMap<IpNet, u64> {
        prefixes.iter().map(|(prefix, end)| (net(prefix), *end)).collect()
    }

    const A: &str = "203.0.113.0/24";
    const B: &str = "198.51.100.7/32";

    #[test]
    fn the_list_follows_the_verdicts_and_only_changes_reach_the_kernel() {
        let (mut list, mut refusals) = (Fake { room: 9, ..Fake::default() }, Refusals::default());
        refusals.enforce(&mut list, &wanted(&[(A, 50), (B, 60)]), 10);
        assert_eq!(list.listed[&net(A)], (By::Verdict, Duration::from_nanos(40)));
        let calls = list.calls;
        refusals.enforce(&mut list, &wanted(&[(A, 50), (B, 60)]), 20);
        assert_eq!(list.calls, calls, "nothing to do");
        refusals.enforce(&mut list, &wanted(&[(A, 90)]), 30);
        assert_eq!(list.listed, BTreeMap::from([(net(A), (By::Verdict, Duration::from_nanos(60)))]));
        refusals.enforce(&mut list, &wanted(&[]), 40);
        assert!(list.listed.is_empty() && refusals.len() == 0);
    }

    #[test]
    fn an_operators_denial_is_not_touched_and_a_verdict_takes_its_place_when_it_has_ended() {
        let (mut list, mut refusals) = (Fake { room: 9, ..Fake::default() }, Refusals::default());
        let theirs = (By::Operator, Duration::from_nanos(7));
        list.listed.insert(net(A), theirs);
        refusals.enforce(&mut list, &wanted(&[(A, 50)]), 10);
        assert_eq!(list.listed[&net(A)], theirs);
        list.listed.clear();
        refusals.enforce(&mut list, &wanted(&[(A, 50)]), 20);
        assert_eq!(list.listed[&net(A)], (By::Verdict, Duration::from_nanos(30)));
        // Theirs over ours: the end of the verdict does not end it.
        list.listed.insert(net(A), theirs);
        refusals.enforce(&mut list, &wanted(&[]), 30);
        assert_eq!(list.listed[&net(A)], theirs);
    }

    #[test]
    fn what_an_earlier_agent_left_ends_or_goes_on_by_its_verdict() {
        let mut list = Fake { room: 9, ..Fake::default() };
        for prefix in [A, B] {
            list.listed.insert(net(prefix), (By::Verdict, Duration::from_nanos(1)));
        }
        Refusals::default().enforce(&mut list, &wanted(&[(A, 50)]), 10);
        assert_eq!(list.listed, BTreeMap::from([(net(A), (By::Verdict, Duration::from_nanos(40)))]));
    }

    #[test]
    fn a_full_list_is_tried_again() {
        let (mut list, mut refusals) = (Fake { room: 1, ..Fake::default() }, Refusals::default());
        let both = wanted(&[(A, 50), (B, 60)]);
        refusals.enforce(&mut list, &both, 10);
        assert_eq!((list.listed.len(), refusals.failing.len()), (1, 1));
        list.room = 2;
        refusals.enforce(&mut list, &both, 12);
        assert_eq!((list.listed.len(), refusals.failing.len()), (2, 0));
    }

    #[test]
    fn what_has_ended_is_put_nowhere() {
        let (mut list, mut refusals) = (Fake { room: 9, ..Fake::default() }, Refusals::default());
        refusals.enforce(&mut list, &wanted(&[(A, 50)]), 50);
        assert!(list.listed.is_empty());
    }
}
