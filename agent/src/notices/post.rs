//! The ways of the configuration in force, and how a row leaves by one of them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use time::OffsetDateTime;
use weir_config::{Bounds, Config, MailAddress, Zone};
use weir_notices::{
    delivery::{Alertmanager, Mailer, Outcome, Slack, WayError, Webhook},
    keys::{Keys, KeysError},
    letter::{About, Letter, Links, TemplateError, Templates, day_in_words},
    link,
    telling::{CASE_ALERT, Teller},
};
use weir_reachout::{
    case::{Case, CaseState, Closing},
    contact::NoticeKind,
    outbox::{Message, Recipient, Subject},
    policy::Policy,
};

use super::dossier::{Asked, Dossier, DossierError, Plans};
use crate::{
    ledger::{Ledger, OpenCase},
    state::lock,
};

/// A key signs new links for so long.
const KEY_LIFE: time::Duration = time::Duration::days(90);
/// Alerts in one request.
const ALERTS_AT_ONCE: usize = 200;

/// Everything that is needed to write to somebody, by one configuration.
pub struct Post {
    pub(super) instance: String,
    pub(super) sender_name: String,
    pub(super) templates: Templates,
    pub(super) policy: Policy,
    /// By name.
    zones: Vec<Arc<Zone>>,
    plans: Vec<(String, u64)>,
    /// What plans bound beside WebSockets.
    bounds: BTreeMap<String, Bounds>,
    pub(super) timeout: Duration,
    retry: time::Duration,
    links: Option<Signer>,
    mailer: Option<Mailer>,
    webhook: Option<Webhook>,
    slack: Option<Slack>,
    alertmanager: Option<Alertmanager>,
}

/// Makes and knows links.
pub(super) struct Signer {
    url: String,
    life: time::Duration,
    path: PathBuf,
    keys: Arc<Mutex<Keys>>,
}

