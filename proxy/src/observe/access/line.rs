//! The two forms of a line. No input can end a line early or forge a field: JSON is written by serde_json, and in the combined form
//! whatever is not plain printable ASCII, and every `"` and `\`, is `\xHH`.

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use serde::Serialize;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use weir_config::LogFormat;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// A plain request, or an upgrade that made no tunnel, has been answered.
    Request,
    /// A WebSocket has opened.
    Open,
    /// A WebSocket has ended.
    End,
}

/// A line. Absent members are left out of JSON and are `-` in the combined form.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    #[serde(serialize_with = "rfc3339")]
    pub time: OffsetDateTime,
    pub event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'a str>,
    pub client: IpAddr,
    /// Who is at the other end of the socket, if that is not the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    pub request_id: &'a str,
    pub scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a str>,
    pub method: &'a str,
    pub target: &'a str,
    pub protocol: &'static str,
    /// 499 for a client that left before an answer.
    pub status: u16,
    /// Why weir answered itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
    /// From the client: of a WebSocket everything behind its 101.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// To the client: the content of an answer, or of a WebSocket everything behind its 101.
    pub sent_bytes: u64,
    /// Who ended a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a str>,
}

const RFC_3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const CLF: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

fn rfc3339<S: serde::Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.format(RFC_3339).unwrap_or_default())
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl Line<'_> {
    /// Without the end of the line.
    pub fn write(&self, format: LogFormat) -> String {
        match format {
            // Strings and numbers: serialising them cannot fail.
            LogFormat::Json => serde_json::to_string(self).unwrap_or_default(),
            LogFormat::Combined => self.combined(),
        }
    }

    /// Apache's and nginx' `combined`, then what it has no place for: zone, host, request id, event, seconds, bytes received, who
    /// ended it, reason.
    fn combined(&self) -> String {
        let mut text = String::with_capacity(256);
        let time = self.time.format(CLF).unwrap_or_default();
        let (status, sent) = (self.status, self.sent_bytes);
        // Writing to a string cannot fail.
        let _ = write!(text, "{} - - [{time}] \"", self.client);
        escape(&mut text, self.method);
        text.push(' ');
        escape(&mut text, self.target);
        let _ = write!(text, " {}\" {status} {sent}", self.protocol);
        for quoted in [self.referer, self.user_agent, self.zone, self.host] {
            text.push_str(" \"");
            escape(&mut text, quoted.unwrap_or("-"));
            text.push('"');
        }
        let event = match self.event {
            Event::Request => "request",
            Event::Open => "open",
            Event::End => "end",
        };
        let _ = write!(text, " {} {event} {:.3}", self.request_id, self.duration.as_secs_f64());
        let _ = match self.received_bytes {
            Some(bytes) => write!(text, " {bytes}"),
            None => write!(text, " -"),
        };
        let _ = write!(text, " {} {}", self.ended_by.unwrap_or("-"), self.reason.unwrap_or("-"));
        text
    }
}

fn escape(to: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | ..b' ' | 0x7f.. => {
                let _ = write!(to, "\\x{byte:02X}");
            }
            plain => to.push(char::from(plain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn line<'a>(target: &'a str, agent: &'a str) -> Line<'a> {
        Line {
            time: datetime!(2026-11-27 15:06:18.25 UTC),
            event: Event::End,
            zone: Some("a.test"),
            client: "192.0.2.7".parse().expect("an address"),
            peer: None,
            request_id: "0123",
            scheme: "https",
            host: Some("a.test"),
            method: "GET",
            target,
            protocol: "HTTP/1.1",
            status: 101,
            reason: None,
            duration: Duration::from_millis(1500),
            received_bytes: Some(10),
            sent_bytes: 20,
            ended_by: Some("client"),
            referer: None,
            user_agent: Some(agent),
        }
    }

    #[test]
    fn both_forms_are_what_their_readers_expect() {
        assert_eq!(
            line("/a?b=c", "x \"y\" \\").write(LogFormat::Combined),
            "192.0.2.7 - - [27/Nov/2026:15:06:18 +0000] \"GET /a?b=c HTTP/1.1\" 101 20 \"-\" \"x \\x22y\\x22 \\x5C\" \
             \"a.test\" \"a.test\" 0123 end 1.500 10 client -"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line("/a?b=c", "x\"").write(LogFormat::Json)).expect("JSON");
        assert_eq!(json["time"], "2026-11-27T15:06:18.250Z");
        assert_eq!((&json["event"], &json["client"]), (&"end".into(), &"192.0.2.7".into()));
        assert_eq!((&json["duration_ms"], &json["sent_bytes"]), (&1500.into(), &20.into()));
        assert_eq!((&json["user_agent"], json.get("referer")), (&"x\"".into(), None));
    }

    proptest! {
        #[test]
        fn no_text_of_a_client_forges_a_line_or_a_field(target in any::<String>(), agent in any::<String>()) {
            let line = line(&target, &agent);
            let json = line.write(LogFormat::Json);
            prop_assert!(!json.contains(['\n', '\r']));
            let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            prop_assert_eq!(&read["target"], &serde_json::Value::from(target.clone()));
            prop_assert_eq!(&read["user_agent"], &serde_json::Value::from(agent.clone()));
            prop_assert_eq!(&read["ended_by"], "client");

            let combined = line.write(LogFormat::Combined);
            prop_assert!(combined.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{}", combined);
            prop_assert_eq!(combined.matches('"').count(), 10);
        }
    }
}
