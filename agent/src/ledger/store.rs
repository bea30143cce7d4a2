//! The ledger's file: SQLite in WAL mode, every event synced to the disk before it counts as written.
//!
//! A [`Store`] that exists is locked (a second agent gets none), of the newest version, and its chain has been followed from
//! the first entry to the last. Readable by its owner only: it holds customers' names and what was said of them.

use std::{
    cell::Cell,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior::Immediate};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weir_reachout::ledger::{Broken, Draft, Entry, Head};

use super::{
    LedgerError, batch, row,
    schema::{self, Kind, MIGRATIONS},
};

/// How long a reader (a backup, a query by hand) may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Store {
    path: PathBuf,
    connection: Connection,
    head: Head,
    /// Transactions that were written since it was opened.
    writes: u64,
    files: Files,
    _lock: Flock<File>,
}

/// The files that SQLite has open, as they were found: it goes on writing to one that nobody can find any more, or that somebody
/// else has emptied, and says nothing.
struct Files {
    /// Device and inode of the main file, `-wal` and `-shm`. They stay as long as a connection is open.
    identities: [Identity; 3],
    /// The most bytes that the main file had: it never gets shorter.
    main_bytes: Cell<u64>,
}

type Identity = Option<(u64, u64)>;
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// How a WAL begins, but for its last bit. SQLite writes that once, and takes a WAL that begins otherwise for empty.
const WAL_MAGIC: [u8; 4] = [0x37, 0x7f, 0x06, 0x82];

impl Files {
    fn of(path: &Path) -> Self {
        let main_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { identities: SUFFIXES.map(|suffix| identity(path, suffix)), main_bytes: Cell::new(main_bytes) }
    }

    fn are_in_place(&self, path: &Path) -> bool {
        let main_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let shortened = main_bytes < self.main_bytes.get();
        self.main_bytes.set(main_bytes.max(self.main_bytes.get()));
        !shortened && self.identities == SUFFIXES.map(|suffix| identity(path, suffix))
    }
}

fn identity(path: &Path, suffix: &str) -> Identity {
    fs::metadata(beside(path, suffix)).ok().map(|found| (found.dev(), found.ino()))
}

/// The WAL is one. An emptied one to which SQLite goes on writing begins with zeros.
fn has_wal(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(beside(path, "-wal")).and_then(|mut wal| wal.read_exact(&mut magic));
    read.is_ok() && (magic[..3] == WAL_MAGIC[..3] && magic[3] & !1 == WAL_MAGIC[3])
}

