//! The allow and the deny list, for the configuration and for the operator's hand.
//!
//! A prefix can be in a list by the configuration, which a reload changes, and for a time by an operator or a verdict, which only
//! its end or a removal changes; both parts live in one entry of the kernel's table, so that they outlive the agent. Texts (who, and
//! why in words) are not the kernel's: they belong to the journal of whoever calls this.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::time::{ClockId, clock_gettime};
use weir_common::{
    gate::{BY_CONFIGURATION, BY_OPERATOR, BY_VERDICT, NEVER, PrefixEntry, PrefixKey},
    listener::{is_mapped, mapped, words},
};

use crate::kernel::{GateTables, KernelError, PrefixTable};

/// Bits before an IPv4 address in its IPv4-mapped form.
const MAPPED_BITS: u8 = 96;

/// One of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Sources that no rule is asked about.
    Allow,
    /// Sources whose SYNs are dropped.
    Deny,
}

impl List {
    fn of(self, tables: &mut GateTables) -> &mut PrefixTable {
        match self {
            Self::Allow => &mut tables.allow,
            Self::Deny => &mut tables.deny,
        }
    }
}

/// Who puts a prefix into a list beside the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Operator,
    /// A verdict on suspicion of abuse.
    Verdict,
}

/// A prefix that is in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub prefix: IpNet,
    /// The configuration names it.
    pub configured: bool,
    pub temporary: Option<Temporary>,
}

/// The part of an entry that an operator or a verdict has put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporary {
    pub by: By,
    /// `None`: until it is removed. To the second, as the clock may be set meanwhile.
    pub until: Option<SystemTime>,
}

/// Why a list was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("{0} has bits behind the end of its prefix: write {trunc}", trunc = .0.trunc())]
    Bits(IpNet),
    #[error(
        "{0} is an IPv6 prefix with IPv4 addresses in it: write these as IPv4, and 2000::/3 for all IPv6 of the internet"
    )]
    HoldsIpv4(IpNet),
    #[error("{0} is there by the configuration: take it out of [xdp] and reload")]
    Configured(IpNet),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Puts a prefix into a list, from now on, for a time or until it is removed; another end or another reason takes the place of an
/// earlier one.
pub fn add(
    tables: &mut GateTables,
    list: List,
    prefix: IpNet,
    by: By,
    time: Option<Duration>,
) -> Result<(), ListError> {
    let key = key(prefix)?;
    let table = list.of(tables);
    let until_boot_ns =
        time.map_or(NEVER, |time| boot_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(NEVER)));
    let entry = with(table.entries().get(&key), key, by, until_boot_ns);
    Ok(table.set(key, Some(entry))?)
}

/// The entry with this part in place of an earlier one of its kind; the configuration's part stays.
fn with(entry: Option<&PrefixEntry>, key: PrefixKey, by: By, until_boot_ns: u64) -> PrefixEntry {
    let configured = entry.map_or(0, |entry| entry.by & BY_CONFIGURATION);
    let by = match by {
        By::Operator => BY_OPERATOR,
        By::Verdict => BY_VERDICT,
    };
    PrefixEntry { until_boot_ns, prefix_len: key.prefix_len, by: configured | by }
}

/// Takes out what an operator or a verdict has put there. False if there was nothing.
pub fn remove(tables: &mut GateTables, list: List, prefix: IpNet) -> Result<bool, ListError> {
    let key = key(prefix)?;
    let table = list.of(tables);
    let Some(entry) = table.entries().get(&key).copied() else { return Ok(false) };
    if entry.by == BY_CONFIGURATION {
        return Err(ListError::Configured(prefix));
    }
    table.set(key, without(entry, BY_OPERATOR | BY_VERDICT))?;
    Ok(entry.has_end_after(boot_ns()))
}

/// What is in a list now, in the order of the prefixes.
pub fn listed(tables: &GateTables, list: List) -> Vec<Listed> {
    let table = match list {
        List::Allow => &tables.allow,
        List::Deny => &tables.deny,
    };
    view(table.entries(), boot_ns(), SystemTime::now())
}

/// Prefixes that are in a list for a time now, and who has put them there; the others, however many, cost a glance.
pub fn temporary(tables: &GateTables, list: List) -> BTreeMap<IpNet, By> {
    let table = match list {
        List::Allow => &tables.allow,
        List::Deny => &tables.deny,
    };
    let now = boot_ns();
    let temporary = table.entries().iter().filter(|(_, entry)| entry.has_end_after(now));
    temporary.map(|(key, entry)| (prefix(*key), by(entry))).collect()
}

