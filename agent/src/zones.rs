//! The zone table: which zone has which slot of the kernel's arrays, in step with the configuration.
//!
//! A configuration is applied whole or not at all. A zone that leaves it is *draining*: the kernel no longer finds it, its
//! live sockets go on being counted, and its slot is given away only when its counts are 0 and no program can still
//! hold the slot. The table survives the agent: it is read back from the pinned maps.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use weir_common::zone::{UNCAPPED, ZoneKey, ZonePolicy};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
}

/// All zones that have a slot.
pub struct ZoneTable {
    /// By key, those that the kernel finds.
    live: HashMap<ZoneKey, Entry>,
    draining: BTreeMap<u32, (ZoneKey, Entry)>,
    free: Vec<u32>,
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
        Ok(Self { live, draining, free })
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
        let new: Vec<(ZoneKey, u32)> = self.assign(&wanted, memory)?;
        let gone: Vec<(ZoneKey, u32)> = self
            .live
            .iter()
            .filter(|(key, _)| !wanted.contains_key(key))
            .map(|(key, entry)| (*key, entry.slot))
            .collect();
        write_tables(&wanted, &new, &gone, memory, tables)?;

        // From here on nothing can fail.
        let mut changes = Changes { added: new.len(), changed: 0, removed: gone.len() };
        for (key, slot) in gone {
            if let Some(mut entry) = self.live.remove(&key) {
                entry.draining = true;
                self.draining.insert(slot, (key, entry));
            }
        }
        let taken: HashSet<u32> = new.iter().map(|(_, slot)| *slot).collect();
        self.free.retain(|slot| !taken.contains(slot));
        for (key, slot) in new {
            self.draining.remove(&slot);
            self.live.insert(key, entry_of(wanted[&key], slot));
        }
        for (key, zone) in &wanted {
            let Some(entry) = self.live.get_mut(key) else { continue };
            let policy = policy_of(zone, *key);
            if memory.policy(entry.slot) != policy {
                memory.set_policy(entry.slot, &policy);
                changes.changed += 1;
            }
            *entry = entry_of(zone, entry.slot);
        }
        Ok(changes)
    }

    /// A slot for every zone that has none: its old one if it is still draining, else a free one.
    fn assign(
        &mut self,
        wanted: &HashMap<ZoneKey, &Arc<Zone>>,
        memory: &ZoneMemory,
    ) -> Result<Vec<(ZoneKey, u32)>, ZoneTableError> {
        let old: HashMap<ZoneKey, u32> = self.draining.iter().map(|(slot, (key, _))| (*key, *slot)).collect();
        let missing: Vec<ZoneKey> =
            wanted.keys().filter(|key| !self.live.contains_key(key)).copied().collect();
        let needed = missing.iter().filter(|key| !old.contains_key(key)).count();
        if needed > self.free.len() {
            self.reap(memory);
        }
        if needed > self.free.len() {
            let capacity = memory.slots() as usize - 1;
            return Err(ZoneTableError::Full { needed, used: capacity - self.free.len(), capacity });
        }
        let mut free = self.free.iter().rev().copied();
        Ok(missing
            .into_iter()
            .filter_map(|key| {
                let slot = old.get(&key).copied().or_else(|| free.next())?;
                Some((key, slot))
            })
            .collect())
    }

    /// Frees the slots of drained zones. Returns the freed slots.
    pub fn reap(&mut self, memory: &ZoneMemory) -> Vec<u32> {
        let empty = |slot: &u32| {
            let usage = memory.usage(*slot);
            usage.sockets == 0 && usage.websockets == 0 && usage.unconnected == 0
        };
        if !self.draining.keys().any(empty) {
            return Vec::new();
        }
        // A program that found the zone before it was removed may still be about to count.
        if let Err(error) = rcu_grace_period() {
            tracing::warn!(%error, "no RCU grace period on this host: slots of removed zones are not reused");
            return Vec::new();
        }
        let slots: Vec<u32> = self.draining.keys().copied().filter(empty).collect();
        for slot in &slots {
            self.draining.remove(slot);
            memory.set_policy(*slot, &ZonePolicy::EMPTY);
            memory.clear_usage(*slot);
            self.free.push(*slot);
        }
        slots
    }
}

/// The part of an application that can fail; undone if it does.
fn write_tables(
    wanted: &HashMap<ZoneKey, &Arc<Zone>>,
    new: &[(ZoneKey, u32)],
    gone: &[(ZoneKey, u32)],
    memory: &ZoneMemory,
    tables: &mut Tables,
) -> Result<(), KernelError> {
    let mut inserted = Vec::new();
    let mut removed = Vec::new();
    let mut write = || {
        for (key, slot) in new {
            // The policy stands before the kernel can find the zone.
            memory.set_policy(*slot, &policy_of(wanted[key], *key));
            tables.insert_zone(*key, *slot)?;
            inserted.push((*key, *slot));
        }
        for (key, slot) in gone {
            tables.remove_zone(*key)?;
            removed.push((*key, *slot));
        }
        Ok(())
    };
    let result = write();
    if result.is_err() {
        let undone = inserted.iter().map(|(key, _)| tables.remove_zone(*key)).filter(Result::is_err).count();
        let failed =
            removed.iter().map(|(key, slot)| tables.insert_zone(*key, *slot)).filter(Result::is_err).count();
        if undone + failed > 0 {
            tracing::error!(
                undone,
                failed,
                "the kernel's zone table could not be taken back: restart the agent"
            );
        }
    }
    result
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

fn policy_of(zone: &Zone, key: ZoneKey) -> ZonePolicy {
    ZonePolicy {
        key: key.to_raw(),
        guideline: zone.plan.guideline,
        abuse_cap: zone.plan.abuse_cap,
        socket_cap: zone.plan.socket_cap.unwrap_or(UNCAPPED),
        flags: 0,
        reserved: [0; 3],
    }
}
