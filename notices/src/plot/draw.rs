//! The picture, from the back to the front: paper, what is over and what is not known, grid, curve, guideline and plans,
//! numbers of the spikes, and words around it.

use weir_reachout::slot::SlotIndex;

use super::{
    HEIGHT, Plot, WIDTH, curve, date, day,
    ink::{Anchor, Ink, Px, Type},
    scale::{Frame, Scale, thousands},
};

const FRAME: Frame = Frame { left: 62.0, right: 648.0, top: 92.0, bottom: 330.0 };
/// The bar that says where the zone is over, below the frame.
const BAR: (f64, f64) = (333.0, 340.0);

const TITLE: Type = Type { size: 17.0, bold: true, colour: "#111" };
const WORDS: Type = Type { size: 12.5, bold: false, colour: "#333" };
const AXIS: Type = Type { size: 12.0, bold: false, colour: "#333" };
const LEVEL: Type = Type { size: 12.0, bold: false, colour: "#555" };
const GUIDELINE: Type = Type { size: 12.0, bold: true, colour: "#000" };
const NUMBER: Type = Type { size: 11.0, bold: true, colour: "#fff" };

const OVER_TINT: &str = "#fbd9bf";
const OVER: &str = "#c2410c";
const MEAN: &str = "#1d4f8c";
const PEAK: &str = "#a9c3e0";
const HATCH: &str = "url(#unknown)";

/// A plan further up than this many times the highest count is not drawn: it would press the curve flat.
const SEEN_ABOVE: f64 = 1.6;
/// An hour: what of a spike its number's line ends at.
const SPIKE_SLOTS: u32 = 12;
/// Between two texts at the right.
const LINE_HEIGHT: f64 = 15.0;

pub fn picture(plot: &Plot) -> String {
    let title = format!("{}: live WebSockets", plot.zone);
    let mut ink = Ink::new(WIDTH, HEIGHT, &title, &plot.description());
    let levels = levels(plot);
    let top = levels.iter().map(|(_, guideline)| *guideline as f64).fold(highest(plot), f64::max);
    let scale = Scale::new(FRAME, plot.from, plot.until, top);

    ink.put(format_args!(
        "<defs><pattern id=\"unknown\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\" fill=\"#f4f4f4\"/><rect width=\"1.6\" height=\"7\" fill=\"#8a8a8a\"/></pattern></defs>\n"
    ));
    ink.rect((0.0, 0.0), (f64::from(WIDTH), f64::from(HEIGHT)), "#fff");
    heading(&mut ink, plot);
    shades(&mut ink, plot, &scale);
    grid(&mut ink, plot, &scale);
    curve(&mut ink, plot, &scale);
    plans(&mut ink, plot, &levels, &scale);
    spikes(&mut ink, plot, &scale);
    legend(&mut ink);
    ink.finish()
}

/// The highest count, with room for the guideline.
fn highest(plot: &Plot) -> f64 {
    let max = plot.slots.iter().filter(|slot| slot.judgement.is_known()).map(|slot| slot.max);
    let guidelines = plot.guidelines.iter().map(|(_, guideline)| *guideline as f64 * 1.3);
    max.chain(guidelines).filter(|count| count.is_finite()).fold(1.0, f64::max)
}

/// The other plans that are seen, smallest first.
fn levels(plot: &Plot) -> Vec<(&str, u64)> {
    let bound = highest(plot) * SEEN_ABOVE;
    let other = |level: &&super::Level| level.plan != plot.plan && level.guideline as f64 <= bound;
    let mut levels: Vec<(&str, u64)> =
        plot.levels.iter().filter(other).map(|level| (level.plan.as_str(), level.guideline)).collect();
    levels.sort_by_key(|(_, guideline)| *guideline);
    levels
}

fn heading(ink: &mut Ink, plot: &Plot) {
    ink.text((16.0, 27.0), Anchor::Start, TITLE, &cut(&plot.zone, 62));
    let last = plot.until.back(1);
    let span = format!(
        "Live WebSockets, {} to {} (UTC). Guideline {}; counted as over above {}.",
        date(plot.from.start()),
        date(last.start()),
        thousands(plot.guideline()),
        thousands(plot.over_above()),
    );
    ink.text((16.0, 47.0), Anchor::Start, WORDS, &span);
    let occasions = match plot.spikes.len() {
        0 => String::new(),
        1 => " 1 separate occasion (numbered).".to_owned(),
        n => format!(" {n} separate occasions (numbered)."),
    };
    let known = plot.known_percent();
    let totals =
        format!("Over for {:.1} hours in this time.{occasions} {known} % is known.", plot.totals.over_hours);
    ink.text((16.0, 64.0), Anchor::Start, WORDS, &totals);
}

