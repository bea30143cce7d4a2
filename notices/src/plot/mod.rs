//! The evidence of a zone as a picture: its last 30 days against the guideline, for a mail, a page and paper.
//!
//! The same [`Plot`] is the same SVG, byte for byte, and the PNG is that SVG drawn with fonts that come with weir: a server
//! needs none. What counts is told by shape as well as by colour (over parts by a bar below, unknown parts by hatching, the
//! guideline by dashes), so it can be read in black and white. Times are UTC.

mod curve;
mod draw;
mod ink;
mod png;
mod scale;

pub use png::PngError;
pub use scale::thousands;

use time::OffsetDateTime;
use weir_reachout::slot::{Judgement, SlotIndex};

/// Width of the picture in CSS pixels; the PNG has [`PNG_SCALE`] times as many.
pub const WIDTH: u32 = 760;
pub const HEIGHT: u32 = 420;
/// Enough for paper and for dense screens.
pub const PNG_SCALE: u32 = 2;

/// What a picture is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    pub zone: String,
    pub plan: String,
    /// The first slot that is shown, and the one after the last.
    pub from: SlotIndex,
    pub until: SlotIndex,
    /// In order. Slots that are missing are unknown.
    pub slots: Vec<PlotSlot>,
    /// Guidelines with the slot from which each was in force, in order; one at least.
    pub guidelines: Vec<(SlotIndex, u64)>,
    /// A slot above this many guidelines is over.
    pub over_ratio: f64,
    /// Starts of the counted spikes; their numbers are their order.
    pub spikes: Vec<SlotIndex>,
    /// Other plans' guidelines.
    pub levels: Vec<Level>,
    /// What the budgets were at the end.
    pub totals: Totals,
}

/// A slot as it is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlotSlot {
    pub index: SlotIndex,
    /// Mean of live WebSockets.
    pub mean: f64,
    /// Highest count that was seen.
    pub max: f64,
    pub judgement: Judgement,
}

/// A plan that a customer may compare with.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    pub plan: String,
    pub guideline: u64,
}

/// The numbers under the title.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub over_hours: f64,
    /// Known part of the time, 0 to 1.
    pub coverage: f64,
}

impl Plot {
    /// Of nothing, to try templates with.
    pub(crate) fn empty() -> Self {
        Self {
            zone: String::new(),
            plan: String::new(),
            from: SlotIndex::EPOCH,
            until: SlotIndex::EPOCH.forth(1),
            slots: Vec::new(),
            guidelines: vec![(SlotIndex::EPOCH, 1)],
            over_ratio: 1.1,
            spikes: Vec::new(),
            levels: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// The guideline in force at the end.
    pub fn guideline(&self) -> u64 {
        self.guidelines.last().map_or(0, |(_, guideline)| *guideline)
    }

    /// The highest count that is not over.
    pub fn over_above(&self) -> u64 {
        // Products that should be whole are not always.
        (self.guideline() as f64 * self.over_ratio + 1e-6).floor() as u64
    }

    /// Rounded down: 99.97 % known is not all.
    pub fn known_percent(&self) -> u32 {
        (self.totals.coverage.clamp(0.0, 1.0) * 100.0 + 1e-9).floor() as u32
    }

    /// A whole SVG document. It has no style sheet and no script, so it may stand in a page with a strict policy.
    pub fn svg(&self) -> String {
        draw::picture(self)
    }

    /// The SVG as a PNG of [`PNG_SCALE`] times its size.
    ///
    /// # Errors
    /// If the picture could not be drawn, which is a fault of weir's.
    pub fn png(&self) -> Result<Vec<u8>, PngError> {
        png::render(&self.svg())
    }

    /// The picture in words, for readers that see none.
    pub fn description(&self) -> String {
        let spikes = match self.spikes.len() {
            0 => "no separate occasion".to_owned(),
            1 => "1 separate occasion".to_owned(),
            n => format!("{n} separate occasions"),
        };
        let guideline = self.guideline();
        format!(
            "Live WebSockets of {} from {} to {} (UTC). Guideline {} (plan {}). Above {} for {:.1} hours, on {spikes}. {} % of the time is known.",
            self.zone,
            date(self.from.start()),
            date(self.until.start()),
            thousands(guideline),
            self.plan,
            thousands(self.over_above()),
            self.totals.over_hours,
            self.known_percent(),
        )
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `7 Nov`.
fn day(at: OffsetDateTime) -> String {
    format!("{} {}", at.day(), MONTHS[usize::from(u8::from(at.month())) - 1])
}

/// `7 Nov 2026`.
fn date(at: OffsetDateTime) -> String {
    format!("{} {}", day(at), at.year())
}

#[cfg(test)]
mod tests;
