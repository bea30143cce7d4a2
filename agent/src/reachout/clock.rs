//! What time it is for the policy: the wall clock, or in tests one that walks.
//!
//! With `WEIR_TEST_CLOCK=FILE` a debug build's policy lives by a clock of its own: it starts at the time that the file holds
//! (seconds since 1970) and walks up to whatever later time the file comes to hold, in steps of [`STEP`] with a look at the kernel's
//! counts at each. Release builds have none of this, and no configuration can ask for it.

use std::time::Duration;

use time::OffsetDateTime;

#[cfg(debug_assertions)]
use std::path::PathBuf;

/// Short enough that what was seen before it is still known after it.
#[cfg(debug_assertions)]
const STEP: time::Duration = time::Duration::seconds(10);
/// On the test's clock a minute of a lease is a second of the kernel's.
#[cfg(debug_assertions)]
const LEASE_PART: u32 = 60;

/// The policy's clock.
#[derive(Debug)]
pub enum Clock {
    Wall,
    #[cfg(debug_assertions)]
    Test {
        file: PathBuf,
        at: OffsetDateTime,
    },
}

impl Clock {
    /// The wall clock, unless a test says otherwise.
    pub fn new() -> Self {
        #[cfg(debug_assertions)]
        if let Some(file) = std::env::var_os("WEIR_TEST_CLOCK").map(PathBuf::from) {
            let at = target(&file).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            tracing::warn!(%at, "the policy lives by a test's clock");
            return Self::Test { file, at };
        }
        Self::Wall
    }

    pub fn now(&self) -> OffsetDateTime {
        match self {
            Self::Wall => OffsetDateTime::now_utc(),
            #[cfg(debug_assertions)]
            Self::Test { at, .. } => *at,
        }
    }

    /// A test's clock goes on where the agent before was when it last wrote.
    pub fn resume(&mut self, _last: OffsetDateTime) {
        #[cfg(debug_assertions)]
        if let Self::Test { at, .. } = self {
            *at = _last;
        }
    }

    /// The time of the next look: now, or the test clock's next step. `None`: nothing is left to walk.
    pub fn step(&mut self) -> Option<OffsetDateTime> {
        match self {
            Self::Wall => Some(OffsetDateTime::now_utc()),
            #[cfg(debug_assertions)]
            Self::Test { file, at } => {
                let target = target(file)?;
                if *at >= target {
                    return None;
                }
                *at = (*at + STEP).min(target);
                Some(*at)
            }
        }
    }

    /// True if there is time to walk through at once.
    pub fn is_walking(&self) -> bool {
        !matches!(self, Self::Wall)
    }

    /// How long a lease that has so much left holds by the kernel's clock.
    pub fn lease_left(&self, left: Duration) -> Duration {
        match self {
            Self::Wall => left,
            #[cfg(debug_assertions)]
            Self::Test { .. } => left / LEASE_PART,
        }
    }
}

#[cfg(debug_assertions)]
fn target(file: &std::path::Path) -> Option<OffsetDateTime> {
    let text = std::fs::read_to_string(file).ok()?;
    OffsetDateTime::from_unix_timestamp(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_walks_nowhere_by_itself() {
        let mut clock = Clock::Wall;
        let before = OffsetDateTime::now_utc();
        assert!(clock.step().unwrap() >= before && !clock.is_walking());
        assert_eq!(clock.lease_left(Duration::from_secs(60)), Duration::from_secs(60));
    }

    #[test]
    fn a_tests_clock_walks_to_where_its_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let at = OffsetDateTime::from_unix_timestamp(1_000_000).unwrap();
        let mut clock = Clock::Test { file: file.clone(), at };
        assert_eq!(clock.step(), None, "no file, no time");
        std::fs::write(&file, "1000015\n").unwrap();
        assert_eq!(clock.step().map(OffsetDateTime::unix_timestamp), Some(1_000_010));
        assert_eq!(clock.step().map(OffsetDateTime::unix_timestamp), Some(1_000_015));
        assert_eq!(clock.step(), None);
        assert_eq!(clock.lease_left(Duration::from_secs(300)), Duration::from_secs(5));
    }
}