/// Why the ways of a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("notices.templates")]
    Templates(#[from] TemplateError),
    #[error("notices.{way}")]
    Way { way: &'static str, source: WayError },
    #[error("notices.link_keys")]
    Keys(#[from] KeysError),
}

impl Post {
    /// Reads templates, certificates and keys. `before` is the one of the configuration before, whose keys go on.
    pub fn new(
        config: &Config,
        policy: Policy,
        before: Option<&Self>,
        now: OffsetDateTime,
    ) -> Result<Self, PostError> {
        let notices = &config.notices;
        let timeout = notices.timeout;
        let way = |way| move |source| PostError::Way { way, source };
        let links = match &notices.links {
            None => None,
            Some(links) => {
                let known = before
                    .and_then(|before| before.links.as_ref())
                    .filter(|signer| signer.path == links.keys);
                let keys = match known {
                    Some(signer) => Arc::clone(&signer.keys),
                    None => Arc::new(Mutex::new(Keys::open(&links.keys, now)?)),
                };
                let life = time::Duration::days(links.days.into());
                Some(Signer { url: links.url.to_string(), life, path: links.keys.clone(), keys })
            }
        };
        let templates = match &notices.templates {
            Some(folder) => Templates::load(folder)?,
            None => Templates::built_in(),
        };
        Ok(Self {
            instance: config.instance.to_string(),
            sender_name: notices.sender_name.clone(),
            templates,
            policy,
            zones: config.zones.clone(),
            plans: config.plans.values().map(|plan| (plan.name.to_string(), plan.guideline)).collect(),
            bounds: config.plans.values().map(|plan| (plan.name.to_string(), plan.bounds)).collect(),
            timeout,
            retry: time::Duration::days(notices.retry_days.into()),
            links,
            mailer: notices.mail.as_ref().map(|mail| Mailer::new(mail, &notices.sender_name, timeout)),
            webhook: notices
                .webhook
                .as_ref()
                .map(|to| Webhook::new(to, timeout))
                .transpose()
                .map_err(way("webhook"))?,
            slack: notices.slack.as_ref().map(|slack| Slack::new(slack, timeout)),
            alertmanager: notices
                .alertmanager
                .as_ref()
                .map(|to| Alertmanager::new(to, timeout))
                .transpose()
                .map_err(way("alertmanager"))?,
        })
    }

    /// Whether the configuration has the row's way. Without it a row waits.
    pub(super) fn has_way(&self, message: &Message) -> bool {
        match (message.recipient, message.way.as_str()) {
            (Recipient::Customer, _) => self.mailer.is_some(),
            (Recipient::Operators, "webhook") => self.webhook.is_some(),
            (Recipient::Operators, "slack") => self.slack.is_some(),
            (Recipient::Operators, "alertmanager") => self.alertmanager.is_some(),
            (Recipient::Operators, _) => true,
        }
    }

    /// From the row's queueing to the moment at which it is given up.
    pub(super) fn patience(&self) -> time::Duration {
        self.retry
    }

    pub(super) fn plans_of(&self, zone: &str) -> Plans {
        let plan = self.zone(zone).map(|zone| Arc::clone(&zone.plan));
        Plans {
            plan: plan.as_ref().map(|plan| plan.name.to_string()).unwrap_or_default(),
            guideline: plan.map_or(1, |plan| plan.guideline),
            all: self.plans.clone(),
            bounds: self.bounds.clone(),
        }
    }

    fn zone(&self, name: &str) -> Option<&Arc<Zone>> {
        let at = self.zones.binary_search_by(|zone| zone.name.as_str().cmp(name)).ok()?;
        self.zones.get(at)
    }

    fn contact(&self, zone: &str) -> Option<&MailAddress> {
        self.zone(zone)?.contact.as_ref()
    }

    fn teller(&self, zone: &str) -> Teller {
        let plan = self.zone(zone).map(|zone| zone.plan.name.to_string());
        Teller { instance: self.instance.clone(), plan }
    }

    /// One attempt to have a row leave. It ends, whatever the other side does.
    pub(super) async fn send(&self, ledger: &Ledger, message: &Message, now: OffsetDateTime) -> Outcome {
        match (message.recipient, message.subject) {
            (Recipient::Customer, Subject::Notice(kind)) => self.notice(ledger, message, kind).await,
            (Recipient::Customer, _) => Outcome::Refused { why: "this is for operators only".to_owned() },
            (Recipient::Operators, _) => self.tell(message, now).await,
        }
    }

    async fn notice(&self, ledger: &Ledger, message: &Message, kind: NoticeKind) -> Outcome {
        let Some(to) = self.contact(&message.zone) else {
            return Outcome::Refused { why: "the zone has no `contact` in the configuration".to_owned() };
        };
        let Some(mailer) = &self.mailer else { return unconfigured("notices.mail") };
        match self.letter(ledger, message, kind).await {
            Ok(Some(letter)) => mailer.send(&message.key, to, &letter, message.queued_at).await,
            Ok(None) => Outcome::Refused { why: "what the notice was to say is not so any more".to_owned() },
            Err(why) => Outcome::Retry { after: None, why },
        }
    }

    /// The letter of a row; none if it would say what is not so any more.
    async fn letter(
        &self,
        ledger: &Ledger,
        message: &Message,
        kind: NoticeKind,
    ) -> Result<Option<Letter>, String> {
        let (case, number) = (message.case.clone().unwrap_or_default(), message.number.unwrap_or(1));
        self.draft(ledger, &message.zone, &case, (kind, number), message.queued_at).await
    }

    /// A letter as it would be sent at `at`, but for its links; of what would be said next unless a kind is named.
    pub async fn preview(
        &self,
        ledger: &Ledger,
        case: &str,
        kind: Option<NoticeKind>,
        at: OffsetDateTime,
    ) -> Result<Option<Letter>, String> {
        let id = case.to_owned();
        let zone =
            ledger.run(move |store| store.zone_of_case(&id)).await.map_err(|error| in_words(&error))?;
        let Some(zone) = zone else { return Ok(None) };
        let dossier = self.dossier(ledger, &zone, at).await.map_err(|error| in_words(&error))?;
        let Some(found) = dossier.case(case) else { return Ok(None) };
        let number = u8::try_from(found.notices().len() + 1).unwrap_or(u8::MAX);
        let links = self.links.as_ref().map(|signer| signer.nowhere(at));
        let kind = kind.unwrap_or_else(|| next_kind(found));
        let about = dossier.about(found, self.asked((kind, number), links, &self.plans_of(&zone), at));
        let Some(about) = about else { return Ok(None) };
        let letter = tokio::task::block_in_place(|| Letter::write(&self.templates, &about, &dossier.plot));
        letter.map(Some).map_err(|error| in_words(&error))
    }

    async fn draft(
        &self,
        ledger: &Ledger,
        zone: &str,
        case: &str,
        notice: (NoticeKind, u8),
        at: OffsetDateTime,
    ) -> Result<Option<Letter>, String> {
        let dossier = self.dossier(ledger, zone, at).await.map_err(|error| in_words(&error))?;
        let Some(about) = self.about(&dossier, case, notice, at) else { return Ok(None) };
        let letter = tokio::task::block_in_place(|| Letter::write(&self.templates, &about, &dossier.plot));
        letter.map(Some).map_err(|error| in_words(&error))
    }

    /// What the ledger knows of a zone at a moment.
    pub async fn dossier(
        &self,
        ledger: &Ledger,
        zone: &str,
        at: OffsetDateTime,
    ) -> Result<Dossier, DossierError> {
        let (name, plans, policy) = (zone.to_owned(), self.plans_of(zone), self.policy.clone());
        let read = ledger.run(move |store| Ok(Dossier::read(store, &name, &plans, &policy, at)));
        read.await.map_err(DossierError::from)?
    }

    pub(super) fn about(
        &self,
        dossier: &Dossier,
        case: &str,
        notice: (NoticeKind, u8),
        at: OffsetDateTime,
    ) -> Option<About> {
        let case = dossier.case(case)?;
        let links = self.links.as_ref().map(|signer| signer.links(case.id().as_str(), at));
        let plans = self.plans_of(dossier.zone.name());
        dossier.about(case, self.asked(notice, links, &plans, at))
    }

    fn asked<'a>(
        &'a self,
        (kind, number): (NoticeKind, u8),
        links: Option<Links>,
        plans: &'a Plans,
        at: OffsetDateTime,
    ) -> Asked<'a> {
        Asked { kind, number, sender_name: &self.sender_name, links, plans, policy: &self.policy, at }
    }

    async fn tell(&self, message: &Message, now: OffsetDateTime) -> Outcome {
        let teller = self.teller(&message.zone);
        match message.way.as_str() {
            "webhook" => match &self.webhook {
                Some(webhook) => webhook.send(&teller.event(message), now).await,
                None => unconfigured("notices.webhook"),
            },
            "slack" => match &self.slack {
                Some(slack) => slack.send(&message.key, &teller.words(message)).await,
                None => unconfigured("notices.slack"),
            },
            "alertmanager" => match (&self.alertmanager, teller.alert(message, now)) {
                (Some(alertmanager), Some(alert)) => alertmanager.send(&message.key, &[alert]).await,
                (Some(_), None) => Outcome::Delivered { reference: "no reason for an alert".to_owned() },
                (None, _) => unconfigured("notices.alertmanager"),
            },
            way => Outcome::Refused { why: format!("there is no way called {way}") },
        }
    }

    /// Tells Alertmanager of every open case again, so that it forgets none.
    pub(super) async fn refresh(&self, open: &[OpenCase], now: OffsetDateTime) {
        let Some(alertmanager) = &self.alertmanager else { return };
        for cases in open.chunks(ALERTS_AT_ONCE) {
            let alert = |open: &OpenCase| {
                self.teller(&open.zone).case(
                    &open.zone,
                    &open.case,
                    open.opened_at,
                    now.saturating_add(CASE_ALERT),
                )
            };
            let alerts: Vec<_> = cases.iter().map(alert).collect();
            match alertmanager.send("open cases", &alerts).await {
                Outcome::Delivered { .. } => {}
                Outcome::Refused { why } | Outcome::Retry { why, .. } => {
                    tracing::warn!(why, "Alertmanager was not told again of open cases");
                }
            }
        }
    }

    /// The case that a token names.
    pub(super) fn verify(&self, token: &str, now: OffsetDateTime) -> Result<link::Link, link::LinkError> {
        let signer = self.links.as_ref().ok_or(link::LinkError::Unknown)?;
        link::verify(&lock(&signer.keys), token, now)
    }

    /// Makes a new key when it is time.
    pub(super) fn rotate(&self, now: OffsetDateTime) {
        let Some(Signer { keys, path, life, .. }) = &self.links else { return };
        match lock(keys).rotate(path, now, KEY_LIFE, *life) {
            Ok(false) => {}
            Ok(true) => tracing::info!("links are signed by a new key; those that are out stay good"),
            Err(error) => tracing::error!("{}", in_words(&error)),
        }
    }
}

