//! The table of sources as the agent reads it. Only the kernel programs write it: a row's count changes by atomic steps that user
//! space has no way to take on a hash map.

use std::{
    mem::offset_of,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use weir_common::{
    names,
    sockopt::SourceCorrection,
    source::{SourceKey, SourceUsage},
};

use super::{KernelError, sys};

/// Rows a system call.
const BATCH: usize = 4096;
/// Room for the kernel's place in its table.
const POSITION: usize = 64;

/// The table of sources.
pub struct SourceTable {
    map: MapData,
    capacity: u32,
}

impl SourceTable {
    pub(super) fn new(object: &mut Ebpf) -> Result<Self, KernelError> {
        let name = names::MAP_SOURCES;
        let Some(Map::HashMap(map)) = object.take_map(name) else {
            return Err(KernelError::Missing { kind: "map", name });
        };
        let capacity = map.info().map_err(KernelError::map(name))?.max_entries();
        Ok(Self { map, capacity })
    }

    /// Rows that it has room for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Calls `each` with every row, bucket by bucket: a row that is there all the time is seen once, one that comes or goes
    /// meanwhile perhaps. Linux 5.6.
    pub fn each(&self, mut each: impl FnMut(SourceKey, SourceUsage)) -> Result<(), KernelError> {
        let system = |source| KernelError::System { what: "cannot read the table of sources", source };
        let fd: BorrowedFd<'_> = self.map.fd().as_fd();
        let mut room = BATCH.min(self.capacity as usize);
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let (mut from, mut to) = ([0_u8; POSITION], [0_u8; POSITION]);
        let mut first = true;
        loop {
            keys.resize(room * size_of::<SourceKey>(), 0);
            values.resize(room * size_of::<SourceUsage>(), 0);
            let position = (!first).then_some(&from[..]);
            let (count, at_end) = match sys::lookup_batch(fd, position, &mut to, &mut keys, &mut values, room)
            {
                // A bucket of more rows than that; the kernel has not moved on.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < self.capacity as usize => {
                    room = (room * 2).min(self.capacity as usize);
                    continue;
                }
                other => other.map_err(system)?,
            };
            let keys = keys.chunks_exact(size_of::<SourceKey>());
            let values = values.chunks_exact(size_of::<SourceUsage>());
            keys.zip(values).take(count).for_each(|(key, value)| each(read_key(key), read_usage(value)));
            if at_end {
                return Ok(());
            }
            (from, first) = (to, false);
        }
    }
}

/// Adds to a row's count, in the kernel: from here it cannot be done without losing what happens meanwhile. A row that counts
/// nothing afterwards goes.
pub fn correct_source(key: SourceKey, add: i64) -> Result<(), KernelError> {
    sys::correct_source(&SourceCorrection { key, reserved: 0, add: add as u64 })
        .map_err(|source| KernelError::System { what: "cannot set a source's count right", source })
}

fn read_key(bytes: &[u8]) -> SourceKey {
    let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    SourceKey {
        address: std::array::from_fn(|i| word(offset_of!(SourceKey, address) + 4 * i)),
        prefix_len: word(offset_of!(SourceKey, prefix_len)),
    }
}

fn read_usage(bytes: &[u8]) -> SourceUsage {
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
    SourceUsage {
        joined_total: word(offset_of!(SourceUsage, joined_total)),
        left_total: word(offset_of!(SourceUsage, left_total)),
        row: word(offset_of!(SourceUsage, row)),
        live: word(offset_of!(SourceUsage, live)),
    }
}
