//! A webhook: CloudEvents 1.0, structured, as JSON. The event's `id` is the idempotency key, the same at each attempt.
//!
//! With a secret each request carries `weir-signature: t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`, so that a receiver
//! knows who sent it and when.

use std::{path::PathBuf, time::Duration};

use ::http::{HeaderName, header};
use ring::hmac;
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Outcome, WayError,
    http::{self, Target},
    one_line, secret,
};

pub const SIGNATURE_HEADER: &str = "weir-signature";
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

pub struct Webhook {
    target: Target,
    secret_file: Option<PathBuf>,
}

/// One event, with `data` of its own kind.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    datacontenttype: &'static str,
    data: serde_json::Value,
}

impl Event {
    /// `kind` is what follows `dev.weir.` in the type; `source` says which weir.
    pub fn new(
        id: &str,
        source: &str,
        kind: &str,
        zone: &str,
        time: OffsetDateTime,
        data: serde_json::Value,
    ) -> Self {
        Self {
            specversion: "1.0",
            id: id.to_owned(),
            source: source.to_owned(),
            kind: format!("dev.weir.{kind}"),
            subject: zone.to_owned(),
            time,
            datacontenttype: "application/json",
            data,
        }
    }
}

impl Webhook {
    pub fn new(way: &weir_config::Webhook, timeout: Duration) -> Result<Self, WayError> {
        let target = Target::new(way.url.as_str(), way.ca.as_deref(), timeout)?;
        Ok(Self { target, secret_file: way.secret_file.clone() })
    }

    pub async fn send(&self, event: &Event, now: OffsetDateTime) -> Outcome {
        let body = match serde_json::to_vec(event) {
            Ok(body) => body,
            Err(error) => return Outcome::Refused { why: one_line(&error.to_string()) },
        };
        let mut headers = vec![(header::CONTENT_TYPE, CONTENT_TYPE.to_owned())];
        if let Some(path) = &self.secret_file {
            match secret::line(path) {
                Ok(secret) => headers.push((
                    HeaderName::from_static(SIGNATURE_HEADER),
                    signature(secret.as_bytes(), now.unix_timestamp(), &body),
                )),
                // A person can mend it, and an unsigned event is not what was asked for.
                Err(error) => return Outcome::Retry { after: None, why: one_line(&error.in_words()) },
            }
        }
        http::outcome(self.target.post(&headers, body).await, &event.id)
    }
}

/// The signature header's value.
pub fn signature(secret: &[u8], at_seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{at_seconds}.").as_bytes());
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_seconds},v1={hex}")
}
