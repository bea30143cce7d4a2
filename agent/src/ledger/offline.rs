//! The ledger without its agent: verified, exported, copied. It may run meanwhile: nothing here changes the ledger.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, backup::Backup, config::DbConfig};
use weir_reachout::ledger::{Broken, Entry, Head};

use super::{
    LedgerError, row,
    schema::{self, Kind, MIGRATIONS},
    store::{failed, follow, io_failed},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// A ledger that is only read.
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if !path.exists() {
            return Err(LedgerError::Missing { path: path.to_owned() });
        }
        let open = failed("open", path);
        // Not read-only: a WAL that a killed agent left has to be read too, which takes the index beside it (`-shm`).
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(&open)?;
        connection.busy_timeout(PATIENCE).map_err(&open)?;
        // The last connection that closes would fold that WAL into the main file, and so change what may be evidence.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(&open)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;").map_err(&open)?;
        let (path, known) = (path.to_owned(), MIGRATIONS.len());
        match schema::kind(&connection).map_err(&open)? {
            Kind::Ledger { version } if version == known => Ok(Self { path, connection }),
            Kind::Ledger { version } if version > known => {
                Err(LedgerError::Newer { path, found: version, known })
            }
            Kind::Ledger { version } => Err(LedgerError::Older { path, found: version, known }),
            Kind::Empty | Kind::Foreign => Err(LedgerError::Foreign { path }),
        }
    }

    /// Follows the whole chain, has SQLite check its file, and looks for the triggers that keep others from changing entries. `kept` is a head that was noted elsewhere: nothing that was
    /// written up to it may be missing or replaced.
    pub fn verify(&self, kept: Option<Head>) -> Result<Head, LedgerError> {
        let tampered = |source| LedgerError::Tampered { path: self.path.clone(), source };
        let mut found = None;
        let head = follow(&self.connection, &self.path, |entry| {
            if kept.is_some_and(|kept| kept.seq == entry.seq) {
                found = Some(entry.hash);
            }
            entry.fact().map(drop).map_err(LedgerError::from)
        })?;
        match kept {
            Some(kept) if kept.seq > head.seq => {
                return Err(tampered(Broken::Cut { end: head.seq, kept: kept.seq }));
            }
            Some(kept) if kept.seq > 0 && found != Some(kept.hash) => {
                return Err(tampered(Broken::Replaced { seq: kept.seq }));
            }
            _ => {}
        }
        let fault: String = self
            .connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(failed("check", &self.path))?;
        let damaged = |fault| LedgerError::Damaged { path: self.path.clone(), fault };
        if fault != "ok" {
            return Err(damaged(fault));
        }
        let missing = schema::missing_triggers(&self.connection).map_err(failed("check", &self.path))?;
        if !missing.is_empty() {
            return Err(damaged(format!("triggers are missing or changed: {}", missing.join(", "))));
        }
        Ok(head)
    }

    /// Every entry, oldest first, as it is stored.
    pub fn each(&self, mut each: impl FnMut(Entry) -> std::io::Result<()>) -> Result<(), LedgerError> {
        follow(&self.connection, &self.path, |entry| {
            each(entry).map_err(io_failed("write the entries of", &self.path))
        })
        .map(drop)
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: u64) -> Result<Vec<Entry>, LedgerError> {
        row::newest(&self.connection, count).map_err(failed("read", &self.path))
    }

    /// Copies the ledger as it is at this moment into a new file, which is a ledger in its turn.
    pub fn backup(&self, to: &Path) -> Result<Head, LedgerError> {
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(to) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(LedgerError::Exists { path: to.to_owned() });
            }
            other => drop(other.map_err(io_failed("make", to))?),
        }
        let mut copy = Connection::open(to).map_err(failed("make", to))?;
        let copied = Backup::new(&self.connection, &mut copy).and_then(|backup| {
            // All pages in one step: no writer comes between.
            backup.run_to_completion(i32::MAX, PATIENCE, None)
        });
        copied.map_err(failed("copy to", to))?;
        follow(&copy, to, |_| Ok(()))
    }
}
