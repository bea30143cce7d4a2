//! What is wrong with a configuration, where, and what to do about it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

/// Everything that is wrong with a configuration: the main file's faults first, then by file, line and column.
///
/// Prints one fault after the other, as [`Fault`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", Lines(.faults))]
pub struct ConfigError {
    /// Never empty.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong. Prints as `file:line:column: message` and an indented line with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file that has to be changed, as an absolute path.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// From 1. A fault of the whole file is at 1:1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, in plain words, on one line.
    pub message: String,
    /// What to do, on one line.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, remedy } = self;
        write!(f, "{}:{line}:{column}: {message}\n    remedy: {remedy}", file.display())
    }
}

/// Why a text is not what a key wants, before it is known where the text stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub message: String,
    pub remedy: String,
}

impl Problem {
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

struct Lines<'a>(&'a [Fault]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

/// A path need not be UTF-8, JSON has to be.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
