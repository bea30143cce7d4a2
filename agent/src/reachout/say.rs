//! What is known when something is decided, as JSON: the evidence in the ledger, and the content of messages.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use weir_config::Bounds;
use weir_reachout::{
    contact::NoticeKey,
    decision::Decision,
    outbox::{NewMessage, Recipient, Subject},
    policy::Policy,
    slot::Slot,
};

use super::mind::Known;

/// What a decision rests on. Nothing is in it but what the stored slots and guidelines say, so that a replay says the same.
pub fn evidence(decision: &Decision, known: &Known) -> Value {
    let mut evidence = serde_json::to_value(decision).unwrap_or_default();
    evidence["guideline"] = json!(known.guideline);
    evidence["plan"] = json!(&*known.is.plan);
    evidence
}

/// What a plan bounded beside WebSockets, and what it bounds now.
pub fn bounds(was: &Bounds, is: &Bounds) -> Value {
    let words = |bounds: &Bounds| {
        json!({
            "socket_memory_bytes": bounds.socket_memory_bytes,
            "bytes_per_second": bounds.bytes_per_second,
            "upgrades_per_second": bounds.upgrades_per_second,
        })
    };
    json!({ "bounds": { "was": words(was), "is": words(is) } })
}

/// The zone's usage at this moment.
pub fn usage(known: &Known, policy: &Policy) -> Value {
    let usage = known.detector.usage(policy);
    json!({
        "guideline": known.guideline,
        "plan": &*known.is.plan,
        "over_hours": (usage.over_hours * 100.0).round() / 100.0,
        "budget_spent": (usage.budget_spent * 10_000.0).round() / 10_000.0,
        "counted_spikes": usage.counted_spikes,
        "coverage": (usage.coverage * 10_000.0).round() / 10_000.0,
        "live": known.last.map(|slot| slot.value),
        "max": known.last.map(|slot| slot.max),
    })
}

/// What it rests on that operators hear of a surge: usage, with the slot as it is kept.
pub fn surge(known: &Known, policy: &Policy, kept: &Slot) -> Value {
    let mut evidence = usage(known, policy);
    (evidence["live"], evidence["max"]) = (json!(kept.value), json!(kept.max));
    evidence
}

/// Usage, case and policy: what a message is written from.
fn content(known: &Known, policy: &Policy, now: OffsetDateTime) -> String {
    json!({
        "zone": &*known.is.name,
        "at": now.format(&Rfc3339).unwrap_or_default(),
        "policy": policy.version().as_str(),
        "usage": usage(known, policy),
        "case": known.dialogue.case(),
        "verdict": known.watch.region.verdict(),
    })
    .to_string()
}

/// A notice's row. Its key is the notice's.
pub fn to_customer(known: &Known, policy: &Policy, notice: &NoticeKey, now: OffsetDateTime) -> NewMessage {
    NewMessage {
        key: notice.to_string(),
        way: "mail".to_owned(),
        recipient: Recipient::Customer,
        subject: Subject::Notice(notice.kind),
        zone: known.is.name.to_string(),
        case: Some(notice.case.to_string()),
        number: Some(notice.number),
        content: content(known, policy, now),
        queued_at: now,
    }
}

/// A row for each way.
pub fn to_operators(
    known: &Known,
    policy: &Policy,
    ways: &[String],
    subject: Subject,
    key: &str,
    now: OffsetDateTime,
) -> Vec<NewMessage> {
    let message = |way: &String| NewMessage {
        key: format!("{key}/{way}"),
        way: way.clone(),
        recipient: Recipient::Operators,
        subject,
        zone: known.is.name.to_string(),
        case: known.dialogue.case().map(|case| case.id().to_string()),
        number: None,
        content: content(known, policy, now),
        queued_at: now,
    };
    ways.iter().map(message).collect()
}
