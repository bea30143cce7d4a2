//! Bars: what each contender needs, as a share of the best peer, row by row.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::{
    contender::Kind,
    report::Report,
    rows::{Figure, Row, Work},
};

pub struct Plot {
    pub title: &'static str,
    pub file: String,
    pub svg: String,
}

const WIDTH: u32 = 860;
const BAR: i32 = 13;
const GAP: i32 = 14;
/// Where bars begin, behind the rows' names.
const LEFT: i32 = 290;
const TOP: i32 = 70;
/// The share of the best peer at which the plot ends.
const MOST: f64 = 2.5;

/// One plot a kind of work.
pub fn draw(report: &Report) -> Result<Vec<Plot>> {
    type Chosen = fn(&Work) -> bool;
    let kinds: [(&str, &str, Figure, Chosen); 4] = [
        ("CPU of an upgrade", "upgrades.svg", Figure::CpuMicros, |work| {
            matches!(work, Work::Upgrades { .. } | Work::Churn { .. })
        }),
        ("CPU of a message", "messages.svg", Figure::CpuMicros, |work| matches!(work, Work::Echo { .. })),
        ("CPU of a GiB", "bulk.svg", Figure::CpuSecondsPerGib, |work| matches!(work, Work::Bulk { .. })),
        ("Memory of an idle WebSocket", "idle.svg", Figure::ProcessKib, |work| {
            matches!(work, Work::Idle { .. })
        }),
    ];
    let mut plots = Vec::new();
    for (title, file, figure, chosen) in kinds {
        let rows: Vec<Row> = report.rows().filter(|row| chosen(&row.work)).copied().collect();
        if !rows.is_empty() {
            let svg =
                bars(report, title, figure, &rows).map_err(|why| anyhow!("cannot draw {file}: {why}"))?;
            plots.push(Plot { title, file: file.to_owned(), svg });
        }
    }
    Ok(plots)
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Direct => RGBColor(150, 150, 150),
        Kind::Weir => RGBColor(0, 110, 200),
        Kind::WeirUncounted => RGBColor(130, 190, 240),
        Kind::Haproxy => RGBColor(230, 130, 30),
        Kind::Nginx => RGBColor(40, 150, 80),
        Kind::Sozu => RGBColor(160, 90, 180),
    }
}

fn bars(
    report: &Report,
    title: &str,
    figure: Figure,
    rows: &[Row],
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let kinds: Vec<_> = report.kinds().into_iter().filter(|kind| *kind != Kind::Direct).collect();
    let row_height = BAR * kinds.len() as i32 + GAP;
    let height = (TOP + row_height * rows.len() as i32 + GAP) as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let text = |size| ("sans-serif", size).into_font().color(&BLACK);
        area.draw(&Text::new(
            format!("{title}: share of the best peer's; less is better"),
            (12, 10),
            text(18),
        ))?;
        let mut x = 12;
        for kind in &kinds {
            area.draw(&Rectangle::new([(x, 42), (x + 12, 54)], colour(*kind).filled()))?;
            area.draw(&Text::new(kind.name(), (x + 18, 41), text(13)))?;
            x += 40 + 8 * kind.name().len() as i32;
        }
        let scale = f64::from(WIDTH as i32 - LEFT - 60) / MOST;
        for (at, row) in rows.iter().enumerate() {
            let top = TOP + row_height * at as i32;
            area.draw(&Text::new(row.to_string(), (12, top + row_height / 2 - 12), text(13)))?;
            let best = kinds.iter().filter(|kind| kind.is_peer());
            let best = best.filter_map(|kind| report.get(row, figure, *kind)).map(|spread| spread.median);
            let best = best.fold(f64::INFINITY, f64::min);
            for (place, kind) in kinds.iter().enumerate() {
                let Some(spread) = report.get(row, figure, *kind) else { continue };
                let share = spread.median / best;
                let (y, end) = (top + BAR * place as i32, LEFT + (share.clamp(0.0, MOST) * scale) as i32);
                area.draw(&Rectangle::new([(LEFT, y), (end, y + BAR - 2)], colour(*kind).filled()))?;
                area.draw(&Text::new(format!("{share:.2}"), (end + 5, y - 1), text(12)))?;
            }
        }
        let one = LEFT + scale as i32;
        let line = ShapeStyle::from(&BLACK.mix(0.5)).stroke_width(1);
        area.draw(&PathElement::new(vec![(one, TOP - 6), (one, height as i32 - GAP)], line))?;
        area.present()?;
    }
    Ok(svg)
}
