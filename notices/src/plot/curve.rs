//! A month of slots as what fits into some hundred pixels: columns for the curve, runs for what is shaded.
//!
//! A column keeps the lowest and the highest mean of its slots and their highest count, so a spike of 10 minutes is as high
//! in a month's picture as it was. Runs closer than a pixel become one: the picture's size has a bound.

use weir_reachout::slot::{Judgement, SlotIndex};

use super::{PlotSlot, scale::Scale};

/// One pixel's width of known slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    pub x: f64,
    pub lowest: f64,
    pub highest: f64,
    pub max: f64,
}

/// Columns without a gap between them.
pub type Piece = Vec<Column>;

/// The curve, in pieces where nothing is known in between.
pub fn pieces(slots: &[PlotSlot], scale: &Scale) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut last: Option<SlotIndex> = None;
    for slot in slots.iter().filter(|slot| slot.judgement.is_known()) {
        let x = scale.x(slot.index);
        // Half a pixel of gap is not seen; more is a gap.
        let joined = last.is_some_and(|last| x - scale.x(last.next()) < 0.5);
        last = Some(slot.index);
        if !joined {
            pieces.push(Vec::new());
        }
        let Some(piece) = pieces.last_mut() else { continue };
        match piece.last_mut() {
            Some(column) if x.floor() <= column.x => {
                column.lowest = column.lowest.min(slot.mean);
                column.highest = column.highest.max(slot.mean);
                column.max = column.max.max(slot.max);
            }
            _ => piece.push(Column { x: x.floor(), lowest: slot.mean, highest: slot.mean, max: slot.max }),
        }
    }
    pieces
}

/// Where slots are over: left and right edges.
pub fn over(slots: &[PlotSlot], scale: &Scale) -> Vec<(f64, f64)> {
    let over = slots.iter().filter(|slot| slot.judgement == Judgement::Over);
    merge(over.map(|slot| (scale.x(slot.index), scale.x(slot.index.next()))))
}

/// Where nothing is known: slots that are missing, and those that are judged so.
pub fn unknown(slots: &[PlotSlot], from: SlotIndex, until: SlotIndex, scale: &Scale) -> Vec<(f64, f64)> {
    let mut next = from;
    let mut gaps = Vec::new();
    let known = slots.iter().filter(|slot| slot.judgement.is_known()).map(|slot| slot.index);
    for index in known.chain([until]) {
        if index > next {
            gaps.push((scale.x(next), scale.x(index)));
        }
        next = index.next().max(next);
    }
    // An instant that is not known is in the known part's number, and no picture shows it.
    gaps.retain(|(left, right)| right - left >= 0.5);
    merge(gaps.into_iter())
}

fn merge(runs: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (left, right) in runs {
        match merged.last_mut() {
            Some(last) if left - last.1 < 1.0 => last.1 = last.1.max(right),
            _ => merged.push((left, right)),
        }
    }
    merged
}
