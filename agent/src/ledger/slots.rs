//! Slots, zones' numbers, guidelines and detectors in the ledger's file.
//!
//! A slot of the running day is a row for each [`CHUNK`] zones. When a day is over, its rows become one for each zone, chunk by
//! chunk ([`Store::compact`]), and days that no window looks at any more are removed.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Transaction, params};
use weir_reachout::{
    history::{GuidelineFrom, History, PastSlot},
    slot::SlotIndex,
};

use super::{
    LedgerError,
    batch::{Batch, DetectorRow, GuidelineRow, SignsRow},
    packing::{self, DAY, Garbled, Packed},
    store::{Store, failed},
};

/// Zones in a row of a slot.
pub const CHUNK: u32 = 4096;

/// The day of a slot, since 1970.
pub fn day_of(slot: SlotIndex) -> u32 {
    slot.number() / DAY as u32
}

/// Where the policy's memory stood when it was last written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// By number.
    pub zones: HashMap<u32, String>,
    /// By zone, and in order.
    pub guidelines: Vec<GuidelineRow>,
    pub detectors: Vec<DetectorRow>,
    pub signs: Vec<SignsRow>,
    pub overuse: Vec<SignsRow>,
    pub building: Option<Vec<u8>>,
    /// The newest slot that is written.
    pub newest: Option<SlotIndex>,
    /// The policies that judged, by their versions and first slots, in order.
    pub adopted: Vec<(SlotIndex, String)>,
}

pub(super) fn write(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    for (id, name) in &batch.zones {
        transaction
            .prepare_cached("INSERT INTO zones (id, name) VALUES (?1, ?2)")?
            .execute(params![id, name])?;
    }
    for row in &batch.guidelines {
        let sql = "INSERT OR REPLACE INTO guidelines (zone, slot, guideline, plan) VALUES (?1, ?2, ?3, ?4)";
        let guideline = i64::try_from(row.guideline).unwrap_or(i64::MAX);
        transaction.prepare_cached(sql)?.execute(params![
            row.zone,
            row.slot.number(),
            guideline,
            row.plan
        ])?;
    }
    if let Some((slot, chunks)) = &batch.slot {
        let sql = "INSERT INTO slots_recent (slot, chunk, data) VALUES (?1, ?2, ?3)";
        for (chunk, data) in chunks.iter().enumerate() {
            transaction.prepare_cached(sql)?.execute(params![slot.number(), chunk as u32, data])?;
        }
    }
    for row in &batch.detectors {
        let sql = "INSERT OR REPLACE INTO detectors (zone, next, data) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute(params![row.zone, row.next.number(), row.data])?;
    }
    for (sql, rows) in [
        ("INSERT OR REPLACE INTO signs (zone, data) VALUES (?1, ?2)", &batch.signs),
        ("INSERT OR REPLACE INTO overuse (zone, data) VALUES (?1, ?2)", &batch.overuse),
    ] {
        for row in rows {
            transaction.prepare_cached(sql)?.execute(params![row.zone, row.data])?;
        }
    }
    if let Some(data) = &batch.building {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO building (one, data) VALUES (1, ?1)")?
            .execute([data])?;
    }
    Ok(())
}

