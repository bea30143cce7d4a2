//! The figures as a page for people: tables between two marks of `docs/performance.md`, plots beside it.

mod plot;

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use time::OffsetDateTime;

use crate::{
    contender::{Kind, Programs},
    report::{Report, Spread},
    rows::{Figure, Goal, Row, Sizes, Work},
};

const BEGIN: &str = "<!-- figures: written by `cargo xtask bench proxy` -->";
const END: &str = "<!-- figures end -->";
const PAGE: &str = "performance.md";
const PLOTS: &str = "performance";

/// Puts the figures where they belong.
///
/// # Errors
/// If there is no such page, or it has no marks.
pub fn write(docs: &Path, report: &Report, sizes: &Sizes, programs: &Programs) -> Result<()> {
    let page = docs.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let plots = plot::draw(report)?;
    let folder = docs.join(PLOTS);
    fs::create_dir_all(&folder)?;
    let mut figures = format!("{}\n\n", machine(report, sizes, programs));
    for plot in &plots {
        fs::write(folder.join(&plot.file), &plot.svg)?;
        let _ = writeln!(figures, "![{}]({PLOTS}/{})\n", plot.title, plot.file);
    }
    figures += &tables(report);
    let text = between_marks(&text, &figures)
        .with_context(|| format!("{} does not have the marks of the figures", page.display()))?;
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))
}

fn between_marks(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{figures}{END}{after}"))
}

/// A table of what has goals, then one of everything.
pub fn tables(report: &Report) -> String {
    let kinds = report.kinds();
    let mut text = String::from("| row | figure | goal | weir |  |\n| --- | --- | --- | --- | --- |\n");
    for (row, figure) in told(report) {
        let verdict = report.verdict(&row, figure);
        let (Some(goal), Some(held)) = (verdict.goal, verdict.held) else { continue };
        let (goal, is) = match (goal, verdict.ratio) {
            (Goal::Ratio(most), Some((ratio, peer))) => {
                (format!("{most:.2} of the best"), format!("{ratio:.2} of {peer}'s"))
            }
            (Goal::AtMost(most), _) => {
                let ours = report.get(&row, figure, Kind::Weir).map_or(f64::NAN, |ours| ours.median);
                (format!("{most:.0} KiB"), format!("{ours:.2} KiB"))
            }
            (Goal::Ratio(_), None) => continue,
        };
        let _ = writeln!(
            text,
            "| {row} | {} | {goal} | {is} | {} |",
            figure.title(),
            if held { "held" } else { "missed" }
        );
    }
    text += &counting(report);
    let heads: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let _ = write!(
        text,
        "\nMedians, with the lowest and the highest of the rounds.\n\n| row | figure | {} |\n",
        heads.join(" | ")
    );
    let _ = writeln!(text, "| --- | --- |{}", " --- |".repeat(kinds.len()));
    for (row, figure) in told(report) {
        let cells: Vec<_> = kinds
            .iter()
            .map(|kind| {
                report.get(&row, figure, *kind).map_or_else(|| "-".to_owned(), |spread| cell(&spread))
            })
            .collect();
        let _ = writeln!(text, "| {row} | {} | {} |", figure.title(), cells.join(" | "));
    }
    for failure in report.failures() {
        let _ = writeln!(text, "\nNot measured: {failure}");
    }
    text
}

/// What counting costs: weir with an agent on its host, beside weir without one.
fn counting(report: &Report) -> String {
    let mut text =
        String::from("\n| row | goal | weir, of weir that does not count |  |\n| --- | --- | --- | --- |\n");
    for row in report.rows() {
        let most = match row.work {
            Work::Upgrades { .. } | Work::Churn { .. } => 1.03,
            Work::Echo { .. } => 1.0,
            _ => continue,
        };
        let of = |kind| report.get(row, Figure::CpuMicros, kind);
        let (Some(with), Some(without)) = (of(Kind::Weir), of(Kind::WeirUncounted)) else { continue };
        let ratio = with.median / without.median;
        // To the two digits that are told.
        let is = if (ratio * 100.0).round() <= most * 100.0 { "held" } else { "missed" };
        let _ = writeln!(text, "| {row} | {most:.2} | {ratio:.2} | {is} |");
    }
    text
}

fn told(report: &Report) -> impl Iterator<Item = (Row, Figure)> {
    report.rows().flat_map(|row| report.figures(row).into_iter().map(|figure| (*row, figure)))
}

/// Three digits are as many as a shared machine can tell apart.
fn cell(Spread { median, low, high }: &Spread) -> String {
    let digits = match median.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("**{median:.digits$}** ({low:.digits$} to {high:.digits$})")
}

fn machine(report: &Report, sizes: &Sizes, programs: &Programs) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let release = file("/proc/sys/kernel/osrelease");
    let kernel = release.trim().split('-').next().unwrap_or_default();
    let versions: Vec<_> = report
        .kinds()
        .into_iter()
        .filter(|kind| *kind == Kind::Weir || kind.is_peer())
        .filter_map(|kind| version(kind, programs))
        .collect();
    let date = OffsetDateTime::now_utc().date();
    let load = file("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!(
        "Measured on {date}: {cpu}, two cores, Linux {kernel}, load {load} at the end. {}. {} rounds of {} ms each{}.",
        versions.join(", "),
        sizes.rounds,
        sizes.window.as_millis(),
        if cfg!(debug_assertions) { ", by a load that was not built for release" } else { "" },
    )
}

fn version(kind: Kind, programs: &Programs) -> Option<String> {
    let program = programs.find(kind).ok()?;
    let argument = match kind {
        Kind::Haproxy | Kind::Nginx => "-v",
        _ => "--version",
    };
    let output = Command::new(program).arg(argument).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let word = said
        .split(|c: char| c.is_whitespace() || c == '/')
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(format!("{kind} {}", word.split('-').next().unwrap_or(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Security, Work};

    #[test]
    fn figures_replace_those_before_and_nothing_else() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let once = between_marks(&page, "new\n").expect("marks");
        assert_eq!(once, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(between_marks(&once, "new\n").as_ref(), Some(&once));
        assert!(between_marks("no marks", "new").is_none());
    }

    #[test]
    fn a_goal_that_is_missed_is_called_so() {
        let row = Row { security: Security::Wss, work: Work::Idle { connections: 10 } };
        let mut report = Report::default();
        report.add(row, Kind::Weir, vec![(Figure::ProcessKib, 8.5)]);
        report.add(row, Kind::Haproxy, vec![(Figure::ProcessKib, 16.6)]);
        let text = tables(&report);
        assert!(text.contains("| idle wss, 10 | process, KiB each | 2 KiB | 8.50 KiB | missed |"), "{text}");
    }

    #[test]
    fn the_page_of_the_documents_has_the_marks() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(PAGE);
        let text = fs::read_to_string(page).expect("the page");
        assert!(between_marks(&text, "").is_some());
    }
}
