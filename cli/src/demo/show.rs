//! How the demo is shown: live on a terminal, or as lines for a file, a pipe, or `--plain`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use super::{picture::View, screen::Screen};
use crate::{
    output,
    text::{Line, to_text},
};

/// Between two snapshots of lines.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5);

/// Where the demo is shown.
pub enum Show {
    Live(Screen),
    Lines {
        colour: bool,
        /// Entries that were written.
        told: usize,
        next_snapshot: Duration,
    },
}

impl Show {
    /// Begins. On a terminal it takes the screen, unless `plain`.
    pub fn begin(plain: bool) -> io::Result<Self> {
        if is_live(plain) {
            return Ok(Self::Live(Screen::enter()?));
        }
        Ok(Self::Lines { colour: colour(), told: 0, next_snapshot: Duration::from_secs(1) })
    }

    /// Shows the present.
    ///
    /// # Errors
    /// If nobody can see it any more.
    pub fn update(&mut self, view: &View<'_>) -> io::Result<()> {
        match self {
            Self::Live(screen) => screen.draw(|width, height| view.screen(width, height)),
            Self::Lines { colour, told, next_snapshot } => {
                let mut lines: Vec<_> = view.entries[*told..].iter().map(|entry| entry.line()).collect();
                *told = view.entries.len();
                if view.elapsed >= *next_snapshot {
                    *next_snapshot = view.elapsed + SNAPSHOT_INTERVAL;
                    lines.push(Line::default());
                    lines.extend(view.snapshot());
                    lines.push(Line::default());
                }
                output::to_stdout_or_nobody(&to_text(&lines, *colour))
            }
        }
    }
}

fn is_live(plain: bool) -> bool {
    !plain && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn colour() -> bool {
    output::has_colour(io::stdout().is_terminal())
}

/// Writes lines to the ordinary screen, or to nobody if it has gone: what is being done is done all the same.
pub fn say(lines: &[Line]) {
    let _ = output::to_stdout_or_nobody(&to_text(lines, colour()));
}