fn shades(ink: &mut Ink, plot: &Plot, scale: &Scale) {
    let Frame { top, bottom, .. } = FRAME;
    for (left, right) in curve::over(&plot.slots, scale) {
        let right = right.max(left + 1.5);
        ink.rect((left, top), (right, bottom), OVER_TINT);
        ink.rect((left, BAR.0), (right, BAR.1), OVER);
    }
    for (left, right) in curve::unknown(&plot.slots, plot.from, plot.until, scale) {
        ink.rect((left, top), (right.max(left + 2.0), bottom), HATCH);
    }
}

fn grid(ink: &mut Ink, plot: &Plot, scale: &Scale) {
    let Frame { left, right, top, bottom } = FRAME;
    for count in scale.counts() {
        let y = scale.y(count as f64);
        ink.line((left, y), (right, y), "stroke=\"#d4d4d4\" stroke-width=\"0.8\"");
        ink.text((left - 7.0, y + 4.3), Anchor::End, AXIS, &thousands(count));
    }
    for (midnight, written) in scale.midnights(plot.until) {
        let x = scale.x(SlotIndex::containing(midnight));
        let length = if written { 8.0 } else { 4.0 };
        ink.line((x, BAR.1), (x, BAR.1 + length), "stroke=\"#333\" stroke-width=\"0.8\"");
        if written {
            ink.line((x, top), (x, bottom), "stroke=\"#e2e2e2\" stroke-width=\"0.8\"");
            ink.text((x, BAR.1 + 22.0), Anchor::Middle, AXIS, &day(midnight));
        }
    }
    ink.line((left, bottom), (right, bottom), "stroke=\"#333\" stroke-width=\"1\"");
    ink.line((left, top), (left, bottom), "stroke=\"#333\" stroke-width=\"1\"");
    ink.line((left, BAR.1), (right, BAR.1), "stroke=\"#333\" stroke-width=\"0.6\"");
}

fn curve(ink: &mut Ink, plot: &Plot, scale: &Scale) {
    let pieces = curve::pieces(&plot.slots, scale);
    for piece in &pieces {
        let Some(last) = piece.last() else { continue };
        let end = (last.x + 1.0).min(FRAME.right);
        // Between the lowest mean and the highest count of each column.
        let upper = piece.iter().map(|column| (column.x, scale.y(column.max)));
        let lower = piece.iter().rev().map(|column| (column.x, scale.y(column.lowest)));
        let edge = [(end, scale.y(last.max)), (end, scale.y(last.lowest))];
        ink.path(
            upper.chain(edge).chain(lower),
            &format!("fill=\"{PEAK}\" stroke=\"{PEAK}\" stroke-width=\"0.8\" stroke-linejoin=\"round\""),
        );
        let upper = piece.iter().map(|column| (column.x, scale.y(column.highest)));
        let lower = piece.iter().rev().map(|column| (column.x, scale.y(column.lowest)));
        let edge = [(end, scale.y(last.highest)), (end, scale.y(last.lowest))];
        ink.path(
            upper.chain(edge).chain(lower),
            &format!("fill=\"{MEAN}\" stroke=\"{MEAN}\" stroke-width=\"1.4\" stroke-linejoin=\"round\""),
        );
    }
}

