//! Denied prefixes: what the ledger says, brought into the gate's list.
//!
//! The list is the kernel's, and outlives the agent; the first look takes out of it what an operator put there and the ledger does
//! not know (any more). A prefix that finds no room is told, and tried again every second until it has ended: so record and kernel
//! come to agree whatever failed on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    gate::{self, By, List, ListError},
    kernel::GateTables,
};

/// The gate's deny list, as far as an operator changes it.
pub trait DenyList {
    type Error: std::error::Error;

    /// Denied from now on, for this time; another end takes the place of an earlier one.
    fn deny(&mut self, prefix: IpNet, time: Duration) -> Result<(), Self::Error>;

    /// Denied no more by an operator.
    fn allow(&mut self, prefix: IpNet) -> Result<(), Self::Error>;

    /// What operators have put there and has not ended.
    fn by_operators(&self) -> Vec<IpNet>;
}

/// The kernel's own.
pub struct Gate<'a>(pub &'a mut GateTables);

impl DenyList for Gate<'_> {
    type Error = ListError;

    fn deny(&mut self, prefix: IpNet, time: Duration) -> Result<(), ListError> {
        gate::add(self.0, List::Deny, prefix, By::Operator, Some(time))
    }

    fn allow(&mut self, prefix: IpNet) -> Result<(), ListError> {
        match gate::remove(self.0, List::Deny, prefix) {
            // The operator's part has ended; the configuration's is not an operator's to take out.
            Ok(_) | Err(ListError::Configured(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn by_operators(&self) -> Vec<IpNet> {
        let mine = |listed: &gate::Listed| listed.temporary.is_some_and(|part| part.by == By::Operator);
        gate::listed(self.0, List::Deny).into_iter().filter(mine).map(|listed| listed.prefix).collect()
    }
}

/// What this agent has put there.
#[derive(Default)]
pub struct Denials {
    /// Each with its end (`CLOCK_BOOTTIME`); `None` before the first look.
    held: Option<BTreeMap<IpNet, u64>>,
    /// Those for which the list has not done what it should, and which were told.
    failing: BTreeSet<IpNet>,
}

/// A prefix whose denial, or its end, is not in force yet.
#[derive(Debug)]
pub struct Undone<E> {
    pub prefix: IpNet,
    pub error: E,
    /// It was not so the last time.
    pub is_news: bool,
}

impl Denials {
    /// Makes the list what is wanted, as far as it can be. Returns what could not.
    pub fn enforce<L: DenyList>(
        &mut self,
        list: &mut L,
        wanted: &BTreeMap<IpNet, u64>,
        boot_ns: u64,
    ) -> Vec<Undone<L::Error>> {
        let mut undone = Vec::new();
        // An end of 0 is nobody's: what is wanted of these gets its own.
        let held = self
            .held
            .get_or_insert_with(|| list.by_operators().into_iter().map(|prefix| (prefix, 0)).collect());
        let gone: Vec<IpNet> = held.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in gone {
            match list.allow(prefix) {
                Ok(()) => drop(held.remove(&prefix)),
                Err(error) => undone.push((prefix, error)),
            }
        }
        for (prefix, end) in wanted {
            if held.get(prefix) == Some(end) || *end <= boot_ns {
                continue;
            }
            match list.deny(*prefix, Duration::from_nanos(end - boot_ns)) {
                Ok(()) => drop(held.insert(*prefix, *end)),
                Err(error) => undone.push((*prefix, error)),
            }
        }
        let failing = undone.iter().map(|(prefix, _)| *prefix).collect();
        let before = std::mem::replace(&mut self.failing, failing);
        let told = |(prefix, error)| Undone { prefix, error, is_news: !before.contains(&prefix) };
        undone.into_iter().map(told).collect()
    }
}

/// Logs what is news of it.
pub fn tell(undone: &[Undone<ListError>]) {
    for Undone { prefix, error, .. } in undone.iter().filter(|undone| undone.is_news) {
        tracing::error!(%prefix, %error, "a denial, or its end, is not in force; it is tried again every second");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("full")]
    struct Full;

    #[derive(Default)]
    struct Fake {
        denied: BTreeMap<IpNet, Duration>,
        calls: usize,
        room: usize,
    }

    impl DenyList for Fake {
        type Error = Full;

        fn deny(&mut self, prefix: IpNet, time: Duration) -> Result<(), Full> {
            self.calls += 1;
            if self.denied.len() >= self.room && !self.denied.contains_key(&prefix) {
                return Err(Full);
            }
            self.denied.insert(prefix, time);
            Ok(())
        }

        fn allow(&mut self, prefix: IpNet) -> Result<(), Full> {
            self.calls += 1;
            self.denied.remove(&prefix);
            Ok(())
        }

        fn by_operators(&self) -> Vec<IpNet> {
            self.denied.keys().copied().collect()
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn wanted(prefixes: &[(&str, u64)]) -> BTreeMap<IpNet, u64> {
        prefixes.iter().map(|(prefix, end)| (net(prefix), *end)).collect()
    }

    #[test]
    fn the_list_follows_what_is_wanted_and_only_changes_reach_the_kernel() {
        let mut list = Fake { room: 9, ..Fake::default() };
        let mut denials = Denials::default();
        let both = wanted(&[("192.0.2.0/24", 50), ("198.51.100.7/32", 60)]);
        assert!(denials.enforce(&mut list, &both, 10).is_empty());
        assert_eq!(list.denied[&net("192.0.2.0/24")], Duration::from_nanos(40));
        let calls = list.calls;
        assert!(denials.enforce(&mut list, &both, 20).is_empty());
        assert_eq!(list.calls, calls, "nothing to do");
        assert!(denials.enforce(&mut list, &wanted(&[("192.0.2.0/24", 90)]), 20).is_empty());
        assert_eq!(list.denied, BTreeMap::from([(net("192.0.2.0/24"), Duration::from_nanos(70))]));
    }

    #[test]
    fn the_first_look_takes_out_what_the_ledger_does_not_know() {
        let mut list = Fake { room: 9, ..Fake::default() };
        list.denied.insert(net("203.0.113.0/24"), Duration::from_nanos(1));
        list.denied.insert(net("192.0.2.0/24"), Duration::from_nanos(1));
        assert!(Denials::default().enforce(&mut list, &wanted(&[("192.0.2.0/24", 50)]), 10).is_empty());
        assert_eq!(list.denied, BTreeMap::from([(net("192.0.2.0/24"), Duration::from_nanos(40))]));
    }

    #[test]
    fn a_full_list_is_told_once_and_tried_again() {
        let mut list = Fake { room: 1, ..Fake::default() };
        let mut denials = Denials::default();
        let both = wanted(&[("192.0.2.0/24", 50), ("198.51.100.7/32", 60)]);
        let told = |undone: Vec<Undone<Full>>| -> Vec<(IpNet, bool)> {
            undone.into_iter().map(|undone| (undone.prefix, undone.is_news)).collect()
        };
        let second = net("198.51.100.7/32");
        assert_eq!(told(denials.enforce(&mut list, &both, 10)), [(second, true)]);
        assert_eq!(told(denials.enforce(&mut list, &both, 11)), [(second, false)]);
        list.room = 2;
        assert_eq!(told(denials.enforce(&mut list, &both, 12)), []);
        assert_eq!(list.denied[&second], Duration::from_nanos(48), "for the time that is left");
        list.room = 0;
        assert_eq!(told(denials.enforce(&mut list, &wanted(&[]), 13)), [], "to end one needs no room");
        assert!(list.denied.is_empty());
    }
}
