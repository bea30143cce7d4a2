//! The keys that sign links, in a file of the agent's own.
//!
//! A line a key, the newest first: `NUMBER MADE-AT HEX`. The newest signs; every key of the file verifies, so a link goes on
//! working when a new key is made, until its own end. To make all links worthless at once, remove the file and start the
//! agent again. A file that others can read is refused: whoever has a key may answer for every customer.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

const LENGTH: usize = 32;
const LONGEST_FILE: u64 = 64 * 1024;

/// One or more, newest first.
pub struct Keys(Vec<Key>);

pub(crate) struct Key {
    pub number: u32,
    pub hmac: hmac::Key,
    made_at: OffsetDateTime,
    secret: [u8; LENGTH],
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot {action} the keys of links {path}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the keys of links {path} can be read by others (mode {mode:o}): chmod 600, or remove the file and let links be made anew"
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "the keys of links {path}, line {line}: not `NUMBER MADE-AT HEX`; restore the file, or remove it and let links be made anew"
    )]
    Line { path: PathBuf, line: usize },
    #[error("the system has no randomness for a key")]
    Randomness,
}

impl Keys {
    /// Reads the file, or makes it with one key.
    pub fn open(path: &Path, now: OffsetDateTime) -> Result<Self, KeysError> {
        match read(path)? {
            Some(text) => parse(path, &text),
            None => {
                let keys = Self::fresh(now)?;
                keys.write(path)?;
                Ok(keys)
            }
        }
    }

    pub(crate) fn fresh(now: OffsetDateTime) -> Result<Self, KeysError> {
        Ok(Self(vec![Key::make(1, now)?]))
    }

    /// Puts a new key in front once the newest is older than `life`, and forgets those by which no link that is good for
    /// `link_life` can have been made any more. True if the file has changed.
    pub fn rotate(
        &mut self,
        path: &Path,
        now: OffsetDateTime,
        life: Duration,
        link_life: Duration,
    ) -> Result<bool, KeysError> {
        if now < self.newest().made_at.saturating_add(life) {
            return Ok(false);
        }
        let number = self.newest().number.wrapping_add(1);
        let mut keys = vec![Key::make(number, now)?];
        // A key signs until the next one is made.
        let mut signed_until = now;
        for key in self.0.drain(..) {
            let made_at = key.made_at;
            if now < signed_until.saturating_add(link_life) {
                keys.push(key);
            }
            signed_until = made_at;
        }
        self.0 = keys;
        self.write(path)?;
        Ok(true)
    }

    pub(crate) fn newest(&self) -> &Key {
        &self.0[0]
    }

    pub(crate) fn find(&self, number: u32) -> Option<&Key> {
        self.0.iter().find(|key| key.number == number)
    }

    /// Under another name first: a crash leaves the old file or the new one.
    fn write(&self, path: &Path) -> Result<(), KeysError> {
        let failed = |action| move |source| KeysError::File { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(failed("make the folder of"))?;
        }
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed("write"))?;
        let written = self.0.iter().try_for_each(|key| writeln!(file, "{}", key.line()));
        written.and_then(|()| file.sync_all()).map_err(failed("write"))?;
        fs::rename(&new, path).map_err(failed("put in place"))?;
        if let Some(folder) = path.parent() {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("keep"))?;
        }
        Ok(())
    }
}

/// Whoever prints keys does not print secrets.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.number)).finish()
    }
}

impl Key {
    fn make(number: u32, made_at: OffsetDateTime) -> Result<Self, KeysError> {
        let mut secret = [0; LENGTH];
        SystemRandom::new().fill(&mut secret).map_err(|_| KeysError::Randomness)?;
        Ok(Self::of(number, made_at, secret))
    }

    fn of(number: u32, made_at: OffsetDateTime, secret: [u8; LENGTH]) -> Self {
        Self { number, made_at, secret, hmac: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    fn line(&self) -> String {
        let made_at = self.made_at.replace_nanosecond(0).unwrap_or(self.made_at).format(&Rfc3339);
        let hex: String = self.secret.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {hex}", self.number, made_at.unwrap_or_default())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let number = fields.next()?.parse().ok()?;
        let made_at = OffsetDateTime::parse(fields.next()?, &Rfc3339).ok()?;
        let hex = fields.next().filter(|hex| hex.len() == LENGTH * 2 && hex.is_ascii())?;
        let mut secret = [0; LENGTH];
        for (byte, digits) in secret.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        fields.next().is_none().then(|| Self::of(number, made_at, secret))
    }
}

fn read(path: &Path) -> Result<Option<String>, KeysError> {
    let failed = |source| KeysError::File { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(LONGEST_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

fn parse(path: &Path, text: &str) -> Result<Keys, KeysError> {
    let wrong = |line| KeysError::Line { path: path.to_owned(), line };
    let lines = text.lines().enumerate();
    let keys: Result<Vec<Key>, _> =
        lines.map(|(n, line)| Key::parse(line).ok_or_else(|| wrong(n + 1))).collect();
    let keys = keys?;
    if keys.is_empty() { Err(wrong(1)) } else { Ok(Keys(keys)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{sign, verify};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);
    const LIFE: Duration = Duration::days(90);
    const LINK: Duration = Duration::days(60);

    #[test]
    fn keys_are_made_for_their_owner_only_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below/links.keys");
        let token = sign(&Keys::open(&path, NOW).expect("made"), "c-1", NOW + LINK);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(verify(&Keys::open(&path, NOW).expect("read"), &token, NOW).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(Keys::open(&path, NOW), Err(KeysError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn links_outlive_the_key_that_signed_them_by_their_whole_life_and_no_key_stays_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("links.keys");
        let mut keys = Keys::open(&path, NOW).expect("made");
        assert!(!keys.rotate(&path, NOW + Duration::days(89), LIFE, LINK).expect("nothing to do"));
        let last = NOW + Duration::days(90);
        let token = sign(&keys, "c-1", last + LINK);
        assert!(keys.rotate(&path, last, LIFE, LINK).expect("written"));
        let read = Keys::open(&path, last).expect("read");
        assert!(verify(&read, &token, last + LINK - Duration::SECOND).is_ok());
        assert_ne!(sign(&read, "c-1", last + LINK), token, "the new key signs");
        keys.rotate(&path, last + LIFE, LIFE, LINK).expect("written");
        assert_eq!(format!("{keys:?}"), "[3, 2]", "no link of the first key can be good");
    }

    #[test]
    fn file_that_is_no_list_of_keys_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("links.keys");
        let keys = Keys::open(&path, NOW).expect("made");
        for (text, line) in [(String::new(), 1), (format!("{}\n7 now ff\n", keys.newest().line()), 2)] {
            fs::write(&path, text).expect("written");
            let wrong =
                matches!(Keys::open(&path, NOW), Err(KeysError::Line { line: found, .. }) if found == line);
            assert!(wrong, "line {line}");
        }
        assert!(!format!("{keys:?}").contains(&keys.newest().line()[30..]));
    }
}
