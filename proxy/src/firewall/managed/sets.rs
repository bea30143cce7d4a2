//! Sets of rules, compiled once: zones that name the same files share one, and a reload keeps those whose files have not changed.
//!
//! A set of the Core Rule Set takes about 18 MiB and 0.1 s of a CPU, so it matters that 100,000 zones have one; the configuration
//! has only so many different ones. Whether a file has changed its stamp says, and that of what lies beside it (`*.data`, `*.conf`); what files
//! include from elsewhere is read when one of these changes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use tracing::info;
use weir_config::Managed;

use super::{
    Findings, Head,
    library::{CompileError, Compiled},
};

/// Rules that are ready.
pub(crate) struct RuleSet {
    rules: Arc<[PathBuf]>,
    stamps: Vec<Option<Stamp>>,
    /// `None` only while it is being dropped.
    compiled: Option<Compiled>,
}

/// Device, inode, size, and when its content and when anything of it changed last.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    let (written, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    Some((file.dev(), file.ino(), file.size(), written, changed))
}

impl RuleSet {
    pub fn inspect(&self, head: &Head) -> Option<Findings> {
        self.compiled.as_ref()?.inspect(head)
    }
}

impl Drop for RuleSet {
    /// The last one to let go may be a request's task, and taking a set down takes milliseconds, or the time that another
    /// one is compiled in.
    fn drop(&mut self) {
        let compiled = self.compiled.take();
        let dropping = thread::Builder::new().name("weir-rules".into());
        // Without a thread the closure, and with it the set, is dropped here.
        let _ = dropping.spawn(move || {
            let _dropped_here = compiled;
        });
    }
}

/// The sets of the snapshot before, and those of the one that is built.
pub(crate) struct Sets {
    before: Vec<Arc<RuleSet>>,
    now: Vec<Arc<RuleSet>>,
}

impl Sets {
    pub fn after(before: Option<&[Arc<RuleSet>]>) -> Self {
        Self { before: before.unwrap_or_default().to_vec(), now: Vec::new() }
    }

    pub fn get(&mut self, config: &Managed) -> Result<Arc<RuleSet>, CompileError> {
        let same = |set: &&Arc<RuleSet>| Arc::ptr_eq(&set.rules, &config.rules) || set.rules == config.rules;
        if let Some(set) = self.now.iter().find(same) {
            return Ok(set.clone());
        }
        // Before they are read, so that a change meanwhile is one.
        let stamps: Vec<_> = config.files.iter().map(|file| stamp(file)).collect();
        let known = self.before.iter().find(|set| same(set) && set.stamps == stamps);
        let set = match known {
            Some(set) => set.clone(),
            None => {
                let compiled = Compiled::of(&config.rules)?;
                info!(files = config.rules.len(), "managed rules are compiled");
                Arc::new(RuleSet { rules: config.rules.clone(), stamps, compiled: Some(compiled) })
            }
        };
        self.now.push(set.clone());
        Ok(set)
    }

    /// For the next snapshot.
    pub fn finish(self) -> Vec<Arc<RuleSet>> {
        self.now
    }
}
