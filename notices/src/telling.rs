//! What operators are told: one line for a channel, an event for a webhook, an alert where there is a state to alert on.
//!
//! An alert of a case lasts as long as the case: it is told again with a later end while the case is open, and with an end
//! when it is closed. Other alerts are of things that happened, and end by themselves.

use time::{Duration, OffsetDateTime};
use weir_reachout::{
    contact::NoticeKind,
    outbox::{Message, Subject},
};

use crate::delivery::{Alert, Event};

/// How long Alertmanager believes a case's alert without hearing of it again.
pub const CASE_ALERT: Duration = Duration::hours(4);
/// How long something that happened is alerted on.
const NEWS_ALERT: Duration = Duration::hours(1);

/// The name of the alert of an open case.
pub const CASE_ALERT_NAME: &str = "WeirCaseOpen";

/// Which weir tells, and of which plan the zone is.
#[derive(Clone, Debug)]
pub struct Teller {
    pub instance: String,
    pub plan: Option<String>,
}

impl Teller {
    /// One line for people.
    pub fn words(&self, message: &Message) -> String {
        let zone = match &self.plan {
            Some(plan) => format!("{} ({plan})", message.zone),
            None => message.zone.clone(),
        };
        let what = headline(message.subject);
        match &message.case {
            Some(case) => format!("{zone}: {what}. See `weir case show {case}`."),
            None => format!("{zone}: {what}."),
        }
    }

    pub fn event(&self, message: &Message) -> Event {
        let content = serde_json::from_str(&message.content).unwrap_or(serde_json::Value::Null);
        let data = serde_json::json!({
            "zone": message.zone,
            "plan": self.plan,
            "case": message.case,
            "notice": message.number,
            "summary": self.words(message),
            "details": content,
        });
        let source = format!("weir:{}", self.instance);
        Event::new(&message.key, &source, &message.subject.label(), &message.zone, message.queued_at, data)
    }

    /// None if the message is no reason to alert anybody.
    pub fn alert(&self, message: &Message, now: OffsetDateTime) -> Option<Alert> {
        let (name, severity) = match message.subject {
            Subject::CaseOpened | Subject::CaseClosed => {
                let case = message.case.as_deref()?;
                let ends_at = match message.subject {
                    Subject::CaseOpened => now.saturating_add(CASE_ALERT),
                    _ => now,
                };
                // The start is told when it is known; Alertmanager keeps the earliest.
                return Some(self.case(&message.zone, case, message.queued_at.min(ends_at), ends_at));
            }
            Subject::Escalated => ("WeirCaseUnanswered", "warning"),
            Subject::NoticeFailed => ("WeirNoticeFailed", "warning"),
            Subject::Unattended => ("WeirMitigationUnattended", "critical"),
            Subject::Mitigating => ("WeirMitigating", "critical"),
            Subject::Suspected => ("WeirAbuseSuspected", "warning"),
            Subject::Surging => ("WeirZoneSurging", "warning"),
            Subject::Closable | Subject::Answered | Subject::Draft(_) | Subject::Notice(_) => return None,
        };
        let ends_at = message.queued_at.saturating_add(NEWS_ALERT);
        Some(self.build(
            name,
            severity,
            &message.zone,
            message.case.as_deref(),
            self.words(message),
            (message.queued_at, ends_at),
        ))
    }

    /// The alert of an open case: the same labels until it is closed.
    pub fn case(&self, zone: &str, case: &str, starts_at: OffsetDateTime, ends_at: OffsetDateTime) -> Alert {
        let words = format!("{zone}: {}. See `weir case show {case}`.", headline(Subject::CaseOpened));
        self.build(CASE_ALERT_NAME, "info", zone, Some(case), words, (starts_at, ends_at))
    }

    fn build(
        &self,
        name: &str,
        severity: &str,
        zone: &str,
        case: Option<&str>,
        summary: String,
        (starts_at, ends_at): (OffsetDateTime, OffsetDateTime),
    ) -> Alert {
        let labels = [
            ("alertname", Some(name)),
            ("severity", Some(severity)),
            ("zone", Some(zone)),
            ("case", case),
            ("weir_instance", Some(self.instance.as_str())),
        ];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
        Alert { labels: labels.collect(), annotations: [("summary", summary)].into(), starts_at, ends_at }
    }
}

const fn headline(subject: Subject) -> &'static str {
    match subject {
        Subject::Notice(_) => "a notice to the customer",
        Subject::CaseOpened => "outgrows its plan; a case was opened, nothing is limited",
        Subject::CaseClosed => "the case is closed",
        Subject::Draft(NoticeKind::Reminder) => "a reminder to the customer waits for a person to send it",
        Subject::Draft(_) => "a notice to the customer waits for a person to send it",
        Subject::Closable => "is back to normal; a person has to close the case",
        Subject::Answered => "the customer answered",
        Subject::Escalated => "three notices went unanswered; a person has to look",
        Subject::NoticeFailed => "a notice did not arrive; the customer was not contacted",
        Subject::Surging => "is ten times above its guideline for an hour; nothing is done about it",
        Subject::Suspected => "abuse is suspected; nothing is done about it",
        Subject::Mitigating => "abuse: its prefixes are refused for now",
        Subject::Unattended => "a mitigation ended after a day without a person",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);

    fn message(subject: Subject) -> Message {
        use weir_reachout::outbox::Recipient;
        Message {
            id: 1,
            key: format!("c-1/{}", subject.label()),
            way: "webhook".to_owned(),
            recipient: Recipient::Operators,
            subject,
            zone: "chat.example.com".to_owned(),
            case: Some("c-1".to_owned()),
            number: None,
            content: r#"{"rule":"R2"}"#.to_owned(),
            queued_at: NOW,
            attempts: 0,
            uncertain: false,
        }
    }

    fn teller() -> Teller {
        Teller { instance: "default".to_owned(), plan: Some("free".to_owned()) }
    }

    #[test]
    fn a_case_is_one_alert_from_its_opening_to_its_end() {
        let later = NOW + Duration::days(3);
        let opened = teller().alert(&message(Subject::CaseOpened), NOW).expect("an alert");
        let again = teller().case("chat.example.com", "c-1", NOW, later + CASE_ALERT);
        let closed = teller().alert(&message(Subject::CaseClosed), later).expect("an alert");
        assert_eq!(opened.labels, again.labels);
        assert_eq!(opened.labels, closed.labels);
        assert_eq!((opened.ends_at, closed.ends_at), (NOW + CASE_ALERT, later));
        assert!(closed.starts_at <= closed.ends_at);
    }

    #[test]
    fn every_subject_has_words_and_an_event_of_its_own_type() {
        let mut kinds = std::collections::HashSet::new();
        for subject in Subject::all() {
            let message = message(subject);
            assert!(teller().words(&message).starts_with("chat.example.com (free): "));
            let event = serde_json::to_value(teller().event(&message)).expect("JSON");
            assert_eq!(event["id"], message.key);
            assert_eq!(event["data"]["details"]["rule"], "R2");
            assert!(kinds.insert(event["type"].as_str().expect("a type").to_owned()));
        }
        assert!(teller().alert(&message(Subject::Answered), NOW).is_none());
        assert!(teller().alert(&message(Subject::Escalated), NOW).is_some());
    }
}
