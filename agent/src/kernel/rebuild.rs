//! From the books of another ABI version to those of this one, with no moment without counting and enforcement.
//!
//! Nothing of the other version's maps is taken over but what stands at the same place in every version: the first words of the
//! host's record, which slot is which zone's, and the tag's head (`common/src/socket.rs`). New maps are made beside the old ones, in
//! a folder of their own, and then:
//!
//! 1. This version's programs are attached *beside* the other's. Both are called for everything that happens. What the other's
//!    refuse is refused, so caps hold while this version's counts are not whole; a socket that is born or spoken for from now on is
//!    counted by both.
//! 2. Every socket that the other version counts and this one does not is looked up by its addresses and counted
//!    (`ebpf/src/errands.rs`), until a walk over the kernel's list finds none. A socket that ends before its turn leaves a tag that
//!    says so, and is not counted.
//! 3. The other version's programs are detached, and the new pins take the place of the old ones. The host's record goes last: it
//!    says which version's the pins are.
//!
//! An agent that dies before the record of the new maps is sealed, in 1 and 2, leaves the old version in force, and the next one
//! begins anew. One that dies afterwards leaves the rest of 3 to the next one. Totals begin at 0, as counters may.

use std::fs::File;

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapInfo},
};
use weir_common::{
    errand::Errand,
    names,
    socket::{ADMITTED, COUNTED, DEAD},
    zone::{UNATTRIBUTED, ZoneKey, ZonePolicy},
};

use super::{
    KernelError, SocketId,
    attach::{self, InForce},
    errands::Runner,
    memory::{HostMemory, HostPolicyMemory, Records, ZoneMemory},
    pins::InstanceDir,
    sock_diag::list_storages,
    sys,
    tables::Tables,
};
use crate::fault;

/// The first version that counted bytes of sockets that live, and says in the tag how many.
const FIRST_WITH_LIVE_BYTES: u64 = 4;
/// Walks over the socket list. Of a walk's sockets only those can be missed whose neighbours in the list end during it.
const MOST_WALKS: usize = 10;

/// What another ABI version left.
pub struct Earlier {
    pub abi_version: u64,
    /// Zones that it had room for, and sources, as far as can be told.
    pub max_zones: Option<u32>,
    pub max_sources: Option<u32>,
    tags: Option<MapData>,
    zones: Vec<Slot>,
}

struct Slot {
    slot: u32,
    key: u64,
    /// The kernel finds it; else it drains.
    is_live: bool,
}

impl Earlier {
    /// Reads what can be read. What is not there, or is not as every version has it, is as if it were empty.
    pub(super) fn read(dir: &InstanceDir, abi_version: u64) -> Self {
        let info = |name: &str| MapInfo::from_pin(dir.map(name)).ok();
        let policies = info(names::MAP_ZONE_POLICY);
        let keys = policies.as_ref().map(|info| keys(dir, info.value_size(), info.max_entries()));
        let live = live(dir);
        let keys = keys.and_then(Result::ok).unwrap_or_else(|| live.clone());
        let is_live = |slot, key| live.contains(&(slot, key));
        Self {
            abi_version,
            max_zones: policies.map(|info| info.max_entries().saturating_sub(1)).filter(|zones| *zones > 0),
            max_sources: info(names::MAP_SOURCES).map(|info| info.max_entries()),
            tags: MapData::from_pin(dir.map(names::MAP_TAGS)).ok(),
            zones: keys
                .into_iter()
                .map(|(slot, key)| Slot { slot, key, is_live: is_live(slot, key) })
                .collect(),
        }
    }

    /// Gives every zone the slot that it had, so that a tag's slot is the same zone's.
    pub(super) fn seed(&self, zones: &ZoneMemory, tables: &mut Tables) -> Result<(), KernelError> {
        for Slot { slot, key, is_live } in self.zones.iter().filter(|zone| zone.slot < zones.slots()) {
            zones.set_policy(*slot, &ZonePolicy { key: *key, ..ZonePolicy::EMPTY });
            if *is_live {
                tables.insert_zone(ZoneKey::from_raw(*key), *slot)?;
            }
        }
        Ok(())
    }