fn by(entry: &PrefixEntry) -> By {
    if entry.by & BY_OPERATOR != 0 { By::Operator } else { By::Verdict }
}

/// What of these entries holds at a time, told by the time of day.
fn view(entries: &Entries, now: u64, wall: SystemTime) -> Vec<Listed> {
    let temporary = |entry: &PrefixEntry| Temporary {
        by: by(entry),
        until: (entry.until_boot_ns != NEVER).then(|| wall + Duration::from_nanos(entry.until_boot_ns - now)),
    };
    let mut listed: Vec<Listed> = entries
        .iter()
        .filter(|(_, entry)| entry.holds(now))
        .map(|(key, entry)| Listed {
            prefix: prefix(*key),
            configured: entry.by & BY_CONFIGURATION != 0,
            temporary: entry.has_end_after(now).then(|| temporary(entry)),
        })
        .collect();
    listed.sort_unstable_by_key(|listed| listed.prefix);
    listed
}

/// Checks that a configuration's lists fit into the tables beside what was put there for a time.
pub(crate) fn check_room(tables: &GateTables, allow: &[IpNet], deny: &[IpNet]) -> Result<(), KernelError> {
    for (table, wanted) in [(&tables.allow, allow), (&tables.deny, deny)] {
        let wanted = keys(wanted);
        let stays = |key: &PrefixKey, entry: &PrefixEntry| {
            entry.by & (BY_OPERATOR | BY_VERDICT) != 0 && !wanted.contains(key)
        };
        let staying = table.entries().iter().filter(|(key, entry)| stays(key, entry)).count();
        if wanted.len() + staying > table.entries().len() + table.room() {
            return Err(table.full());
        }
    }
    Ok(())
}

/// Makes the configuration's part of the lists that of `[xdp]`. On failure, which after [`check_room`] is the kernel's lack of
/// memory, what was done is undone.
pub(crate) fn configure(tables: &mut GateTables, allow: &[IpNet], deny: &[IpNet]) -> Result<(), KernelError> {
    let allowed = configure_one(&mut tables.allow, allow)?;
    if let Err(error) = configure_one(&mut tables.deny, deny) {
        restore(&mut tables.allow, allowed);
        return Err(error);
    }
    Ok(())
}

type Entries = BTreeMap<PrefixKey, PrefixEntry>;
/// Entries to be set; those that are to be taken out have none.
type Changes = Vec<(PrefixKey, Option<PrefixEntry>)>;

fn configure_one(table: &mut PrefixTable, wanted: &[IpNet]) -> Result<Changes, KernelError> {
    let changes = changes(table.entries(), &keys(wanted), table.room());
    let mut earlier = Vec::with_capacity(changes.len());
    for (key, entry) in changes {
        let before = table.entries().get(&key).copied();
        if let Err(error) = table.set(key, entry) {
            restore(table, earlier);
            return Err(error);
        }
        earlier.push((key, before));
    }
    Ok(earlier)
}

/// What has to be set, and what taken out, for the configuration's part to be this. Those that come are there before those that go
/// are gone, so that a prefix that is written as two has no instant outside of the list; only where the table has no room for both
/// do as many go first.
fn changes(entries: &Entries, wanted: &BTreeSet<PrefixKey>, room: usize) -> Changes {
    let (changed, mut gone): (Changes, Changes) = entries
        .iter()
        .filter(|(key, entry)| entry.by & BY_CONFIGURATION != 0 && !wanted.contains(key))
        .map(|(key, entry)| (*key, without(*entry, BY_CONFIGURATION)))
        .partition(|(_, rest)| rest.is_some());
    let come: Changes = wanted
        .iter()
        .filter_map(|key| {
            let none = PrefixEntry { until_boot_ns: 0, prefix_len: key.prefix_len, by: 0 };
            let entry = entries.get(key).copied().unwrap_or(none);
            let by = entry.by | BY_CONFIGURATION;
            (by != entry.by).then_some((*key, Some(PrefixEntry { by, ..entry })))
        })
        .collect();
    let new = come.iter().filter(|(key, _)| !entries.contains_key(key)).count();
    let last = gone.split_off(new.saturating_sub(room).min(gone.len()));
    gone.into_iter().chain(come).chain(changed).chain(last).collect()
}