impl Store {
    /// Everything but the slots.
    pub fn memory(&self) -> Result<Memory, LedgerError> {
        let connection = self.connection();
        let read = || -> rusqlite::Result<Memory> {
            let mut memory = Memory::default();
            let mut statement = connection.prepare("SELECT id, name FROM zones")?;
            memory.zones =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            let sql = "SELECT zone, slot, guideline, plan FROM guidelines ORDER BY zone, slot";
            memory.guidelines =
                connection.prepare(sql)?.query_map([], guideline)?.collect::<Result<_, _>>()?;
            let detector = |row: &rusqlite::Row<'_>| {
                Ok(DetectorRow {
                    zone: row.get(0)?,
                    next: SlotIndex::of_number(row.get(1)?),
                    data: row.get(2)?,
                })
            };
            memory.detectors = connection
                .prepare("SELECT zone, next, data FROM detectors")?
                .query_map([], detector)?
                .collect::<Result<_, _>>()?;
            let derived = |sql: &str| -> rusqlite::Result<Vec<SignsRow>> {
                let row = |row: &rusqlite::Row<'_>| Ok(SignsRow { zone: row.get(0)?, data: row.get(1)? });
                connection.prepare(sql)?.query_map([], row)?.collect()
            };
            memory.signs = derived("SELECT zone, data FROM signs")?;
            memory.overuse = derived("SELECT zone, data FROM overuse")?;
            let mut building = connection.prepare("SELECT data FROM building")?;
            memory.building = building.query_map([], |row| row.get(0))?.next().transpose()?;
            let newest: Option<u32> =
                connection.query_row("SELECT max(slot) FROM slots_recent", [], |row| row.get(0))?;
            memory.newest = newest.map(SlotIndex::of_number);
            let adopted =
                |row: &rusqlite::Row<'_>| Ok((SlotIndex::of_number(row.get(0)?), row.get::<_, String>(1)?));
            memory.adopted = connection
                .prepare("SELECT slot, version FROM adopted ORDER BY rowid")?
                .query_map([], adopted)?
                .collect::<Result<_, _>>()?;
            Ok(memory)
        };
        read().map_err(failed("read", self.path()))
    }

    /// What a zone has spent of other resources, as it was last kept.
    pub fn spent(&self, zone: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let sql = "SELECT data FROM overuse JOIN zones ON zones.id = overuse.zone WHERE name = ?1";
        let read = || -> rusqlite::Result<Option<Vec<u8>>> {
            self.connection().prepare_cached(sql)?.query_map([zone], |row| row.get(0))?.next().transpose()
        };
        read().map_err(failed("read", self.path()))
    }

    /// Calls `each` with every judgement of the running day's rows from `from` on, in the order of slots.
    pub fn recent(
        &self,
        from: SlotIndex,
        mut each: impl FnMut(SlotIndex, u32, Packed),
    ) -> Result<(), LedgerError> {
        let mut read = || -> rusqlite::Result<Result<(), Garbled>> {
            let sql = "SELECT slot, chunk, data FROM slots_recent WHERE slot >= ?1 ORDER BY slot, chunk";
            let mut statement = self.connection().prepare_cached(sql)?;
            let mut rows = statement.query([from.number()])?;
            while let Some(row) = rows.next()? {
                let (slot, chunk) = (SlotIndex::of_number(row.get(0)?), row.get::<_, u32>(1)?);
                let unpacked = packing::unpack_row(row.get_ref(2)?.as_blob()?, |place, packed| {
                    each(slot, chunk * CHUNK + place as u32, packed);
                });
                if unpacked.is_err() {
                    return Ok(unpacked);
                }
            }
            Ok(Ok(()))
        };
        read().map_err(failed("read", self.path()))?.map_err(|garbled| self.damaged(garbled))
    }

    /// The judgements of one zone in a span, with what is needed to show them.
    pub fn history(&self, zone: &str, from: SlotIndex, to: SlotIndex) -> Result<History, LedgerError> {
        let connection = self.connection();
        let id: Result<u32, _> =
            connection.query_row("SELECT id FROM zones WHERE name = ?1", [zone], |row| row.get(0));
        let id = match id {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(History::default()),
            other => other.map_err(failed("read", self.path()))?,
        };
        let mut packed: Vec<(SlotIndex, Packed)> = Vec::new();
        let mut read = || -> rusqlite::Result<Result<(), Garbled>> {
            let sql =
                "SELECT day, data FROM slots_daily WHERE day BETWEEN ?1 AND ?2 AND zone = ?3 ORDER BY day";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![day_of(from), day_of(to), id])?;
            while let Some(row) = rows.next()? {
                let first = SlotIndex::of_number(row.get::<_, u32>(0)? * DAY as u32);
                let Ok(day) = packing::unpack_day(row.get_ref(1)?.as_blob()?) else {
                    return Ok(Err(Garbled));
                };
                packed.extend((0..).zip(day).map(|(n, packed)| (first.forth(n), packed)));
            }
            let sql = "SELECT slot, data FROM slots_recent WHERE slot BETWEEN ?1 AND ?2 AND chunk = ?3 ORDER BY slot";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![from.number(), to.number(), id / CHUNK])?;
            while let Some(row) = rows.next()? {
                let slot = SlotIndex::of_number(row.get(0)?);
                let unpacked = packing::unpack_row(row.get_ref(1)?.as_blob()?, |place, one| {
                    if place as u32 == id % CHUNK {
                        packed.push((slot, one));
                    }
                });
                if unpacked.is_err() {
                    return Ok(unpacked);
                }
            }
            Ok(Ok(()))
        };
        read().map_err(failed("read", self.path()))?.map_err(|garbled| self.damaged(garbled))?;
        let held =
            |(slot, packed): &(SlotIndex, Packed)| (from..=to).contains(slot) && *packed != Packed::default();
        let slots = packed.iter().filter(|row| held(row)).map(|(index, packed)| PastSlot {
            index: *index,
            value: packing::value(packed.value),
            max: packing::value(packed.max),
            judgement: packed.judgement(),
        });
        Ok(History { slots: slots.collect(), guidelines: self.guidelines(id, from, to)? })
    }

    fn guidelines(
        &self,
        zone: u32,
        from: SlotIndex,
        to: SlotIndex,
    ) -> Result<Vec<GuidelineFrom>, LedgerError> {
        let sql = "SELECT zone, slot, guideline, plan FROM guidelines WHERE zone = ?1 AND slot <= ?3 AND slot >=
                   coalesce((SELECT max(slot) FROM guidelines WHERE zone = ?1 AND slot <= ?2), 0) ORDER BY slot";
        let read = || -> rusqlite::Result<Vec<GuidelineRow>> {
            let mut statement = self.connection().prepare_cached(sql)?;
            statement.query_map(params![zone, from.number(), to.number()], guideline)?.collect()
        };
        let rows = read().map_err(failed("read", self.path()))?;
        let from_row =
            |row: GuidelineRow| GuidelineFrom { slot: row.slot, guideline: row.guideline, plan: row.plan };
        Ok(rows.into_iter().map(from_row).collect())
    }

    /// Packs one chunk of the oldest day before `today` that is not packed yet, and removes days before `oldest`. True if
    /// there is more to do.
    pub fn compact(&mut self, today: u32, oldest: u32) -> Result<bool, LedgerError> {
        let sql =
            "SELECT slot / 288, chunk FROM slots_recent WHERE slot < ?1 ORDER BY slot / 288, chunk LIMIT 1";
        let first = self.connection().query_row(sql, [i64::from(today) * DAY as i64], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))
        });
        let (day, chunk) = match first {
            Ok(found) => found,
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(false),
            Err(error) => return Err(failed("read", self.path())(error)),
        };
        let days = self.chunk_of_day(day, chunk)?;
        self.change("write to", |transaction| {
            let sql = "INSERT OR REPLACE INTO slots_daily (day, zone, data) VALUES (?1, ?2, ?3)";
            for (zone, slots) in &days {
                let data = packing::pack_day(slots);
                transaction.prepare_cached(sql)?.execute(params![day, zone, data])?;
            }
            let (from, to) = (i64::from(day) * DAY as i64, (i64::from(day) + 1) * DAY as i64);
            let sql = "DELETE FROM slots_recent WHERE slot >= ?1 AND slot < ?2 AND chunk = ?3";
            transaction.execute(sql, params![from, to, chunk])?;
            transaction.execute("DELETE FROM slots_daily WHERE day < ?1", [oldest]).map(drop)
        })?;
        Ok(true)
    }

    fn chunk_of_day(&self, day: u32, chunk: u32) -> Result<BTreeMap<u32, Box<[Packed; DAY]>>, LedgerError> {
        let mut zones: BTreeMap<u32, Box<[Packed; DAY]>> = BTreeMap::new();
        let first = day * DAY as u32;
        let mut read = || -> rusqlite::Result<Result<(), Garbled>> {
            let sql = "SELECT slot, data FROM slots_recent WHERE slot >= ?1 AND slot < ?2 AND chunk = ?3";
            let mut statement = self.connection().prepare_cached(sql)?;
            let mut rows = statement.query(params![first, first + DAY as u32, chunk])?;
            while let Some(row) = rows.next()? {
                let place_in_day = (row.get::<_, u32>(0)? - first) as usize;
                let unpacked = packing::unpack_row(row.get_ref(1)?.as_blob()?, |place, packed| {
                    let zone = zones
                        .entry(chunk * CHUNK + place as u32)
                        .or_insert_with(|| Box::new([Packed::default(); DAY]));
                    zone[place_in_day] = packed;
                });
                if unpacked.is_err() {
                    return Ok(unpacked);
                }
            }
            Ok(Ok(()))
        };
        read().map_err(failed("read", self.path()))?.map_err(|garbled| self.damaged(garbled))?;
        Ok(zones)
    }

    fn damaged(&self, garbled: Garbled) -> LedgerError {
        LedgerError::Damaged { path: self.path().to_owned(), fault: garbled.to_string() }
    }
}

fn guideline(row: &rusqlite::Row<'_>) -> rusqlite::Result<GuidelineRow> {
    Ok(GuidelineRow {
        zone: row.get(0)?,
        slot: SlotIndex::of_number(row.get(1)?),
        guideline: row.get::<_, i64>(2)?.try_into().unwrap_or(0),
        plan: row.get(3)?,
    })
}
