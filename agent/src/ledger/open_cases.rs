//! Cases by what the events say of them: which are open, and whose a case is.

use rusqlite::OptionalExtension as _;
use time::OffsetDateTime;
use weir_reachout::ledger::Entry;

use super::{
    LedgerError,
    outbox::moment,
    row,
    store::{Store, failed},
};

/// A case that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCase {
    pub case: String,
    pub zone: String,
    pub opened_at: OffsetDateTime,
}

impl Store {
    /// Oldest first, at most so many.
    pub fn open_cases(&self, most: u32) -> Result<Vec<OpenCase>, LedgerError> {
        let sql =
            "SELECT id, zone, opened_at FROM cases WHERE state <> 'closed' ORDER BY opened_at, id LIMIT ?1";
        let case = |row: &rusqlite::Row<'_>| {
            Ok(OpenCase { case: row.get(0)?, zone: row.get(1)?, opened_at: moment(row, 2)? })
        };
        let read =
            || self.connection().prepare_cached(sql)?.query_map([most], case)?.collect::<Result<Vec<_>, _>>();
        read().map_err(failed("read", self.path()))
    }

    /// The zone of a case, open or closed.
    pub fn zone_of_case(&self, case: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT zone FROM cases WHERE id = ?1";
        let found = self.connection().query_row(sql, [case], |row| row.get(0)).optional();
        found.map_err(failed("read", self.path()))
    }

    /// A zone's entries, oldest first.
    pub fn entries_of(&self, zone: &str) -> Result<Vec<Entry>, LedgerError> {
        row::of_zone(self.connection(), zone).map_err(failed("read", self.path()))
    }
}
