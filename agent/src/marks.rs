//! Marks: the numbers by which another proxy says, with `SO_MARK`, which zone a socket is of. See `weir_common::mark`.
//!
//! A zone's number is the one that its configuration gives it, or else one of its name alone. So it is the same on every host and
//! after every start, and a file with all numbers can be made once for a fleet. Two zones of one number are refused, with both
//! named: never is a socket counted for another zone than the one that was meant.

use std::{collections::HashMap, sync::Arc};

use weir_common::{
    mark::{number_of, websocket_flag},
    zone::ZoneKey,
};
use weir_config::{MarkRange, Zone};

/// Two zones have one number.
#[derive(Debug, thiserror::Error)]
#[error(
    "zones `{first}` and `{second}` have the same number {number} in marks: give one of them another with `mark = ...`"
)]
pub struct MarkCollision {
    pub first: String,
    pub second: String,
    pub number: u32,
}

/// A zone's two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneMarks {
    pub socket: u32,
    pub websocket: u32,
}

/// The numbers of all zones.
pub struct Marks {
    range: MarkRange,
    by_number: HashMap<u32, Arc<str>>,
    by_zone: HashMap<Arc<str>, u32>,
}

impl Marks {
    /// # Errors
    /// If two zones have the same number.
    pub fn new(range: MarkRange, zones: &[Arc<Zone>]) -> Result<Self, MarkCollision> {
        let mut marks = Self { range, by_number: HashMap::new(), by_zone: HashMap::new() };
        for zone in zones {
            let name: Arc<str> = zone.name.as_str().into();
            let number = zone.mark.unwrap_or_else(|| number_of(ZoneKey::of(&name), range.mask));
            if let Some(first) = marks.by_number.insert(number, Arc::clone(&name)) {
                return Err(MarkCollision { first: first.to_string(), second: name.to_string(), number });
            }
            marks.by_zone.insert(name, number);
        }
        Ok(marks)
    }

    /// What a zone is marked by.
    pub fn of(&self, zone: &str) -> Option<ZoneMarks> {
        let socket = self.range.base | *self.by_zone.get(zone)?;
        Some(ZoneMarks { socket, websocket: socket | websocket_flag(self.range.mask) })
    }

    /// Every number with the key of its zone.
    pub fn keys(&self) -> HashMap<u32, ZoneKey> {
        self.by_number.iter().map(|(number, zone)| (*number, ZoneKey::of(zone))).collect()
    }
}
