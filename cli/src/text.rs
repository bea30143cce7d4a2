//! Lines of styled text, measured and cut without their colours.
//!
//! A character is one column: what weir prints is ASCII (the configuration lets nothing else into names) and block elements.

/// What a piece of text means; how that looks is decided in [`Line::render`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
    Accent,
}

impl Style {
    /// Parameters of "select graphic rendition" (ECMA-48, 8.3.117): colours of the terminal's own palette.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Strong => Some("1"),
            Self::Faint => Some("2"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Accent => Some("36"),
        }
    }
}

/// One line, without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    spans: Vec<(Style, String)>,
}

impl Line {
    pub fn new(style: Style, text: impl Into<String>) -> Self {
        Self::default().and(style, text)
    }

    /// Appends a piece.
    pub fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.spans.push((style, text.into()));
        self
    }

    /// Appends another line.
    pub fn join(mut self, other: Self) -> Self {
        self.spans.extend(other.spans);
        self
    }

    /// Appends another line so that it ends at the column `width`, if there is room; leaves it out otherwise.
    pub fn right(self, other: Self, width: usize) -> Self {
        match width.checked_sub(self.width() + other.width()) {
            Some(gap @ 1..) => self.and(Style::Plain, " ".repeat(gap)).join(other),
            _ => self,
        }
    }

    pub fn width(&self) -> usize {
        self.spans.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Cuts what is beyond `width`, and says so with an ellipsis.
    pub fn cut(mut self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut room = width.saturating_sub(1);
        for (_, text) in &mut self.spans {
            *text = text.chars().take(room).collect();
            room -= text.chars().count();
        }
        self.spans.retain(|(_, text)| !text.is_empty());
        if width == 0 { self } else { self.and(Style::Faint, "…") }
    }

    /// The line as it is written to a stream.
    pub fn render(&self, colour: bool) -> String {
        let piece = |(style, text): &(Style, String)| match style.code() {
            Some(code) if colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.clone(),
        };
        let line: String = self.spans.iter().map(piece).collect();
        // Padding of a last column is nothing to write.
        line.trim_end_matches(' ').to_owned()
    }
}

/// `1 zone`, `2 zones`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Lines as a text, each with its end.
pub fn to_text(lines: &[Line], colour: bool) -> String {
    lines.iter().map(|line| line.render(colour) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_and_can_be_left_out() {
        let line = Line::new(Style::Bad, "ab").and(Style::Plain, "cd");
        assert_eq!(line.width(), 4);
        assert_eq!(line.render(true), "\x1b[1;31mab\x1b[0mcd");
        assert_eq!(line.render(false), "abcd");
    }

    #[test]
    fn a_cut_line_is_as_wide_as_it_may_be() {
        let line = Line::new(Style::Bad, "abc").and(Style::Plain, "def");
        for width in 0..=8 {
            assert_eq!(line.clone().cut(width).width(), width.min(6), "{width}");
        }
        assert_eq!(line.cut(4).render(false), "abc…");
    }

    #[test]
    fn what_stands_right_ends_at_the_edge_or_is_left_out() {
        let right = || Line::new(Style::Plain, "12s");
        assert_eq!(Line::new(Style::Plain, "demo").right(right(), 10).render(false), "demo   12s");
        assert_eq!(Line::new(Style::Plain, "demo").right(right(), 7).render(false), "demo");
    }
}
