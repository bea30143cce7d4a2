//! The outbox's worker: takes due rows, notes each attempt before it makes it, sends, and writes down what became of it.
//!
//! Each way has one row under way at a time, so a mail server that hangs keeps no webhook waiting. If the agent dies between
//! sending and recording, the row is due again and is sent again under the same key: its receiver knows it. A ledger that
//! cannot be written means that nothing is sent, as nobody would know of it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use weir_notices::delivery::{self, backoff};
use weir_reachout::{
    contact::Failure,
    outbox::{Message, Outcome, Recipient},
};

use super::post::{Post, in_words};
use crate::{
    ledger::{Ledger, LedgerError},
    state::lock,
};

const LOOK: Duration = Duration::from_secs(1);
/// Rows that are looked at in one go.
const ROWS: u32 = 500;
/// Between two times that Alertmanager is told of open cases, and that keys are looked at.
const REFRESH: Duration = Duration::from_secs(60);
const OPEN_CASES: u32 = 10_000;
/// An attempt has this many time limits before another one is made.
const LIMITS_PER_ATTEMPT: u32 = 6;

/// Attempts by way and end, since the agent's start; for metrics.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Tally {
    fn note(&self, way: &str, outcome: &Outcome) {
        let end = match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Retry { .. } => "retry",
            Outcome::Failed { failure, .. } => failure.label(),
        };
        *lock(&self.0).entry((way.to_owned(), end)).or_default() += 1;
    }

    /// Way, end, attempts.
    pub fn counts(&self) -> Vec<(String, &'static str, u64)> {
        lock(&self.0).iter().map(|((way, end), count)| (way.clone(), *end, *count)).collect()
    }
}

/// Until it is dropped. `post` is asked for each round, so that a reload holds from the next one on.
pub async fn serve(
    ledger: Ledger,
    tally: Arc<Tally>,
    post: impl Fn() -> Arc<Post>,
    now: impl Fn() -> OffsetDateTime + Clone + Send + 'static,
) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refreshes = interval(REFRESH);
    refreshes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut busy: HashSet<String> = HashSet::new();
    let mut under_way: JoinSet<String> = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = under_way.join_next() => match ended {
                Ok(way) => { busy.remove(&way); }
                // Which way it was is not known: all are free again, and rows under way are not due yet.
                Err(error) => { tracing::error!(%error, "an attempt to deliver did not end"); busy.clear(); }
            },
            _ = looks.tick() => {
                let at = now();
                let due = match ledger.run(move |store| store.outbox_due(at, ROWS)).await {
                    Ok(due) => due,
                    Err(error) => { tracing::debug!("the outbox waits: {}", in_words(&error)); continue }
                };
                let ways = post();
                for message in due.into_iter().filter(|message| ways.has_way(message)) {
                    if busy.insert(lane(&message)) {
                        let (ledger, tally, post, now) = (ledger.clone(), Arc::clone(&tally), post(), now.clone());
                        under_way.spawn(async move {
                            let lane = lane(&message);
                            if let Err(error) = attempt(&ledger, &tally, &post, &message, now).await {
                                tracing::warn!(key = message.key, "{}", in_words(&error));
                            }
                            lane
                        });
                    }
                }
            }
            _ = refreshes.tick() => refresh(&ledger, &post(), now()).await,
        }
    }
}

/// What rows wait for each other by.
fn lane(message: &Message) -> String {
    match message.recipient {
        Recipient::Customer => "customer".to_owned(),
        Recipient::Operators => message.way.clone(),
    }
}

async fn attempt(
    ledger: &Ledger,
    tally: &Tally,
    post: &Post,
    message: &Message,
    now: impl Fn() -> OffsetDateTime,
) -> Result<(), LedgerError> {
    let id = message.id;
    let again = now().saturating_add(
        time::Duration::try_from(post.timeout * LIMITS_PER_ATTEMPT).unwrap_or(time::Duration::HOUR),
    );
    ledger.run(move |store| store.outbox_attempt(id, again)).await?;
    if message.uncertain {
        tracing::info!(
            key = message.key,
            "sent again under the same key: what became of the last attempt is not known"
        );
    }
    let sent = post.send(ledger, message, now()).await;
    let at = now();
    let outcome = judge(message, sent, post.patience(), at);
    tally.note(&message.way, &outcome);
    match &outcome {
        Outcome::Delivered => tracing::info!(key = message.key, way = message.way, "delivered"),
        Outcome::Retry { due, why } => {
            tracing::info!(key = message.key, way = message.way, %due, why, "to be tried again")
        }
        Outcome::Failed { failure, why } => {
            tracing::warn!(
                key = message.key,
                way = message.way,
                failure = failure.label(),
                why,
                "not delivered"
            );
        }
    }
    ledger.run(move |store| store.outbox_outcome(id, at, &outcome)).await
}