/// The guideline as it was at each time, the other plans, and their names at the right.
fn plans(ink: &mut Ink, plot: &Plot, levels: &[(&str, u64)], scale: &Scale) {
    let Frame { left, right, .. } = FRAME;
    for (_, guideline) in levels {
        let y = scale.y(*guideline as f64);
        ink.line((left, y), (right, y), "stroke=\"#555\" stroke-width=\"1\" stroke-dasharray=\"1.5 4\"");
    }
    let changes = plot.guidelines.iter().skip(1).map(|(from, _)| *from).chain([plot.until]);
    let mut steps = Vec::new();
    for ((from, guideline), to) in plot.guidelines.iter().zip(changes) {
        let y = scale.y(*guideline as f64);
        steps.extend([(scale.x((*from).max(plot.from)), y), (scale.x(to.max(plot.from)), y)]);
    }
    // On white below it, so that it is seen across the curve.
    ink.path(steps.iter().copied(), "fill=\"none\" stroke=\"#fff\" stroke-width=\"3.4\" opacity=\"0.75\"");
    ink.path(
        steps.into_iter(),
        "fill=\"none\" stroke=\"#000\" stroke-width=\"1.7\" stroke-dasharray=\"8 4\"",
    );

    let ours =
        (format!("{} {}", cut(&plot.plan, 9), thousands(plot.guideline())), plot.guideline(), GUIDELINE);
    let others = levels
        .iter()
        .map(|(plan, guideline)| (format!("{} {}", cut(plan, 9), thousands(*guideline)), *guideline, LEVEL));
    let mut names: Vec<_> =
        others.chain([ours]).map(|(text, at, look)| (scale.y(at as f64), text, look)).collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    // From the bottom up, each at its line or as far above the one below as a text is high.
    let mut below = f64::INFINITY;
    for (y, text, look) in names {
        let place = y.min(below - LINE_HEIGHT);
        below = place;
        if place > FRAME.top - LINE_HEIGHT {
            ink.text((right + 7.0, place + 4.3), Anchor::Start, look, &text);
        }
    }
}

fn spikes(ink: &mut Ink, plot: &Plot, scale: &Scale) {
    let y = FRAME.top - 11.0;
    let mut last = f64::NEG_INFINITY;
    for (n, spike) in plot.spikes.iter().enumerate().filter(|(_, spike)| **spike >= plot.from) {
        let x = scale.x(*spike);
        // Down to where the spike is, not through it.
        let hour = |slot: &&super::PlotSlot| slot.index >= *spike && slot.index < spike.forth(SPIKE_SLOTS);
        let top = plot.slots.iter().filter(hour).map(|slot| slot.max).fold(0.0, f64::max);
        let end = (scale.y(top) - 2.0).max(FRAME.top);
        ink.line((x, y), (x, end), "stroke=\"#111\" stroke-width=\"0.9\" stroke-dasharray=\"2 2\"");
        // Numbers stand side by side; the line says where.
        let middle = x.max(last + 17.0);
        last = middle;
        ink.put(format_args!("<circle cx=\"{}\" cy=\"{}\" r=\"8\" fill=\"#111\"/>\n", Px(middle), Px(y)));
        ink.text((middle, y + 4.0), Anchor::Middle, NUMBER, &(n + 1).to_string());
    }
}

fn legend(ink: &mut Ink) {
    let (top, bottom) = (382.0, 394.0);
    let mut x = FRAME.left;
    let mut next = |width: f64| {
        let here = x;
        x += width;
        here
    };
    let words = |ink: &mut Ink, x: f64, text: &str| {
        ink.text((x + 26.0, bottom - 1.5), Anchor::Start, AXIS, text);
    };
    let here = next(128.0);
    ink.rect((here, top + 2.0), (here + 20.0, bottom - 2.0), MEAN);
    words(ink, here, "5 min. mean");
    let here = next(118.0);
    ink.rect((here, top + 2.0), (here + 20.0, bottom - 2.0), PEAK);
    words(ink, here, "highest");
    let here = next(120.0);
    ink.line(
        (here, 388.0),
        (here + 20.0, 388.0),
        "stroke=\"#000\" stroke-width=\"1.7\" stroke-dasharray=\"8 4\"",
    );
    words(ink, here, "guideline");
    let here = next(100.0);
    ink.rect((here, top - 1.0), (here + 20.0, bottom - 4.0), OVER_TINT);
    ink.rect((here, bottom - 4.0), (here + 20.0, bottom), OVER);
    words(ink, here, "over");
    let here = next(120.0);
    ink.rect((here, top), (here + 20.0, bottom), HATCH);
    words(ink, here, "not known");
    ink.text(
        (FRAME.left, 412.0),
        Anchor::Start,
        Type { size: 11.0, ..WORDS },
        "The guideline is what the plan is made for. It is not a limit: going above it refuses nothing.",
    );
}

/// At most so many letters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect()
}
