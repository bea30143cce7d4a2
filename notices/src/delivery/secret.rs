//! Secrets by file: read when they are needed, so that a changed one holds from the next attempt on.

use std::{fs::File, io::Read as _, path::Path};

use super::WayError;

const LONGEST: u64 = 4096;

/// The one line of a file.
pub fn line(path: &Path) -> Result<String, WayError> {
    let failed = |source| WayError::File { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).map_err(failed)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains(['\r', '\n']) || text.len() as u64 == LONGEST {
        return Err(WayError::Secret { path: path.to_owned() });
    }
    Ok(line.to_owned())
}
