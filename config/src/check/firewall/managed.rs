//! `managed`: which files of rules, and what follows from what they say. A zone takes the host's where it says nothing else.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use glob::{MatchOptions, Pattern};

use super::access::Lists;
use crate::{
    model::{Managed, ManagedMode, ManagedPool, Uninspected},
    raw::{MANAGED, Section, Value, ZONE_MANAGED},
};

const MODES: [(&str, ManagedMode); 3] =
    [("off", ManagedMode::Off), ("detect", ManagedMode::Detect), ("block", ManagedMode::Block)];
const UNINSPECTED: [(&str, Uninspected); 2] = [("refuse", Uninspected::Refuse), ("pass", Uninspected::Pass)];
const EXAMPLE: &str =
    "[\"/etc/modsecurity/crs/crs-setup.conf\", \"/usr/share/modsecurity-crs/rules/*.conf\"]";
/// The most files of one list.
const MAX_FILES: usize = 1000;
/// The most lists that differ: each takes as much memory as all rules in it, for the Core Rule Set about 18 MiB.
const MAX_LISTS: usize = 16;
const MOST_THREADS: u64 = 1024;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Files of rules, and what lies beside them.
#[derive(Clone)]
struct Named {
    rules: Arc<[PathBuf]>,
    files: Arc<[PathBuf]>,
}

/// The lists that were read: many zones may have one.
#[derive(Default)]
pub(super) struct Known(RefCell<BTreeMap<Vec<PathBuf>, Named>>);

pub(super) fn host(firewall: &Section<'_>, lists: &Lists) -> (Arc<Managed>, ManagedPool) {
    let section = firewall.section("managed", &MANAGED);
    let default = ManagedPool::default();
    let threads = section.get("threads").and_then(|value| value.number(1..=MOST_THREADS, 2));
    let wait = section
        .get("max_wait")
        .and_then(|value| value.duration(Duration::from_millis(1)..=LONGEST_WAIT, default.max_wait));
    let pool = ManagedPool {
        threads: threads.and_then(|threads| u32::try_from(threads).ok()?.try_into().ok()),
        max_wait: wait.unwrap_or(default.max_wait),
    };
    (read(&section, &Arc::default(), lists), pool)
}

/// `host` is what holds where the zone says nothing.
pub(super) fn zone(firewall: &Section<'_>, host: &Arc<Managed>, lists: &Lists) -> Arc<Managed> {
    read(&firewall.section("managed", &ZONE_MANAGED), host, lists)
}

fn read(section: &Section<'_>, above: &Arc<Managed>, lists: &Lists) -> Arc<Managed> {
    let named = section.get("rules").map(|value| named(&value, lists));
    let mode = section.get("mode").and_then(|value| value.choice(&MODES));
    let uninspected = section.get("uninspected").and_then(|value| value.choice(&UNINSPECTED));
    if named.is_none() && mode.is_none() && uninspected.is_none() {
        return above.clone();
    }
    let mut managed = Managed::clone(above);
    match (&named, mode) {
        (_, Some(mode)) => managed.mode = mode,
        // Who names rules wants to know what they say, and nobody is turned away by a list that was only named.
        (Some(_), None) if managed.rules.is_empty() => managed.mode = ManagedMode::Detect,
        _ => {}
    }
    if let Some(Named { rules, files }) = named.flatten() {
        (managed.rules, managed.files) = (rules, files);
    } else if let Some(value) =
        section.get("mode").filter(|_| managed.rules.is_empty() && managed.mode != ManagedMode::Off)
        && section.get("rules").is_none()
    {
        let message = "managed rules are to be asked, and there are none";
        value.fault(message, format!("add rules = {EXAMPLE} here or in [firewall.managed]"));
    }
    managed.uninspected = uninspected.unwrap_or(managed.uninspected);
    Arc::new(managed)
}

/// The files that a list names.
fn named(value: &Value<'_>, lists: &Lists) -> Option<Named> {
    let texts = value.texts(EXAMPLE)?;
    if texts.is_empty() {
        value.fault("`rules` names no file", format!("write rules = {EXAMPLE}, or mode = \"off\""));
    }
    let paths: Option<Vec<_>> = texts.iter().map(|(_, item)| item.path("\"rules/*.conf\"")).collect();
    let paths = paths?;
    if let Some(known) = lists.managed.0.borrow().get(&paths) {
        return Some(known.clone());
    }
    if lists.managed.0.borrow().len() >= MAX_LISTS {
        let remedy = "let zones share lists: each takes as much memory as all rules in it";
        value.fault(format!("there are more than {MAX_LISTS} different lists of managed rules"), remedy);
        return None;
    }
    let rules: Vec<_> = paths.iter().zip(&texts).flat_map(|(path, (_, item))| fitting(path, item)).collect();
    if rules.len() > MAX_FILES {
        let message = format!("`rules` names {} files, more than {MAX_FILES}", rules.len());
        value.fault(message, "name fewer, for instance a folder that has nothing else in it");
    }
    let files = beside(&rules);
    files.iter().for_each(|file| lists.follow(file.clone()));
    let named = Named { rules: rules.into(), files: files.into_iter().collect() };
    lists.managed.0.borrow_mut().insert(paths, named.clone());
    Some(named)
}

/// A file, or all in a folder whose names fit a pattern, by name.
fn fitting(path: &Path, value: &Value<'_>) -> Vec<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if !name.contains('*') {
        match fs::metadata(path) {
            Ok(file) if file.is_file() => return vec![path.to_owned()],
            Ok(_) => value.fault(format!("{} is not a file", path.display()), "end it with /*.conf"),
            Err(error) => value.fault(
                format!("the rules {} cannot be read: {error}", path.display()),
                "put them there (Debian's package modsecurity-crs has the OWASP Core Rule Set), or correct the path",
            ),
        }
        return Vec::new();
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let pattern = match Pattern::new(name) {
        Ok(pattern) => pattern,
        Err(error) => {
            value.fault(format!("{name:?} is no pattern: {error}"), "write for example *.conf");
            return Vec::new();
        }
    };
    let files = match names(folder) {
        Ok(files) => files,
        Err(error) => {
            let message = format!("the folder {} cannot be read: {error}", folder.display());
            value.fault(message, "create it, or correct the path");
            return Vec::new();
        }
    };
    let hidden = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
    let fits: Vec<_> = files
        .into_iter()
        .filter(|name| pattern.matches_with(name, hidden))
        .map(|name| folder.join(name))
        .collect();
    if fits.is_empty() {
        value.fault(format!("no file fits {}", path.display()), "correct the path, or leave it out");
    }
    fits
}

/// The names of a folder's files that are text, in their order.
fn names(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && fs::metadata(entry.path()).is_ok_and(|file| file.is_file())
        {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The files of rules, and what in their folders may be part of them.
fn beside(rules: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = rules.iter().cloned().collect();
    let folders: BTreeSet<_> = rules.iter().filter_map(|file| file.parent()).collect();
    for folder in folders {
        // What cannot be read now was said of the rule.
        for name in names(folder).unwrap_or_default() {
            if name.ends_with(".conf") || name.ends_with(".data") {
                files.insert(folder.join(name));
            }
        }
    }
    files
}
