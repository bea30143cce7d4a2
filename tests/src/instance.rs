//! weir instances of tests: named after the process that made them, so that what a killed one left can be told.

use std::{
    env, fs,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::host;

const PINS: &str = "/sys/fs/bpf/weir";
/// How the name of a test's folder begins; its instance's follows.
pub const FOLDER: &str = "weir-test-";

/// A name that nobody else has; its programs and maps are removed when this is dropped.
pub struct Instance(String);

impl Instance {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("t{}-{}", process::id(), NEXT.fetch_add(1, Relaxed)))
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(why) = unload(&self.0) {
            eprintln!("instance {} is left behind: {why}", self.0);
        }
    }
}

fn unload(name: &str) -> Result<(), String> {
    let output = Command::new(host::weir()).args(["agent", "--unload", "--instance", name]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Removes the instances and folders of test processes that are no more.
pub fn remove_stale() {
    for name in names_in(Path::new(PINS)).filter(|name| is_stale(name)) {
        if let Err(why) = unload(&name) {
            eprintln!("instance {name} of a test that was killed is left behind: {why}");
        }
    }
    let folders = env::temp_dir();
    for name in names_in(&folders) {
        if name.strip_prefix(FOLDER).is_some_and(is_stale) {
            let _ = fs::remove_dir_all(folders.join(&name));
        }
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// True for a name that begins as an instance's of a test process that is no more.
fn is_stale(name: &str) -> bool {
    let pid = name.strip_prefix('t').and_then(|rest| rest.split_once('-')?.0.parse().ok());
    pid.is_some_and(|pid| !host::is_alive(pid))
}
