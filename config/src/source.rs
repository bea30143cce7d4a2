//! The text of a file, places in it, and the report that collects faults.
//!
//! A [`Place`] is worked out when it is needed and owns what it says, so a text may be dropped as soon as it is checked:
//! 100,000 zone files are never in memory together.

use std::{
    cell::{OnceCell, RefCell},
    fmt, fs, io,
    path::Path,
    sync::Arc,
};

use toml::{Spanned, de::DeTable};

use crate::error::{ConfigError, Fault, Problem};

/// A file that was read.
pub(crate) struct Source {
    path: Arc<Path>,
    text: String,
    /// Offsets of the lines' first bytes.
    lines: OnceCell<Vec<usize>>,
}

impl Source {
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.into(), text, lines: OnceCell::new() }
    }

    /// Reads a file; what stands in the way goes to `report`.
    pub fn read(path: &Path, report: &Report) -> Option<Self> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                report.add_whole(path, unreadable(&error));
                return None;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self::new(path, text)),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let prefix = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
                let problem = Problem::new("the file is not UTF-8 from here on", "save the file as UTF-8");
                report.add(Self::new(path, prefix).at(good), problem);
                None
            }
        }
    }

    /// Parses the text; the first fault of its syntax goes to `report` (what follows it is mostly its consequence).
    pub fn parse(&self, report: &Report) -> Option<Spanned<DeTable<'_>>> {
        match DeTable::parse(&self.text) {
            Ok(table) => Some(table),
            Err(error) => {
                let at = self.at(error.span().map_or(0, |span| span.start));
                let message = format!("not valid TOML: {}", error.message().replace('\n', " "));
                report.add(
                    at,
                    Problem::new(
                        message,
                        "correct the syntax here; the rest of the file is checked when it is valid TOML",
                    ),
                );
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where relative paths in it begin.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    pub fn at(&self, offset: usize) -> At<'_> {
        At { source: self, offset }
    }
}

fn unreadable(error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "create it, or correct the path",
        io::ErrorKind::PermissionDenied => "let the user that runs weir read it",
        _ => "make it a readable file",
    };
    Problem::new(format!("the file cannot be read: {error}"), remedy)
}

/// A byte of a text.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    source: &'a Source,
    offset: usize,
}

impl<'a> At<'a> {
    pub fn source(self) -> &'a Source {
        self.source
    }

    pub fn place(self) -> Place {
        let text = &self.source.text;
        let lines = self.source.lines.get_or_init(|| {
            let after_breaks =
                text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
            std::iter::once(0).chain(after_breaks).collect()
        });
        let offset = text.floor_char_boundary(self.offset);
        let line = lines.partition_point(|start| *start <= offset);
        let column = text[lines[line - 1]..offset].chars().count() + 1;
        Place { file: self.source.path.clone(), line, column }
    }
}

/// Where something stands; line and column from 1.
#[derive(Clone)]
pub(crate) struct Place {
    file: Arc<Path>,
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Collects faults while the check goes on.
#[derive(Default)]
pub(crate) struct Report {
    faults: RefCell<Vec<Fault>>,
}

impl Report {
    pub fn add(&self, at: At<'_>, problem: Problem) {
        let Place { file, line, column } = at.place();
        self.push(&file, line, column, problem);
    }

    /// A fault of a whole file.
    pub fn add_whole(&self, file: &Path, problem: Problem) {
        self.push(file, 1, 1, problem);
    }

    fn push(&self, file: &Path, line: usize, column: usize, Problem { message, remedy }: Problem) {
        self.faults.borrow_mut().push(Fault { file: file.to_path_buf(), line, column, message, remedy });
    }

    /// `value` if nothing was found.
    pub fn finish<T>(self, main: &Path, value: Option<T>) -> Result<T, ConfigError> {
        let mut faults = self.faults.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => {
                faults.sort_by(|a, b| rank(a, main).cmp(&rank(b, main)));
                Err(ConfigError { faults })
            }
        }
    }
}

/// The main file first: its faults are often the cause of the others.
fn rank<'a>(fault: &'a Fault, main: &Path) -> (bool, &'a Path, usize, usize) {
    (fault.file != main, &fault.file, fault.line, fault.column)
}
