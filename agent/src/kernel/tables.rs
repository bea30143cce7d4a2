//! The hash maps that the agent fills: zone slots, listeners, uids; and the ports that listeners are at, see
//! `common::listener::PORT_WORDS`.

use std::{
    collections::{HashMap as StdHashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::SeqCst,
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use weir_common::{
    listener::{Address, Listener, ListenerKey, PORT_WORDS, form, mapped, port_place, words},
    names,
    zone::ZoneKey,
};

use super::{KernelError, memory::Records};

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodListenerKey(ListenerKey);
#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodListener(Listener);
// SAFETY: `repr(C)` of plain numbers without padding (`common/tests/layout.rs`).
unsafe impl Pod for PodListenerKey {}
// SAFETY: as above.
unsafe impl Pod for PodListener {}

/// How full a table is.
#[derive(Clone, Copy, Debug)]
pub struct MapFill {
    pub map: &'static str,
    pub entries: u64,
    pub capacity: u64,
}

/// The tables, with the number of their entries kept beside them: only the agent changes them.
pub struct Tables {
    slots: HashMap<MapData, u64, u32>,
    slots_len: usize,
    listeners: HashMap<MapData, PodListenerKey, PodListener>,
    listeners_len: usize,
    ports: Records,
    uids: HashMap<MapData, u32, u32>,
    uids_len: usize,
    marks: HashMap<MapData, u32, u64>,
    capacities: [u32; 3],
}

impl Tables {
    pub(super) fn new(object: &mut Ebpf) -> Result<Self, KernelError> {
        let slots = take(object, names::MAP_ZONE_SLOTS)?;
        let listeners = take(object, names::MAP_LISTENERS)?;
        let ports = Records::of(object, names::MAP_PORTS, size_of::<u64>())?;
        let uids = take(object, names::MAP_UIDS)?;
        let marks = take(object, names::MAP_MARKS)?;
        let marks = HashMap::try_from(marks.0).map_err(KernelError::map(names::MAP_MARKS))?;
        let capacities = [slots.1, listeners.1, uids.1];
        let slots: HashMap<_, u64, u32> =
            HashMap::try_from(slots.0).map_err(KernelError::map(names::MAP_ZONE_SLOTS))?;
        let listeners = HashMap::try_from(listeners.0).map_err(KernelError::map(names::MAP_LISTENERS))?;
        let uids = HashMap::try_from(uids.0).map_err(KernelError::map(names::MAP_UIDS))?;
        let slots_len = slots.keys().filter_map(Result::ok).count();
        let (listeners_len, uids_len) = (0, 0);
        let tables =
            Self { slots, slots_len, listeners, listeners_len, ports, uids, uids_len, marks, capacities };
        // An agent that died may have left forms that nobody listens on.
        let present = tables.listeners()?;
        tables.set_ports(present.iter().map(|(key, _)| key));
        Ok(tables)
    }

    /// Every zone key that the kernel knows, with its slot.
    pub fn zone_slots(&self) -> Result<StdHashMap<ZoneKey, u32>, KernelError> {
        self.slots
            .iter()
            .map(|entry| entry.map(|(key, slot)| (ZoneKey::from_raw(key), slot)))
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(names::MAP_ZONE_SLOTS))
    }

    /// From now on the kernel finds the zone.
    pub fn insert_zone(&mut self, key: ZoneKey, slot: u32) -> Result<(), KernelError> {
        self.slots.insert(key.to_raw(), slot, 0).map_err(KernelError::map(names::MAP_ZONE_SLOTS))?;
        self.slots_len += 1;
        Ok(())
    }

    /// From now on the kernel does not find the zone; a program that found it before may still be running.
    pub fn remove_zone(&mut self, key: ZoneKey) -> Result<(), KernelError> {
        match self.slots.remove(&key.to_raw()) {
            Ok(()) => self.slots_len = self.slots_len.saturating_sub(1),
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(KernelError::map(names::MAP_ZONE_SLOTS)(error)),
        }
        Ok(())
    }

    /// Checks that users and listeners fit into their tables.
    pub fn check_room(&self, uids: &HashSet<u32>, listeners: usize) -> Result<(), KernelError> {
        let tables = [(names::MAP_LISTENERS, listeners, 1), (names::MAP_UIDS, uids.len(), 2)];
        for (name, len, table) in tables {
            let capacity = self.capacities[table];
            if len > capacity as usize {
                return Err(KernelError::TableFull { name, capacity });
            }
        }
        Ok(())
    }

    /// The kernel follows the sockets accepted on these addresses, and on no others.
    ///
    /// What comes is there before what goes is gone: an address that is written in another form (`127.0.0.1`, then `0.0.0.0`) has no
    /// instant in which its sockets are born uncounted. Only where the table has no room for both does something go first.
    pub fn set_listeners(&mut self, listeners: &[(SocketAddr, Listener)]) -> Result<(), KernelError> {
        let wanted: StdHashMap<ListenerKey, Listener> =
            listeners.iter().map(|(address, listener)| (listener_key(address), *listener)).collect();
        let present: HashSet<ListenerKey> = self.listeners()?.into_iter().map(|(key, _)| key).collect();
        let mut gone: Vec<ListenerKey> =
            present.iter().filter(|key| !wanted.contains_key(key)).copied().collect();
        let come = wanted.keys().filter(|key| !present.contains(key)).count();
        let room = (self.capacities[1] as usize).saturating_sub(present.len());
        let last = gone.split_off(come.saturating_sub(room).min(gone.len()));
        self.remove_listeners(&gone)?;
        for (key, listener) in &wanted {
            self.set_listener(*key, *listener)?;
        }
        self.remove_listeners(&last)?;
        self.set_ports(wanted.keys());
        self.listeners_len = wanted.len();
        Ok(())
    }

    /// What the kernel does at each address.
    pub fn listeners(&self) -> Result<Vec<(ListenerKey, Listener)>, KernelError> {
        self.listeners
            .iter()
            .map(|entry| entry.map(|(key, listener)| (key.0, listener.0)))
            .collect::<Result<_, _>>()
            .map_err(KernelError::map(names::MAP_LISTENERS))
    }

    /// From now on the kernel does this at an address. A program that found the old record may still be running.
    pub fn set_listener(&mut self, key: ListenerKey, listener: Listener) -> Result<(), KernelError> {
        let (word, forms) = forms(&key);
        self.ports.word(word, 0).fetch_or(forms, SeqCst);
        self.listeners
            .insert(PodListenerKey(key), PodListener(listener), 0)
            .map_err(KernelError::map(names::MAP_LISTENERS))
    }

    fn remove_listeners(&mut self, keys: &[ListenerKey]) -> Result<(), KernelError> {
        for key in keys {
            match self.listeners.remove(&PodListenerKey(*key)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(KernelError::map(names::MAP_LISTENERS)(error)),
            }
        }
        Ok(())
    }

    /// The kernel looks for these listeners' forms of addresses at their ports, and for no others. They are there, and others are not.
    fn set_ports<'a>(&self, listeners: impl Iterator<Item = &'a ListenerKey>) {
        let mut words = vec![0; PORT_WORDS as usize];
        for (word, forms) in listeners.map(forms) {
            words[word as usize] |= forms;
        }
        for (word, forms) in (0..).zip(words) {
            self.ports.word(word, 0).store(forms, SeqCst);
        }
    }

    /// These users may speak for zones, and no others.
    pub fn set_uids(&mut self, uids: &HashSet<u32>) -> Result<(), KernelError> {
        let name = names::MAP_UIDS;
        let present: Vec<u32> = self.uids.keys().collect::<Result<_, _>>().map_err(KernelError::map(name))?;
        for uid in present.into_iter().filter(|uid| !uids.contains(uid)) {
            self.uids.remove(&uid).map_err(KernelError::map(name))?;
        }
        for uid in uids {
            self.uids.insert(uid, 1, 0).map_err(KernelError::map(name))?;
        }
        self.uids_len = uids.len();
        Ok(())
    }

    /// These numbers in marks speak of these zones, and no others of any.
    pub fn set_marks(&mut self, wanted: &StdHashMap<u32, ZoneKey>) -> Result<(), KernelError> {
        let name = names::MAP_MARKS;
        let present: StdHashMap<u32, u64> =
            self.marks.iter().collect::<Result<_, _>>().map_err(KernelError::map(name))?;
        for number in present.keys().filter(|number| !wanted.contains_key(number)) {
            self.marks.remove(number).map_err(KernelError::map(name))?;
        }
        for (number, key) in wanted {
            if present.get(number) != Some(&key.to_raw()) {
                self.marks.insert(number, key.to_raw(), 0).map_err(KernelError::map(name))?;
            }
        }
        Ok(())
    }

    /// How full each table is.
    pub fn fill(&self) -> [MapFill; 3] {
        let fill = |map, entries: usize, capacity: u32| MapFill {
            map,
            entries: entries as u64,
            capacity: u64::from(capacity),
        };
        [
            fill(names::MAP_ZONE_SLOTS, self.slots_len, self.capacities[0]),
            fill(names::MAP_LISTENERS, self.listeners_len, self.capacities[1]),
            fill(names::MAP_UIDS, self.uids_len, self.capacities[2]),
        ]
    }
}

/// A listener's form of address at its port: the word, and what of it.
fn forms(key: &ListenerKey) -> (u32, u64) {
    let (word, up) = port_place(key.port);
    (word, form(&key.address) << up)
}

/// The sockets' tags.
pub(super) fn take_tags(object: &mut Ebpf) -> Result<MapData, KernelError> {
    let name = names::MAP_TAGS;
    match object.take_map(name) {
        Some(Map::SkStorage(tags)) => Ok(tags),
        _ => Err(KernelError::Missing { kind: "map", name }),
    }
}

fn take(object: &mut Ebpf, name: &'static str) -> Result<(Map, u32), KernelError> {
    match object.take_map(name) {
        Some(Map::HashMap(map)) => {
            let capacity = map.info().map_err(KernelError::map(name))?.max_entries();
            Ok((Map::HashMap(map), capacity))
        }
        _ => Err(KernelError::Missing { kind: "map", name }),
    }
}

/// A listening address as the kernel programs see it.
pub fn listener_key(address: &SocketAddr) -> ListenerKey {
    let words: Address = match address.ip() {
        IpAddr::V4(ip) => mapped(u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => words(ip.octets()),
    };
    ListenerKey { address: words, port: u32::from(address.port()) }
}
