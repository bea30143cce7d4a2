//! The zone table: which zone has which slot of the kernel's arrays, in step with the configuration.
//!
//! A configuration is applied whole or not at all. A zone that leaves it is *draining*: the kernel no longer finds it, its
//! live sockets go on being counted, and its slot is given away only when its counts are 0, no listener names it, and no program
//! can still hold it. The table survives the agent: it is read back from the pinned maps.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use weir_common::{
    listener::{Listener, ListenerKey},
    zone::{FLAG_LEASED, UNATTRIBUTED, UNCAPPED, ZoneKey, ZoneLeases, ZonePolicy},
};
use weir_config::Zone;

use crate::kernel::{KernelError, Tables, ZoneMemory, rcu_grace_period};

/// Why a configuration's zones cannot be applied. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ZoneTableError {
    #[error("zones `{first}` and `{second}` have the same 64-bit key: rename one of them")]
    Collision { first: String, second: String },
    #[error(
        "no room for {needed} more zones: the kernel's table has {capacity} places, {used} of them in use; \
         raise agent.max_zones, and remove the maps once with `weir agent --unload`"
    )]
    Full { needed: usize, used: usize, capacity: usize },
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A zone that has a slot.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Arc<str>,
    pub plan: Arc<str>,
    pub guideline: u64,
    pub abuse_cap: u64,
    pub slot: u32,
    /// Taken out of the configuration; its last sockets live on.
    pub draining: bool,
}

/// What an application of a configuration did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    /// Slots that were freed on the way; those who keep numbers by slot forget theirs.
    pub freed: Vec<u32>,
}

/// A zone that an application took out, to be put back if the application fails.
struct Removed {
    key: ZoneKey,
    policy: ZonePolicy,
    entry: Entry,
}

/// A listener that was dedicated to a zone that goes, and stands open to nobody in particular until it is said anew.
struct SetAside {
    address: ListenerKey,
    listener: Listener,
    zone: ZoneKey,
}

/// All zones that have a slot.
pub struct ZoneTable {
    /// By key, those that the kernel finds.
    live: HashMap<ZoneKey, Entry>,
    draining: BTreeMap<u32, (ZoneKey, Entry)>,
    free: Vec<u32>,
    /// Of zones that have some, whether they are configured or not: a zone that comes (back) comes with its leases.
    leases: HashMap<ZoneKey, ZoneLeases>,
}

/// Checks that no two zones share a key.
pub fn check_keys(zones: &[Arc<Zone>]) -> Result<(), ZoneTableError> {
    let mut seen: HashMap<ZoneKey, &str> = HashMap::with_capacity(zones.len());
    for zone in zones {
        if let Some(first) = seen.insert(key_of(zone), zone.name.as_str()) {
            return Err(ZoneTableError::Collision { first: first.to_owned(), second: zone.name.to_string() });
        }
    }
    Ok(())
}

fn key_of(zone: &Zone) -> ZoneKey {
    ZoneKey::of(zone.name.as_str())
}

impl ZoneTable {
    /// Reads the table of an earlier agent back; of a fresh instance, an empty one.
    ///
    /// The kernel does not know names: a zone is called by its key until a configuration names it.
    pub fn read(memory: &ZoneMemory, tables: &Tables) -> Result<Self, KernelError> {
        let live: HashMap<_, _> = tables
            .zone_slots()?
            .into_iter()
            .map(|(key, slot)| (key, nameless(memory, key, slot, false)))
            .collect();
        let mut used = vec![false; memory.slots() as usize];
        for entry in live.values() {
            used[entry.slot as usize] = true;
        }
        let mut draining = BTreeMap::new();
        let mut free = Vec::new();
        // The lowest slots are handed out first: they are popped from the end.
        for slot in (1..memory.slots()).rev().filter(|slot| !used[*slot as usize]) {
            match memory.policy(slot).key {
                0 => free.push(slot),
                key => {
                    let key = ZoneKey::from_raw(key);
                    draining.insert(slot, (key, nameless(memory, key, slot, true)));
                }
            }
        }
        let leased = |entry: &Entry| memory.policy(entry.slot).leases;
        let leases = live.iter().map(|(key, entry)| (*key, leased(entry)));
        let leases = leases.filter(|(_, leases)| *leases != ZoneLeases::NONE).collect();
        Ok(Self { live, draining, free, leases })
    }