    /// The errand by which a socket with this tag is counted; `None` if the other version does not count it.
    fn errand(&self, id: &SocketId, tag: &[u8], is_zone: impl Fn(u32) -> bool) -> Option<Errand> {
        let word = |at: usize| Some(u32::from_ne_bytes(tag.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_ne_bytes(tag.get(at..at + 8)?.try_into().ok()?));
        // Whatever has a tag is followed to its end; whose it is may not be known.
        let (slot, flags) = (word(0).unwrap_or(UNATTRIBUTED), word(4).unwrap_or(COUNTED));
        if flags & COUNTED == 0 || flags & DEAD != 0 {
            return None;
        }
        let (slot, flags) = match slot {
            slot if slot != UNATTRIBUTED && is_zone(slot) => (slot, flags),
            _ => (UNATTRIBUTED, flags & !ADMITTED),
        };
        let counted = |at| long(at).filter(|_| self.abi_version >= FIRST_WITH_LIVE_BYTES).unwrap_or(0);
        Some(Errand { slot, flags, rx_counted: counted(32), tx_counted: counted(40), ..id.errand() })
    }
}

/// Slots with their zones' keys, of those that drain, too.
fn keys(dir: &InstanceDir, value_size: u32, entries: u32) -> Result<Vec<(u32, u64)>, KernelError> {
    let (name, path) = (names::MAP_ZONE_POLICY, dir.map(names::MAP_ZONE_POLICY));
    let fd = sys::get_pinned(&path).map_err(|source| KernelError::Pin { action: "open", path, source })?;
    let policies = Records::new(fd, name, value_size as usize, entries)?;
    let key = |slot| policies.get(slot, std::mem::offset_of!(ZonePolicy, key));
    Ok((1..entries).map(|slot| (slot, key(slot))).filter(|(_, key)| *key != 0).collect())
}

/// Zones that the kernel finds.
fn live(dir: &InstanceDir) -> Vec<(u32, u64)> {
    let read = || -> Result<Vec<_>, aya::maps::MapError> {
        let map = MapData::from_pin(dir.map(names::MAP_ZONE_SLOTS))?;
        let slots: HashMap<_, u64, u32> = Map::HashMap(map).try_into()?;
        slots.iter().map(|entry| entry.map(|(key, slot)| (slot, key))).collect()
    };
    read().unwrap_or_default()
}

/// This version's side of the change.
pub(super) struct Ours<'a> {
    pub object: &'a mut Ebpf,
    pub cgroup: &'a File,
    pub dir: &'a InstanceDir,
    pub zones: &'a ZoneMemory,
    pub host: &'a HostMemory,
    pub policy: &'a HostPolicyMemory,
}

/// Puts this version in place of the other one.
pub(super) fn switch(
    ours: Ours<'_>,
    earlier: &Earlier,
    abi_version: u32,
) -> Result<Vec<(&'static str, InForce)>, KernelError> {
    let switched = beside(ours, earlier, abi_version);
    match switched {
        Ok(switched) => Ok(switched),
        Err((dir, error)) => {
            // The other version goes on as if nothing had been tried.
            let _ = dir.drop_next();
            Err(error)
        }
    }
}

