//! Alertmanager's API v2. An alert is known by its labels, so they hold nothing that changes while a case is open; sending it again
//! is the same alert. It is over when `ends_at` is, and what Alertmanager says about it closes no case.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use ::http::header;
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Outcome, WayError,
    http::{self, Target},
    one_line, secret,
};

/// Every Alertmanager of a cluster gets every alert: they tell each other about notifications, not about alerts.
pub struct Alertmanager {
    targets: Vec<Target>,
    token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    pub labels: BTreeMap<&'static str, String>,
    pub annotations: BTreeMap<&'static str, String>,
    #[serde(with = "time::serde::rfc3339")]
    pub starts_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub ends_at: OffsetDateTime,
}

impl Alertmanager {
    pub fn new(way: &weir_config::Alertmanager, timeout: Duration) -> Result<Self, WayError> {
        let target = |url: &weir_config::HttpUrl| {
            Target::new(&format!("{url}/api/v2/alerts"), way.ca.as_deref(), timeout)
        };
        let targets = way.urls.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Self { targets, token_file: way.token_file.clone() })
    }

    /// Delivered if one of them took it; the others get it with the next repetition.
    pub async fn send(&self, key: &str, alerts: &[Alert]) -> Outcome {
        let mut headers = vec![(header::CONTENT_TYPE, "application/json".to_owned())];
        if let Some(path) = &self.token_file {
            match secret::line(path) {
                Ok(token) => headers.push((header::AUTHORIZATION, format!("Bearer {token}"))),
                Err(error) => return Outcome::Retry { after: None, why: one_line(&error.in_words()) },
            }
        }
        let body = match serde_json::to_vec(alerts) {
            Ok(body) => body,
            Err(error) => return Outcome::Refused { why: one_line(&error.to_string()) },
        };
        let mut best: Option<Outcome> = None;
        for target in &self.targets {
            let outcome = http::outcome(target.post(&headers, body.clone()).await, key);
            best = Some(match best {
                Some(best) => better(best, outcome),
                None => outcome,
            });
        }
        best.unwrap_or(Outcome::Refused { why: "there is no Alertmanager".to_owned() })
    }
}

fn better(a: Outcome, b: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Delivered { .. } => 2,
        Outcome::Retry { .. } => 1,
        Outcome::Refused { .. } => 0,
    };
    if rank(&b) > rank(&a) { b } else { a }
}