    /// Every zone with a slot, draining ones too, by name.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut entries: Vec<_> =
            self.live.values().chain(self.draining.values().map(|(_, entry)| entry)).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name).then(a.slot.cmp(&b.slot)));
        entries
    }

    /// Slots that are in use, slot 0 included.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        std::iter::once(weir_common::zone::UNATTRIBUTED)
            .chain(self.live.values().map(|entry| entry.slot))
            .chain(self.draining.keys().copied())
    }

    /// The zone of a key, draining or not.
    pub fn by_key(&self, key: ZoneKey) -> Option<&Entry> {
        self.live
            .get(&key)
            .or_else(|| self.draining.values().find(|(other, _)| *other == key).map(|(_, entry)| entry))
    }

    /// The configured zone of this name.
    pub fn by_name(&self, name: &str) -> Option<&Entry> {
        self.live.get(&ZoneKey::of(name)).filter(|entry| &*entry.name == name)
    }

    /// The zone of this name, draining or not.
    pub fn any_by_name(&self, name: &str) -> Option<&Entry> {
        let mut draining = self.draining.values().map(|(_, entry)| entry);
        self.by_name(name).or_else(|| draining.find(|entry| &*entry.name == name))
    }

    /// Configured zones that have leases, whether these are over or not.
    pub fn entries_with_leases(&self) -> impl Iterator<Item = (&Entry, &ZoneLeases)> {
        self.leases.iter().filter_map(|(key, leases)| Some((self.live.get(key)?, leases)))
    }

    /// The leases that a zone has, or that it will have when it comes into the configuration.
    pub fn leases(&self, key: ZoneKey) -> ZoneLeases {
        self.leases.get(&key).copied().unwrap_or_default()
    }

    /// Keys of all zones that have leases.
    pub fn leased(&self) -> Vec<ZoneKey> {
        self.leases.keys().copied().collect()
    }

    /// From now on a zone has these leases.
    pub fn set_leases(&mut self, key: ZoneKey, leases: ZoneLeases, memory: &ZoneMemory) {
        if leases == ZoneLeases::NONE {
            self.leases.remove(&key);
        } else {
            self.leases.insert(key, leases);
        }
        if let Some(entry) = self.live.get(&key) {
            let policy = with_leases(memory.policy(entry.slot), leases);
            memory.set_policy(entry.slot, &policy);
        }
    }

    /// Number of configured zones.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Number of zones that left the configuration and still have sockets.
    pub fn draining_len(&self) -> usize {
        self.draining.len()
    }

    /// Makes the kernel's table that of the given zones, or changes nothing.
    pub fn apply(
        &mut self,
        zones: &[Arc<Zone>],
        memory: &ZoneMemory,
        tables: &mut Tables,
    ) -> Result<Changes, ZoneTableError> {
        check_keys(zones)?;
        let wanted: HashMap<ZoneKey, &Arc<Zone>> = zones.iter().map(|zone| (key_of(zone), zone)).collect();
        let missing: Vec<ZoneKey> =
            wanted.keys().filter(|key| !self.live.contains_key(key)).copied().collect();
        let gone: Vec<ZoneKey> = self.live.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let mut changes = Changes { added: missing.len(), removed: gone.len(), ..Changes::default() };

        // Removed first, so that their slots can serve the new ones where they are empty.
        let removed = self.remove(&gone, memory, tables)?;
        let mut aside = Vec::new();
        let added = self.make_room(&missing, memory, tables, &mut aside, &mut changes.freed);
        let added = added.and_then(|()| self.add(&missing, &wanted, memory, tables));
        if let Err(error) = added {
            self.restore(removed, memory, tables);
            self.put_back(aside, tables);
            return Err(error);
        }

        // From here on nothing can fail.
        for (key, zone) in &wanted {
            let policy = policy_of(zone, *key, self.leases(*key));
            let Some(entry) = self.live.get_mut(key) else { continue };
            if memory.policy(entry.slot) != policy {
                memory.set_policy(entry.slot, &policy);
                changes.changed += 1;
            }
            *entry = entry_of(zone, entry.slot);
        }
        Ok(changes)
    }

    /// Lets the kernel no longer find these zones; they drain. All of them, or none.
    fn remove(
        &mut self,
        gone: &[ZoneKey],
        memory: &ZoneMemory,
        tables: &mut Tables,
    ) -> Result<Vec<Removed>, ZoneTableError> {
        let mut removed = Vec::with_capacity(gone.len());
        for key in gone {
            if let Err(error) = tables.remove_zone(*key) {
                self.restore(removed, memory, tables);
                return Err(error.into());
            }
            if let Some(mut entry) = self.live.remove(key) {
                entry.draining = true;
                removed.push(Removed { key: *key, policy: memory.policy(entry.slot), entry: entry.clone() });
                self.draining.insert(entry.slot, (*key, entry));
            }
        }
        Ok(removed)
    }

    /// Takes `remove` back. A zone whose slot was freed meanwhile had no sockets: it gets a slot like a new one.
    fn restore(&mut self, removed: Vec<Removed>, memory: &ZoneMemory, tables: &mut Tables) {
        for Removed { key, policy, mut entry } in removed {
            let kept = self.draining.remove(&entry.slot).is_some();
            let slot = if kept { Some(entry.slot) } else { self.free.pop() };
            let restored = slot.is_some_and(|slot| {
                memory.set_policy(slot, &policy);
                entry.slot = slot;
                tables.insert_zone(key, slot).is_ok()
            });
            if restored {
                entry.draining = false;
                self.live.insert(key, entry);
            } else {
                tracing::error!(zone = %entry.name, "the zone could not be put back into the kernel's table: restart the agent");
                self.draining.insert(entry.slot, (key, entry));
            }
        }
    }

    /// Sees to it that there is a slot for each of these zones that has none to come back to.
    fn make_room(
        &mut self,
        missing: &[ZoneKey],
        memory: &ZoneMemory,
        tables: &mut Tables,
        aside: &mut Vec<SetAside>,
        freed: &mut Vec<u32>,
    ) -> Result<(), ZoneTableError> {
        let old: HashSet<ZoneKey> = self.draining.values().map(|(key, _)| *key).collect();
        let needed = missing.iter().filter(|key| !old.contains(key)).count();
        let empty = self.draining.keys().filter(|slot| is_empty(memory, **slot)).count();
        if needed > self.free.len() + empty {
            let capacity = memory.slots() as usize - 1;
            return Err(ZoneTableError::Full { needed, used: capacity - self.free.len() - empty, capacity });
        }
        if needed > self.free.len() {
            freed.extend(self.reap(memory, tables));
        }
        if needed > self.free.len() && self.set_aside(tables, aside)? {
            freed.extend(self.reap(memory, tables));
        }
        if needed > self.free.len() {
            let capacity = memory.slots() as usize - 1;
            return Err(ZoneTableError::Full { needed, used: capacity - self.free.len(), capacity });
        }
        Ok(())
    }

    /// Lets the kernel find these zones: in their old slot if they are still draining, else in a free one.
    fn add(
        &mut self,
        missing: &[ZoneKey],
        wanted: &HashMap<ZoneKey, &Arc<Zone>>,
        memory: &ZoneMemory,
        tables: &mut Tables,
    ) -> Result<(), ZoneTableError> {
        let old: HashMap<ZoneKey, u32> = self.draining.iter().map(|(slot, (key, _))| (*key, *slot)).collect();
        for (done, key) in missing.iter().enumerate() {
            let reused = old.get(key).copied();
            let Some(slot) = reused.or_else(|| self.free.pop()) else { continue };
            if reused.is_none() {
                memory.clear_usage(slot);
            }
            // The policy stands before the kernel can find the zone.
            memory.set_policy(slot, &policy_of(wanted[key], *key, self.leases(*key)));
            if let Err(error) = tables.insert_zone(*key, slot) {
                memory.set_policy(slot, &ZonePolicy::EMPTY);
                self.free.push(slot);
                // What was added has no sockets yet, or drains as before.
                self.remove(&missing[..done], memory, tables)?;
                return Err(error.into());
            }
            self.draining.remove(&slot);
            self.live.insert(*key, entry_of(wanted[key], slot));
        }
        Ok(())
    }

    /// Takes the slots of zones that drain out of the listeners that name them, so that they can be freed. Sockets that are born
    /// there until the listeners are said anew are unattributed. False if there were none.
    fn set_aside(&self, tables: &mut Tables, aside: &mut Vec<SetAside>) -> Result<bool, KernelError> {
        for (address, listener) in tables.listeners()? {
            let Some((zone, _)) = self.draining.get(&listener.slot) else { continue };
            tables.set_listener(address, Listener { slot: UNATTRIBUTED, ..listener })?;
            aside.push(SetAside { address, listener, zone: *zone });
        }
        Ok(!aside.is_empty())
    }

    /// Takes `set_aside` back, after `restore`.
    fn put_back(&self, aside: Vec<SetAside>, tables: &mut Tables) {
        for SetAside { address, listener, zone } in aside {
            let Some(Entry { slot, .. }) = self.live.get(&zone) else { continue };
            if let Err(error) = tables.set_listener(address, Listener { slot: *slot, ..listener }) {
                tracing::error!(%error, "a listener could not be put back to its zone: restart the agent");
            }
        }
    }

    /// Frees the slots of drained zones. Returns the freed slots. Waits for an RCU grace period if there are any.
    ///
    /// A slot that a listener names stays, as sockets can be born into it at any time.
    pub fn reap(&mut self, memory: &ZoneMemory, tables: &Tables) -> Vec<u32> {
        let mut candidates: Vec<u32> =
            self.draining.keys().copied().filter(|slot| is_empty(memory, *slot)).collect();
        if candidates.is_empty() {
            return Vec::new();
        }
        // Before the grace period: a program that found a listener when it named the slot has ended after it.
        match tables.listeners() {
            Ok(listeners) => {
                let named: HashSet<u32> = listeners.into_iter().map(|(_, listener)| listener.slot).collect();
                candidates.retain(|slot| !named.contains(slot));
            }
            Err(error) => {
                tracing::warn!(%error, "the listeners cannot be read: slots of removed zones are not reused");
                return Vec::new();
            }
        }
        if candidates.is_empty() {
            return Vec::new();
        }
        // A program that found the zone before it was removed may still be about to count, or about to add the bytes of the
        // last socket.
        if let Err(error) = rcu_grace_period() {
            tracing::warn!(%error, "no RCU grace period on this host: slots of removed zones are not reused");
            return Vec::new();
        }
        let drained: Vec<u32> = candidates.into_iter().filter(|slot| is_empty(memory, *slot)).collect();
        for slot in &drained {
            self.draining.remove(slot);
            // In this order: an agent that dies in between leaves a draining zone without counts, not a free slot with some.
            memory.clear_usage(*slot);
            memory.set_policy(*slot, &ZonePolicy::EMPTY);
            self.free.push(*slot);
        }
        drained
    }
}

