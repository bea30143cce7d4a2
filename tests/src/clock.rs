//! The policy's clock of an agent under test: it walks as far as its file says (`agent/src/reachout/clock.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::World;

/// Virtual time, in hours since its start.
pub struct Clock {
    file: PathBuf,
    start: OffsetDateTime,
}

impl Clock {
    /// It stands at `start` until it is set.
    pub fn new(world: &World, start: OffsetDateTime) -> Self {
        let clock = Self { file: world.folder().join("clock"), start };
        clock.set(0.0);
        clock
    }

    /// One whose alerts are of today, for an Alertmanager, whose clock nobody can set: it starts some hours ago.
    pub fn of_today(world: &World) -> Self {
        let hour = OffsetDateTime::now_utc().unix_timestamp() / 3600 - 4;
        Self::new(world, OffsetDateTime::from_unix_timestamp(hour * 3600).expect("a time"))
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// So many hours after the start.
    pub fn at(&self, hours: f64) -> OffsetDateTime {
        self.start + Duration::seconds((hours * 3600.0).round() as i64)
    }

    /// The same as the command line has it.
    pub fn hour(&self, hours: f64) -> String {
        self.at(hours).format(&Rfc3339).expect("a time")
    }

    /// Lets the agent walk so far. It does not go back.
    pub fn set(&self, hours: f64) {
        let next = self.file.with_extension("next");
        fs::write(&next, self.at(hours).unix_timestamp().to_string()).expect("a file");
        fs::rename(&next, &self.file).expect("a file in place");
    }
}
