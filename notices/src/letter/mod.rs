//! Letters to a customer: a subject, a text and an HTML, from templates that the operator may replace one by one.
//!
//! [`About`] is all that a template may say, as numbers and words that are ready to be read; nothing in it is a guess. A
//! template that says anything else is a fault with file and line, found when the templates are read: each is tried
//! with a letter that has everything and with one that has as little as there can be. HTML is escaped, a subject is one line.

mod about;
mod templates;

pub use about::{About, Letterhead, Limit, Links, Next, Offer, Resource, day_in_words};
pub use templates::{TemplateError, Templates};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::plot::{Plot, PngError};

/// `Content-ID` of the plot in every letter.
pub const PLOT_ID: &str = "evidence@weir";

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    pub text: String,
    /// Refers to the plot as `cid:evidence@weir`.
    pub html: String,
    pub plot_png: Vec<u8>,
}

/// Why there is no letter.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Plot(#[from] PngError),
}

impl Letter {
    pub fn write(templates: &Templates, about: &About, plot: &Plot) -> Result<Self, LetterError> {
        let (subject, text) = templates.text(about)?;
        let html = templates.html(about, &subject)?;
        Ok(Self { subject, text, html, plot_png: plot.png()? })
    }

    /// For a person who looks at it before it is sent: the subject and the text.
    pub fn preview_text(&self) -> String {
        format!("Subject: {}\n\n{}", self.subject, self.text)
    }

    /// The same for a browser: the HTML with the plot in it.
    pub fn preview_html(&self) -> String {
        let plot = format!("data:image/png;base64,{}", STANDARD.encode(&self.plot_png));
        self.html.replace(&format!("cid:{PLOT_ID}"), &plot)
    }
}

#[cfg(test)]
pub(crate) mod tests;
