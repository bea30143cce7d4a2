//! The terminal while the demo has it: the alternate screen, without a cursor and without echo.
//!
//! Every frame is one write in which each cell is written once and nothing is erased, so nothing flickers. The terminal is
//! given back when the value is dropped, also by a panic.

use std::io;

use nix::sys::termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};
use terminal_size::{Height, Width, terminal_size_of};

use crate::{output, text::Line};

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[2J";
/// Terminals that know it show a frame at once; others ignore it.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

/// A terminal that is ours until the value is dropped.
pub struct Screen {
    colour: bool,
    size: (usize, usize),
    /// How stdin was, if it is a terminal.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal that stdout is.
    pub fn enter() -> io::Result<Self> {
        let before = quiet_keys();
        let screen = Self { colour: output::has_colour(true), size: (0, 0), before };
        output::to_stdout_or_nobody(ENTER)?;
        Ok(screen)
    }

    /// Shows a frame. `frame` makes it for a width and a height.
    pub fn draw(&mut self, frame: impl FnOnce(usize, usize) -> Vec<Line>) -> io::Result<()> {
        let size = terminal_size_of(io::stdout())
            .map_or((80, 24), |(Width(width), Height(height))| (width.into(), height.into()));
        let mut text = BEGIN.to_owned();
        if std::mem::replace(&mut self.size, size) != size {
            text.push_str(CLEAR);
        }
        let (width, height) = size;
        let lines = frame(width, height);
        for row in 0..height {
            let line = lines.get(row);
            let rendered = line.map(|line| line.render(self.colour)).unwrap_or_default();
            let written = line.map_or(0, |line| line.render(false).chars().count());
            let rest = " ".repeat(width.saturating_sub(written));
            text.push_str(&format!("\x1b[{};1H{rendered}{rest}", row + 1));
        }
        text.push_str(END);
        output::to_stdout_or_nobody(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone, and is nobody's then.
        let _ = output::to_stdout_or_nobody(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Keys are not shown any more; signals by keys stay. Returns how it was.
fn quiet_keys() -> Option<Termios> {
    let before = tcgetattr(io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSANOW, &quiet).ok()?;
    Some(before)
}
