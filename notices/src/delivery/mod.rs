//! Ways to reach somebody, and what became of an attempt.
//!
//! An attempt ends in [`Outcome`] and in nothing else, within its time limit: what was taken, what will not be taken however often it
//! is tried, what is worth another try. Each attempt of a message carries the same idempotency key, by which its receiver
//! knows a repetition: whoever dies between sending and recording sends again, and one message is seen.
//!
//! What the other side says is read up to a bound and kept as one line; secrets are read from their files at each attempt.

mod alertmanager;
pub mod backoff;
mod http;
mod mail;
mod secret;
mod slack;
mod trust;
mod webhook;

pub use alertmanager::{Alert, Alertmanager};
pub use mail::Mailer;
pub use slack::Slack;
pub use webhook::{Event, SIGNATURE_HEADER, Webhook, signature};

use std::{path::PathBuf, time::Duration};

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it, and called it this.
    Delivered { reference: String },
    /// Never, for this message as it is: no contact, and no use in trying again.
    Refused { why: String },
    /// Not now. `after` is what the receiver asked for, if it did.
    Retry { after: Option<Duration>, why: String },
}

/// A way cannot be made from the configuration.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    #[error("cannot read {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is empty, or is longer than a line")]
    Secret { path: PathBuf },
    #[error("{path} has no certificate in PEM")]
    Certificates { path: PathBuf },
    #[error("the system's certificates cannot be read: {why}; name some with `ca`")]
    SystemCertificates { why: String },
    #[error("TLS cannot be set up: {why}")]
    Tls { why: String },
    #[error("{text} is no address of a web server")]
    Url { text: String },
    #[error("{address} is no mail address")]
    Address { address: String },
}

impl WayError {
    /// With its cause, on one line.
    pub fn in_words(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Longest text of others that is kept.
const LONGEST_WORDS: usize = 300;

/// One line of what somebody else said.
fn one_line(text: &str) -> String {
    let plain = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = plain.collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_WORDS).collect()
}
