//! SVG as it is written: numbers to a tenth of a pixel, texts escaped, presentation by attributes only.

use std::fmt::{Display, Write as _};

/// A document that grows.
pub struct Ink(String);

/// `1.5`, `2`: a tenth of a pixel is more than is seen, and the same on every machine.
#[derive(Clone, Copy)]
pub struct Px(pub f64);

impl Display for Px {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = (self.0 * 10.0).round() as i64;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => write!(f, "{whole}"),
            (0, tenth) if tenths < 0 => write!(f, "-0.{}", tenth.abs()),
            (whole, tenth) => write!(f, "{whole}.{}", tenth.abs()),
        }
    }
}

/// Text that may hold anything.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // XML has no word for them.
                control if control.is_control() => f.write_char('\u{fffd}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Where a text's place is in it.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub struct Type {
    pub size: f64,
    pub bold: bool,
    pub colour: &'static str,
}

impl Ink {
    pub fn new(width: u32, height: u32, title: &str, description: &str) -> Self {
        let mut ink = Self(String::with_capacity(32 * 1024));
        ink.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\">\n<title>{}</title>\n<desc>{}</desc>\n",
            Escaped(title),
            Escaped(description)
        ));
        ink
    }

    /// Markup as it is.
    pub fn put(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(markup);
    }

    pub fn rect(&mut self, (left, top): (f64, f64), (right, bottom): (f64, f64), fill: &str) {
        let (width, height) = (Px(right - left), Px(bottom - top));
        let (left, top) = (Px(left), Px(top));
        self.put(format_args!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>\n"
        ));
    }

    /// `look` is further attributes.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), look: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(Px);
        self.put(format_args!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" {look}/>\n"));
    }

    pub fn path(&mut self, steps: impl Iterator<Item = (f64, f64)>, look: &str) {
        self.0.push_str("<path d=\"");
        for (n, (x, y)) in steps.enumerate() {
            let letter = if n == 0 { 'M' } else { 'L' };
            self.put(format_args!("{letter}{} {}", Px(x), Px(y)));
        }
        self.put(format_args!("\" {look}/>\n"));
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, look: Type, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
        let (x, y, size) = (Px(x), Px(y), Px(look.size));
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{weight} text-anchor=\"{anchor}\" fill=\"{}\">{}</text>\n",
            look.colour,
            Escaped(text)
        ));
    }

    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_texts_cannot_break_out() {
        let written: Vec<String> = [0.0, 1.04, 1.05, -0.26, -3.0, 719.96].map(|n| Px(n).to_string()).into();
        assert_eq!(written, ["0", "1", "1.1", "-0.3", "-3", "720"]);
        assert_eq!(Escaped("a<b>&\"\u{1}").to_string(), "a&lt;b&gt;&amp;&quot;\u{fffd}");
    }
}