fn restore(table: &mut PrefixTable, earlier: Changes) {
    for (key, entry) in earlier.into_iter().rev() {
        if let Err(error) = table.set(key, entry) {
            tracing::error!(prefix = %prefix(key), %error, "a list entry could not be put back: reload the configuration");
        }
    }
}

/// Takes out what has ended. The kernel does not need it: it makes room, and keeps the lists short.
pub(crate) fn sweep(tables: &mut GateTables) {
    let now = boot_ns();
    for table in [&mut tables.allow, &mut tables.deny] {
        for (key, rest) in ended(table.entries(), now) {
            if let Err(error) = table.set(key, rest) {
                tracing::warn!(prefix = %prefix(key), %error, "an entry that has ended could not be taken out");
            }
        }
    }
}

/// What is left of entries of which a part has ended.
fn ended(entries: &Entries, now: u64) -> Changes {
    entries
        .iter()
        .filter(|(_, entry)| entry.by & (BY_OPERATOR | BY_VERDICT) != 0 && !entry.has_end_after(now))
        .map(|(key, entry)| (*key, without(*entry, BY_OPERATOR | BY_VERDICT)))
        .collect()
}

/// What is left of an entry.
fn without(entry: PrefixEntry, part: u32) -> Option<PrefixEntry> {
    let by = entry.by & !part;
    (by != 0).then_some(PrefixEntry { by, ..entry })
}

fn keys(prefixes: &[IpNet]) -> BTreeSet<PrefixKey> {
    prefixes.iter().filter_map(|prefix| key(*prefix).ok()).collect()
}