fn is_empty(memory: &ZoneMemory, slot: u32) -> bool {
    let usage = memory.usage(slot);
    usage.sockets == 0 && usage.websockets == 0 && usage.unconnected == 0
}

fn entry_of(zone: &Zone, slot: u32) -> Entry {
    Entry {
        name: zone.name.as_str().into(),
        plan: zone.plan.name.as_str().into(),
        guideline: zone.plan.guideline,
        abuse_cap: zone.plan.abuse_cap,
        slot,
        draining: false,
    }
}

fn nameless(memory: &ZoneMemory, key: ZoneKey, slot: u32, draining: bool) -> Entry {
    let policy = memory.policy(slot);
    Entry {
        name: format!("unnamed-{:016x}", key.to_raw()).into(),
        plan: "unknown".into(),
        guideline: policy.guideline,
        abuse_cap: policy.abuse_cap,
        slot,
        draining,
    }
}

fn policy_of(zone: &Zone, key: ZoneKey, leases: ZoneLeases) -> ZonePolicy {
    let policy = ZonePolicy {
        key: key.to_raw(),
        guideline: zone.plan.guideline,
        abuse_cap: zone.plan.abuse_cap,
        socket_cap: zone.plan.socket_cap.unwrap_or(UNCAPPED),
        source_cap: zone.plan.source_cap.unwrap_or(UNCAPPED),
        ..ZonePolicy::EMPTY
    };
    with_leases(policy, leases)
}

/// The kernel looks at a zone's leases only if the flag says so.
fn with_leases(policy: ZonePolicy, leases: ZoneLeases) -> ZonePolicy {
    let leased = if leases == ZoneLeases::NONE { 0 } else { FLAG_LEASED };
    ZonePolicy { flags: policy.flags & !FLAG_LEASED | leased, leases, ..policy }
}