/// What an attempt means for the row: the last one of too many days is a failure.
fn judge(
    message: &Message,
    sent: delivery::Outcome,
    patience: time::Duration,
    at: OffsetDateTime,
) -> Outcome {
    match sent {
        delivery::Outcome::Delivered { .. } => Outcome::Delivered,
        delivery::Outcome::Refused { why } => Outcome::Failed { failure: Failure::Refused, why },
        delivery::Outcome::Retry { after, why } => {
            let pause = backoff::pause(&message.key, message.attempts.saturating_add(1), after);
            let due = at.saturating_add(time::Duration::try_from(pause).unwrap_or(time::Duration::HOUR));
            if due > message.queued_at.saturating_add(patience) {
                Outcome::Failed { failure: Failure::Expired, why }
            } else {
                Outcome::Retry { due, why }
            }
        }
    }
}

async fn refresh(ledger: &Ledger, post: &Post, now: OffsetDateTime) {
    tokio::task::block_in_place(|| post.rotate(now));
    match ledger.run(|store| store.open_cases(OPEN_CASES)).await {
        Ok(open) => post.refresh(&open, now).await,
        Err(error) => tracing::debug!("open cases are not told again: {}", in_words(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;
    use weir_reachout::{contact::NoticeKind, outbox::Subject};

    const NOW: OffsetDateTime = datetime!(2026-11-27 12:00 UTC);
    const PATIENCE: time::Duration = time::Duration::days(4);

    fn message(attempts: u32) -> Message {
        Message {
            id: 1,
            key: "c-1/first/1".to_owned(),
            way: "mail".to_owned(),
            recipient: Recipient::Customer,
            subject: Subject::Notice(NoticeKind::First),
            zone: "a.test".to_owned(),
            case: Some("c-1".to_owned()),
            number: Some(1),
            content: "{}".to_owned(),
            queued_at: NOW,
            attempts,
            uncertain: false,
        }
    }

    #[test]
    fn a_message_that_nobody_takes_is_tried_for_days_and_then_has_failed() {
        let (mut at, mut attempts) = (NOW, 0);
        let why = || "452 mailbox full".to_owned();
        loop {
            let sent = delivery::Outcome::Retry { after: None, why: why() };
            match judge(&message(attempts), sent, PATIENCE, at) {
                Outcome::Retry { due, .. } => {
                    assert!(due > at && due <= NOW + PATIENCE);
                    (at, attempts) = (due, attempts + 1);
                }
                other => {
                    assert_eq!(other, Outcome::Failed { failure: Failure::Expired, why: why() });
                    break;
                }
            }
            assert!(attempts < 100, "it ends");
        }
        assert!(at > NOW + PATIENCE - time::Duration::hours(6), "given up at {at}");
        assert!(attempts > 15, "{attempts} attempts");
    }

    #[test]
    fn a_refusal_is_no_contact_and_is_not_tried_again() {
        let why = "550 no such mailbox".to_owned();
        let outcome = judge(&message(0), delivery::Outcome::Refused { why: why.clone() }, PATIENCE, NOW);
        assert_eq!(outcome, Outcome::Failed { failure: Failure::Refused, why });
    }

    #[test]
    fn attempts_are_counted_by_way_and_end() {
        let tally = Tally::default();
        tally.note("mail", &Outcome::Delivered);
        tally.note("mail", &Outcome::Delivered);
        tally.note("webhook", &Outcome::Retry { due: NOW, why: String::new() });
        let counts = [("mail".to_owned(), "delivered", 2), ("webhook".to_owned(), "retry", 1)];
        assert_eq!(tally.counts(), counts);
    }
}
