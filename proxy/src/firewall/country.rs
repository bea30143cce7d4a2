//! The country of an address, by a MaxMind database (GeoLite2-Country, GeoIP2-City and the like).
//!
//! The file is read whole into memory with the configuration, and again when it has changed: a database that is replaced while
//! it is mapped would be read half old, half new.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use maxminddb::{MaxMindDbError, PathElement, Reader};

/// The database cannot be used. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum CountryError {
    #[error("cannot read {}: {source} (it must be readable for the user of `proxy.user`)", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no MaxMind database: {source}", path.display())]
    Database { path: PathBuf, source: MaxMindDbError },
}

/// A database.
#[derive(Clone)]
pub(crate) struct Countries {
    reader: Arc<Reader<Vec<u8>>>,
    file: File,
}

/// What a file looked like: as long as it does, its content is the same.
#[derive(Clone, PartialEq, Eq)]
struct File {
    path: PathBuf,
    inode: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Countries {
    /// Reads a database, or takes `known` if it is of the same, unchanged file.
    pub fn load(path: &Path, known: Option<&Self>) -> Result<Self, CountryError> {
        let failed = |source| CountryError::Read { path: path.to_owned(), source };
        let meta = fs::metadata(path).map_err(failed)?;
        let file = File {
            path: path.to_owned(),
            inode: (meta.dev(), meta.ino()),
            bytes: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        if let Some(known) = known.filter(|known| known.file == file) {
            return Ok(known.clone());
        }
        let reader = Reader::from_source(fs::read(path).map_err(failed)?)
            .map_err(|source| CountryError::Database { path: path.to_owned(), source })?;
        Ok(Self { reader: Arc::new(reader), file })
    }

    /// The ISO 3166 code of the country where an address is used; `None` if the database has none.
    pub fn of(&self, address: IpAddr) -> Option<String> {
        let found = self.reader.lookup(address).ok()?;
        found.decode_path(&[PathElement::Key("country"), PathElement::Key("iso_code")]).ok()?
    }
}

#[cfg(test)]
mod tests;