/// What would be said next about a case.
fn next_kind(case: &Case) -> NoticeKind {
    match case.state() {
        CaseState::Closed { closing: Closing::Exempted } => NoticeKind::EventExempted,
        CaseState::Closed { .. } => NoticeKind::Resolved,
        CaseState::LimitScheduled(_) => NoticeKind::LimitScheduled,
        _ if case.contact().is_ok() => NoticeKind::Reminder,
        _ => NoticeKind::First,
    }
}

impl Signer {
    fn links(&self, case: &str, at: OffsetDateTime) -> Links {
        let until = at.saturating_add(self.life);
        self.with(&link::sign(&lock(&self.keys), case, until), until)
    }

    /// For a preview: whoever sees one is not the customer.
    fn nowhere(&self, at: OffsetDateTime) -> Links {
        self.with("PREVIEW", at.saturating_add(self.life))
    }

    fn with(&self, token: &str, until: OffsetDateTime) -> Links {
        let page = format!("{}/n/{token}", self.url);
        let to = |answer: &str| format!("{page}#{answer}");
        Links { event: to("event"), talk: to("talk"), plans: to("plans"), until: day_in_words(until), page }
    }
}

fn unconfigured(key: &str) -> Outcome {
    Outcome::Retry { after: None, why: format!("there is no {key} in the configuration") }
}

/// An error with its causes, on one line.
pub(super) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        cause = error.source();
    }
    words
}
