//! Slack's incoming webhook: a line of text in a channel. Slack knows no idempotency key, so the message says its own, and a
//! repetition after a crash can be told from a second event.

use std::{path::PathBuf, time::Duration};

use ::http::header;

use super::{
    Outcome, WayError,
    http::{self, Target},
    one_line, secret,
};

/// Slack cuts off longer ones.
const LONGEST_TEXT: usize = 3000;

pub struct Slack {
    url_file: PathBuf,
    ca: Option<PathBuf>,
    timeout: Duration,
}

impl Slack {
    pub fn new(way: &weir_config::Slack, timeout: Duration) -> Self {
        Self { url_file: way.url_file.clone(), ca: way.ca.clone(), timeout }
    }

    /// `text` in Slack's own markup but for what [`escape`] takes out of it.
    pub async fn send(&self, key: &str, text: &str) -> Outcome {
        let target = match self.target() {
            Ok(target) => target,
            Err(error) => return Outcome::Retry { after: None, why: one_line(&error.in_words()) },
        };
        let text: String = escape(text).chars().take(LONGEST_TEXT).collect();
        let body = serde_json::json!({ "text": format!("{text}\n_{}_", escape(key)) });
        let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8".to_owned())];
        http::outcome(self.target_post(&target, &headers, body.to_string()).await, key)
    }

    fn target(&self) -> Result<Target, WayError> {
        Target::new(&secret::line(&self.url_file)?, self.ca.as_deref(), self.timeout)
    }

    async fn target_post(
        &self,
        target: &Target,
        headers: &[(header::HeaderName, String)],
        body: String,
    ) -> Result<http::Answer, http::PostError> {
        target.post(headers, body.into_bytes()).await
    }
}

/// Slack's three letters: a zone called `<!channel>` calls nobody.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
