//! A table for people: columns as wide as their widest cell, numbers to the right.

use crate::text::{Line, Style};

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Two blanks between columns.
const GAP: usize = 2;

/// A header and rows of as many cells.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(Style, String)>>,
    least: Vec<usize>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = (&'static str, Align)>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new(), least: Vec::new() }
    }

    /// The first columns are at least so wide: a table that is drawn again and again does not jump.
    pub fn at_least(mut self, widths: &[usize]) -> Self {
        self.least = widths.to_vec();
        self
    }

    /// Appends a row; cells that are missing at its end are empty.
    pub fn push(&mut self, cells: Vec<(Style, String)>) {
        self.rows.push(cells);
    }

    /// The header, then the rows.
    pub fn lines(self) -> Vec<Line> {
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(i, (title, _))| self.width(i, title)).collect();
        let header = self.columns.iter().map(|(title, _)| (Style::Faint, (*title).to_owned())).collect();
        std::iter::once(header).chain(self.rows).map(|row| line(&self.columns, &widths, row)).collect()
    }

    fn width(&self, column: usize, title: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(_, text)| text.chars().count());
        let least = self.least.get(column).copied().unwrap_or(0);
        cells.chain([title.chars().count(), least]).max().unwrap_or(0)
    }
}

fn line(columns: &[(&str, Align)], widths: &[usize], row: Vec<(Style, String)>) -> Line {
    let mut line = Line::default();
    for (i, ((style, text), width)) in row.into_iter().zip(widths).enumerate() {
        let gap = " ".repeat(if i == 0 { 0 } else { GAP });
        let padding = " ".repeat(width - text.chars().count());
        line = match columns[i].1 {
            Align::Left => line.and(Style::Plain, gap).and(style, text).and(Style::Plain, padding),
            Align::Right => line.and(Style::Plain, gap + &padding).and(style, text),
        };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    #[test]
    fn numbers_stand_under_each_other() {
        let mut table = Table::new([("zone", Align::Left), ("live", Align::Right), ("", Align::Left)]);
        table.push(vec![(Style::Plain, "a.example".into()), (Style::Strong, "7".into())]);
        table.push(vec![
            (Style::Plain, "b".into()),
            (Style::Plain, "12345".into()),
            (Style::Plain, "draining".into()),
        ]);
        let expected = "\
zone        live
a.example      7
b          12345  draining
";
        assert_eq!(to_text(&table.lines(), false), expected);
    }
}
