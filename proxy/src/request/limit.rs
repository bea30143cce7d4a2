//! Which case a limit is of, so that whoever is refused by it can ask about it.
//!
//! The kernel says *limit* and no more. The agent keeps the names of the cases whose limits are in force in a file beside its
//! socket; it is read when somebody is refused for that reason, and never else. Without it, or with one that cannot be read, the
//! refusal is the same and names no case.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Larger than any number of limits that people approve.
const LARGEST_FILE: u64 = 1 << 20;

static FILE: OnceLock<PathBuf> = OnceLock::new();

/// Names are in this file; the first word on it holds as long as the process.
pub(crate) fn named_in(file: PathBuf) {
    let _first_holds = FILE.set(file);
}

/// The case of a zone's limit.
pub(crate) fn case_of(zone: &str) -> Option<String> {
    read(FILE.get()?, zone)
}

fn read(file: &Path, zone: &str) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(LARGEST_FILE).read_to_string(&mut text).ok()?;
    serde_json::from_str::<HashMap<String, String>>(&text).ok()?.remove(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_is_named_if_the_file_does_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limits.json");
        assert_eq!(read(&file, "a.test"), None);
        std::fs::write(&file, r#"{"a.test":"c-0123456789ab"}"#).unwrap();
        assert_eq!(read(&file, "a.test").as_deref(), Some("c-0123456789ab"));
        assert_eq!(read(&file, "b.test"), None);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(read(&file, "a.test"), None);
    }
}