type Beside<'a> = Result<Vec<(&'static str, InForce)>, (&'a InstanceDir, KernelError)>;

fn beside<'a>(ours: Ours<'a>, earlier: &Earlier, abi_version: u32) -> Beside<'a> {
    let Ours { object, cgroup, dir, zones, host, policy } = ours;
    let failed = |error| (dir, error);
    let runner = Runner::load(object, names::PROG_ADOPT).map_err(failed)?;
    policy.set_adopting(true);
    let in_force = attach::all(object, cgroup, &dir.next()).map_err(failed)?;
    // A socket may be ending whose end only the other version's programs were told.
    grace();
    fault::point("attached");
    let adopted = adopt_all(&runner, earlier, zones).map_err(failed)?;
    host.seal(abi_version);
    fault::point("sealed");
    // From here on there is no way back, and none is needed.
    if let Err(error) = dir.take_next() {
        tracing::error!(
            "pins of the earlier version are left, and the next agent takes them away: {:#}",
            anyhow::Error::from(error)
        );
    }
    // Programs that began behind those of the other version are still to be told so.
    grace();
    policy.set_adopting(false);
    tracing::info!(
        from = earlier.abi_version,
        to = abi_version,
        sockets = adopted,
        "counts rebuilt for another ABI version"
    );
    Ok(in_force)
}

fn grace() {
    if let Err(error) = sys::rcu_grace_period() {
        tracing::warn!(%error, "no RCU grace period on this host: counts may need the audit to be right");
    }
}

/// Walks until a walk finds nothing to adopt. Returns how many sockets were adopted.
fn adopt_all(runner: &Runner, earlier: &Earlier, zones: &ZoneMemory) -> Result<u64, KernelError> {
    let Some(tags) = &earlier.tags else { return Ok(0) };
    let is_zone = |slot| slot < zones.slots() && zones.key(slot) != 0;
    let mut all = 0;
    for _ in 0..MOST_WALKS {
        let (mut batch, mut failed) = (runner.one_by_one(), None);
        list_storages(tags, |id, tag| {
            if let Some(errand) = earlier.errand(&id, tag, is_zone) {
                failed = failed.take().or(batch.push(&errand).err());
            }
        })
        .map_err(KernelError::SockDiag)?;
        let adopted = match failed {
            Some(error) => Err(error),
            None => batch.finish(),
        };
        let adopted = adopted.map_err(|source| KernelError::System {
            what: "sockets cannot be taken over one by one",
            source,
        })?;
        all += adopted;
        if adopted == 0 {
            break;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(abi_version: u64) -> Earlier {
        Earlier { abi_version, max_zones: None, max_sources: None, tags: None, zones: Vec::new() }
    }

    fn tag(slot: u32, flags: u32, rx_counted: u64) -> Vec<u8> {
        let mut tag = [slot.to_ne_bytes(), flags.to_ne_bytes()].concat();
        tag.resize(32, 0);
        tag.extend(rx_counted.to_ne_bytes());
        tag.extend(7_u64.to_ne_bytes());
        tag
    }

    fn errand(abi_version: u64, tag: &[u8]) -> Option<(u32, u32, u64, u64)> {
        let errand = earlier(abi_version).errand(&SocketId::numbered(1), tag, |slot| slot < 5)?;
        Some((errand.slot, errand.flags, errand.rx_counted, errand.tx_counted))
    }

    #[test]
    fn a_tags_head_says_whose_the_socket_is_in_every_version() {
        let both = COUNTED | ADMITTED;
        assert_eq!(errand(9, &tag(3, both, 100)), Some((3, both, 100, 7)));
        assert_eq!(errand(3, &tag(3, both, 100)), Some((3, both, 0, 0)), "these words were no byte counts");
        assert_eq!(errand(3, &tag(3, both, 0)[..8]), Some((3, both, 0, 0)));
        assert_eq!(errand(9, &tag(3, DEAD, 0)), None);
        assert_eq!(errand(9, &tag(3, 0, 0)), None);
    }

    #[test]
    fn a_socket_whose_zone_is_not_known_is_counted_all_the_same() {
        assert_eq!(errand(9, &tag(5, COUNTED | ADMITTED, 0)), Some((UNATTRIBUTED, COUNTED, 0, 7)));
        assert_eq!(errand(9, &[1, 2]), Some((UNATTRIBUTED, COUNTED, 0, 0)), "a head that cannot be read");
    }
}