impl Store {
    /// Opens the ledger, or makes an empty one. `each` gets every entry that it has, oldest first.
    pub fn open(
        path: &Path,
        each: impl FnMut(Entry) -> Result<(), LedgerError>,
    ) -> Result<Self, LedgerError> {
        let file = |action| {
            let path = path.to_owned();
            move |source| LedgerError::File { action, path, source }
        };
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(file("make the folder of"))?;
        }
        let lock = lock(path)?;
        // SQLite gives its other files the permissions of this one.
        drop(private().open(path).map_err(file("open"))?);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
        prepare(&mut connection, path)?;
        // Before it is read: what is put in place of a file meanwhile is found by the first write.
        let files = Files::of(path);
        let head = follow(&connection, path, each)?;
        Ok(Self { path: path.to_owned(), connection, head, writes: 0, files, _lock: lock })
    }

    /// For tests that write for days: what is written is not waited for.
    #[cfg(test)]
    pub fn unsynced(self) -> Self {
        self.connection.execute_batch("PRAGMA synchronous = OFF").expect("a pragma");
        self
    }

    /// Writes an entry at the end of the chain, with the parameters of its policy; it is on the disk when this returns.
    pub fn append(&mut self, draft: Draft, params: &str) -> Result<Entry, LedgerError> {
        let mut head = self.head;
        let entry = head.append(draft)?;
        self.written(head, |transaction| {
            batch::policy(transaction, entry.policy.as_str(), params)?;
            row::insert(transaction, &entry)
        })?;
        Ok(entry)
    }

    /// Writes a sign of life, to know that an event could be written.
    pub fn beat(&mut self, at: OffsetDateTime) -> Result<(), LedgerError> {
        let at = at.format(&Rfc3339).unwrap_or_default();
        self.change("write to", |transaction| {
            transaction.execute("INSERT OR REPLACE INTO heartbeat (one, at) VALUES (1, ?1)", [&at]).map(drop)
        })
    }

    /// The newest entries, newest first.
    pub fn newest(&self, count: u64) -> Result<Vec<Entry>, LedgerError> {
        row::newest(&self.connection, count).map_err(failed("read", &self.path))
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// Calls `each` with every entry, oldest first. The chain was followed when the ledger was opened.
    pub fn each(&self, each: impl FnMut(Entry) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        follow(&self.connection, &self.path, each).map(drop)
    }

    /// The parameters as JSON of every policy that entries name.
    pub fn policies(&self) -> Result<Vec<(String, String)>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare("SELECT version, params FROM policies")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        read().map_err(failed("read", &self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    pub(super) fn set_head(&mut self, head: Head) {
        self.head = head;
    }

    /// Bytes on the disk, with what is not yet in the main file.
    pub fn size(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(&self.path) + size(&beside(&self.path, "-wal"))
    }

    pub(super) fn write(
        &mut self,
        step: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        step(&transaction)?;
        transaction.commit()?;
        self.writes += 1;
        Ok(())
    }

    /// Before and after each transaction: what was written to files that are not the ledger's any more is not written.
    pub(super) fn check_in_place(&self) -> Result<(), LedgerError> {
        if self.files.are_in_place(&self.path) {
            Ok(())
        } else {
            Err(LedgerError::Replaced { path: self.path.clone() })
        }
    }

    /// After an entry was written, that it can be read by the next who opens the ledger.
    pub(super) fn check_entry(&self) -> Result<(), LedgerError> {
        if has_wal(&self.path) { Ok(()) } else { Err(LedgerError::Replaced { path: self.path.clone() }) }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn lock(path: &Path) -> Result<Flock<File>, LedgerError> {
    let lock = beside(path, ".lock");
    let file = private().open(&lock).map_err(|source| LedgerError::File {
        action: "open",
        path: lock.clone(),
        source,
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => LedgerError::Held { path: path.to_owned() },
        errno => LedgerError::File { action: "lock", path: lock, source: errno.into() },
    })
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let known = MIGRATIONS.len();
    let open = failed("open", path);
    connection.busy_timeout(PATIENCE).map_err(&open)?;
    let kind = schema::kind(connection).map_err(&open)?;
    let version = match kind {
        Kind::Foreign => return Err(LedgerError::Foreign { path: path.to_owned() }),
        Kind::Ledger { version } if version > known => {
            return Err(LedgerError::Newer { path: path.to_owned(), found: version, known });
        }
        Kind::Ledger { version } => version,
        Kind::Empty => 0,
    };
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;")
        .map_err(&open)?;
    if version < known {
        let transaction = connection.transaction_with_behavior(Immediate).map_err(&open)?;
        schema::migrate(&transaction, version)
            .and_then(|()| transaction.commit())
            .map_err(failed("make", path))?;
    }
    Ok(())
}

/// Follows the chain from its first entry to its last.
pub(super) fn follow(
    connection: &Connection,
    path: &Path,
    mut each: impl FnMut(Entry) -> Result<(), LedgerError>,
) -> Result<Head, LedgerError> {
    /// Two kinds of failure on one way.
    enum Stop {
        Sql(rusqlite::Error),
        Ledger(LedgerError),
    }
    impl From<rusqlite::Error> for Stop {
        fn from(error: rusqlite::Error) -> Self {
            Self::Sql(error)
        }
    }
    let mut head = Head::default();
    let followed = row::each(connection, 1, |entry| {
        let next = head.follow(&entry);
        head =
            next.map_err(|source| Stop::Ledger(LedgerError::Tampered { path: path.to_owned(), source }))?;
        each(entry).map_err(Stop::Ledger)
    });
    match followed.and_then(|()| row::strays(connection).map_err(Stop::Sql)) {
        Ok(0) => Ok(head),
        // They would be shown with the others.
        Ok(rows) => Err(LedgerError::Tampered { path: path.to_owned(), source: Broken::Beside { rows } }),
        Err(Stop::Ledger(error)) => Err(error),
        Err(Stop::Sql(source)) => Err(failed("read", path)(source)),
    }
}

/// What SQLite says, told apart: damage is another thing to do than a lock or a full disk.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| {
        let path = path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => LedgerError::Damaged { path, fault: source.to_string() },
            Some(ErrorCode::NotADatabase) => LedgerError::Foreign { path },
            None if matches!(source, rusqlite::Error::FromSqlConversionFailure(..)) => {
                LedgerError::Damaged { path, fault: source.to_string() }
            }
            _ => LedgerError::Database { action, path, source },
        }
    }
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn io_failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::File { action, path, source }
}