fn key(prefix: IpNet) -> Result<PrefixKey, ListError> {
    if prefix.trunc() != prefix {
        return Err(ListError::Bits(prefix));
    }
    match prefix {
        IpNet::V4(v4) => Ok(PrefixKey {
            prefix_len: u32::from(MAPPED_BITS + v4.prefix_len()),
            address: mapped(u32::from_ne_bytes(v4.addr().octets())),
        }),
        IpNet::V6(v6) => {
            let address = words(v6.addr().octets());
            let holds_ipv4 = v6.contains(&std::net::Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
            if holds_ipv4 || is_mapped(&address) {
                return Err(ListError::HoldsIpv4(prefix));
            }
            Ok(PrefixKey { prefix_len: u32::from(v6.prefix_len()), address })
        }
    }
}

fn prefix(key: PrefixKey) -> IpNet {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(key.address) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let (v6, len) = (Ipv6Addr::from(octets), key.prefix_len.min(128) as u8);
    let net = match v6.to_ipv4_mapped() {
        Some(v4) => Ipv4Net::new(v4, len.saturating_sub(MAPPED_BITS)).map(IpNet::V4),
        None => Ipv6Net::new(v6, len).map(IpNet::V6),
    };
    net.unwrap_or(IpNet::from(IpAddr::V6(v6)))
}

/// The clock that ends are told by.
fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| Duration::from(now).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back_from_their_keys() {
        for text in ["203.0.113.0/24", "0.0.0.0/0", "198.51.100.7/32", "2001:db8::/32", "2000::/3", "::1/128"]
        {
            let net: IpNet = text.parse().unwrap();
            let key = key(net).unwrap();
            assert_eq!(prefix(key), net);
        }
        assert_eq!(key("203.0.113.0/24".parse().unwrap()).unwrap().prefix_len, 120);
    }

    fn net(text: &str) -> PrefixKey {
        key(text.parse().unwrap()).unwrap()
    }

    fn entry(text: &str, by: u32, until_boot_ns: u64) -> (PrefixKey, PrefixEntry) {
        (net(text), PrefixEntry { until_boot_ns, prefix_len: net(text).prefix_len, by })
    }

    #[test]
    fn a_reload_changes_the_configurations_part_alone() {
        let entries = Entries::from([
            entry("10.0.0.0/8", BY_CONFIGURATION, 0),
            entry("10.1.0.0/16", BY_CONFIGURATION | BY_OPERATOR, 9),
            entry("10.2.0.0/16", BY_OPERATOR, 9),
            entry("10.3.0.0/16", BY_VERDICT, 9),
            entry("10.4.0.0/16", BY_CONFIGURATION, 0),
        ]);
        let wanted = BTreeSet::from(["10.2.0.0/16", "10.4.0.0/16", "10.5.0.0/16"].map(net));
        let changed: BTreeMap<_, _> = changes(&entries, &wanted, 9).into_iter().collect();
        let some = |(key, entry)| (key, Some(entry));
        let expected = BTreeMap::from([
            (net("10.0.0.0/8"), None),
            some(entry("10.1.0.0/16", BY_OPERATOR, 9)),
            some(entry("10.2.0.0/16", BY_CONFIGURATION | BY_OPERATOR, 9)),
            some(entry("10.5.0.0/16", BY_CONFIGURATION, 0)),
        ]);
        assert_eq!(changed, expected);
    }

    #[test]
    fn what_comes_is_there_before_what_goes_is_gone() {
        let entries = Entries::from([
            entry("10.0.0.0/24", BY_CONFIGURATION, 0),
            entry("10.0.9.0/24", BY_CONFIGURATION, 0),
            entry("10.1.0.0/16", BY_CONFIGURATION | BY_OPERATOR, 9),
        ]);
        let wanted = BTreeSet::from(["10.0.0.0/25", "10.0.0.128/25"].map(net));
        let keys = |room| -> Vec<String> {
            changes(&entries, &wanted, room).into_iter().map(|(key, _)| prefix(key).to_string()).collect()
        };
        let halves = ["10.0.0.0/25", "10.0.0.128/25"];
        assert_eq!(keys(2), [halves[0], halves[1], "10.1.0.0/16", "10.0.0.0/24", "10.0.9.0/24"]);
        assert_eq!(
            keys(1),
            ["10.0.0.0/24", halves[0], halves[1], "10.1.0.0/16", "10.0.9.0/24"],
            "room for one"
        );
        assert_eq!(keys(0)[..2], ["10.0.0.0/24", "10.0.9.0/24"], "none");
    }

    #[test]
    fn an_operators_entry_stands_beside_the_configurations_and_ends_alone() {
        let second = 1_000_000_000;
        let key = net("10.0.0.0/8");
        let configured = entry("10.0.0.0/8", BY_CONFIGURATION, 0).1;
        let both = with(Some(&configured), key, By::Operator, 5 * second);
        assert_eq!(both.by, BY_CONFIGURATION | BY_OPERATOR);
        let verdict = with(Some(&both), key, By::Verdict, NEVER);
        assert_eq!((verdict.by, verdict.until_boot_ns), (BY_CONFIGURATION | BY_VERDICT, NEVER));
        assert_eq!(without(both, BY_OPERATOR | BY_VERDICT).map(|rest| rest.by), Some(BY_CONFIGURATION));

        let wall = SystemTime::UNIX_EPOCH;
        let until = |seconds| Some(wall + Duration::from_secs(seconds));
        let listed = view(&Entries::from([(key, both)]), 2 * second, wall);
        let temporary = Temporary { by: By::Operator, until: until(3) };
        let prefix = "10.0.0.0/8".parse().unwrap();
        assert_eq!(listed, [Listed { prefix, configured: true, temporary: Some(temporary) }]);
        let listed = view(&Entries::from([(key, both)]), 5 * second, wall);
        assert_eq!(listed, [Listed { prefix, configured: true, temporary: None }]);
        let alone = with(None, key, By::Operator, 5 * second);
        assert_eq!(view(&Entries::from([(key, alone)]), 5 * second, wall), [], "ended, and not swept yet");
    }

    #[test]
    fn what_has_ended_is_swept_and_the_configurations_part_is_not() {
        let entries = Entries::from([
            entry("10.0.0.0/8", BY_CONFIGURATION, 0),
            entry("10.1.0.0/16", BY_CONFIGURATION | BY_OPERATOR, 9),
            entry("10.2.0.0/16", BY_OPERATOR, 9),
            entry("10.3.0.0/16", BY_VERDICT, 10),
            entry("10.4.0.0/16", BY_OPERATOR, NEVER),
        ]);
        let configured = entry("10.1.0.0/16", BY_CONFIGURATION, 9);
        assert_eq!(ended(&entries, 9), [(configured.0, Some(configured.1)), (net("10.2.0.0/16"), None)]);
        assert_eq!(ended(&entries, 8), []);
    }

    #[test]
    fn a_prefix_means_what_it_says_or_is_refused() {
        let refused = |text: &str| key(text.parse().unwrap()).unwrap_err().to_string();
        assert!(refused("203.0.113.7/24").ends_with("write 203.0.113.0/24"));
        assert!(refused("::/0").contains("IPv4"));
        assert!(refused("::ffff:1.2.3.4/128").contains("IPv4"));
    }
}
