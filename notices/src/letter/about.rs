//! What a letter can say, counted and dated from the case, the policy and the plot.

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset, macros::datetime};
use weir_reachout::{contact::NoticeKind, policy::Policy};

use super::PLOT_ID;
use crate::plot::{Plot, thousands};

/// Everything that a template has. Dates are words (`27 November 2026`), in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    #[serde(skip)]
    pub kind: NoticeKind,
    pub sender_name: String,
    pub zone: String,
    pub plan: String,
    pub case: String,
    pub guideline: u64,
    /// The count that is not over yet.
    pub over_above: u64,
    pub over_percent: u64,
    /// With one decimal.
    pub over_hours: String,
    pub occasions: usize,
    pub highest: u64,
    pub known_percent: u32,
    pub from: String,
    pub until: String,
    pub window_days: u32,
    pub allowed_hours: String,
    pub allowed_occasions: u32,
    pub spread_days: u32,
    pub normal_days: u32,
    /// A smaller part of what all zones use of another resource is nothing to write about.
    pub material_percent: String,
    /// What the case is about, if it is no WebSockets.
    pub resource: Option<Resource>,
    /// `reconnect_storm`, `silent_sockets`, or nothing.
    pub client: Option<&'static str>,
    pub offer: Offer,
    pub links: Option<Links>,
    pub next: Next,
    /// The grace's end, if this notice is delivered today or was the first one's.
    pub no_limit_before: String,
    /// When the case's first notice was sent; nothing in the first one.
    pub first_notice: Option<String>,
    pub limit: Option<Limit>,
    /// A limit was in force on this case before.
    pub was_limited: bool,
    pub exempt_until: Option<String>,
    /// The case was closed because of a larger plan.
    pub new_plan: bool,
    pub plot_id: &'static str,
    pub plot_description: String,
}

/// What the plan bounds beside WebSockets, as it was when the case was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// With its unit, as `1,000,000 bytes per second`.
    pub bound: String,
    /// With one decimal.
    pub over_hours: String,
    pub until: String,
}

impl Resource {
    /// `name`: as in the configuration.
    pub fn new(name: &str, bound: u64, over_hours: f64, until: OffsetDateTime) -> Self {
        let unit = match name {
            "socket_memory_bytes" => "bytes of memory for its connections",
            "bytes_per_second" => "bytes per second, both ways",
            "upgrades_per_second" => "new connections per second",
            other => other,
        };
        Self {
            bound: format!("{} {unit}", thousands(bound)),
            over_hours: format!("{over_hours:.1}"),
            until: day_in_words(until),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Offer {
    Exemption,
    Plan { plan: String },
    Stay,
    Talk,
}

/// Addresses of the page, one for each way to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Links {
    pub page: String,
    pub event: String,
    pub talk: String,
    pub plans: String,
    pub until: String,
}

/// What follows if nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Next {
    Reminder { on: String },
    Person { on: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    pub cap: u64,
    pub from: String,
}

/// What of a letter is neither in the plot nor in the policy.
#[derive(Clone, Debug)]
pub struct Letterhead {
    pub kind: NoticeKind,
    /// 1 for the case's first notice.
    pub number: u8,
    pub sender_name: String,
    pub case: String,
    /// When the notice was queued.
    pub at: OffsetDateTime,
    /// When the case's earliest delivered notice arrived.
    pub first_delivered: Option<OffsetDateTime>,
    pub resource: Option<Resource>,
    pub client: Option<&'static str>,
    pub offer: Offer,
    pub links: Option<Links>,
    pub limit: Option<(u64, OffsetDateTime)>,
    pub was_limited: bool,
    pub exempt_until: Option<OffsetDateTime>,
    pub new_plan: bool,
}

impl About {
    pub fn new(head: Letterhead, policy: &Policy, plot: &Plot) -> Self {
        let detection = policy.detection();
        let guideline = plot.guideline();
        let next_at = day_in_words(head.at.saturating_add(policy.case_gap()));
        let next = if head.number < policy.params().contact.per_case {
            Next::Reminder { on: next_at }
        } else {
            Next::Person { on: next_at }
        };
        let grace_from = head.first_delivered.unwrap_or(head.at);
        let highest = plot.slots.iter().map(|slot| slot.max).fold(0.0, f64::max);
        Self {
            kind: head.kind,
            sender_name: head.sender_name,
            zone: plot.zone.clone(),
            plan: plot.plan.clone(),
            case: head.case,
            guideline,
            over_above: plot.over_above(),
            over_percent: ((detection.over_ratio - 1.0) * 100.0).round().max(0.0) as u64,
            over_hours: format!("{:.1}", plot.totals.over_hours),
            occasions: plot.spikes.len(),
            highest: highest.round() as u64,
            known_percent: plot.known_percent(),
            from: day_in_words(plot.from.start()),
            until: day_in_words(plot.until.back(1).start()),
            window_days: detection.window_days,
            allowed_hours: trimmed(detection.sustained_hours),
            allowed_occasions: detection.repeated_spikes,
            spread_days: detection.repeated_spread_days,
            normal_days: detection.normal_days,
            material_percent: trimmed(detection.materiality * 100.0),
            resource: head.resource,
            client: head.client,
            offer: head.offer,
            links: head.links,
            next,
            no_limit_before: day_in_words(grace_from.saturating_add(policy.grace())),
            first_notice: head.first_delivered.map(day_in_words),
            limit: head.limit.map(|(cap, from)| Limit { cap, from: day_in_words(from) }),
            was_limited: head.was_limited,
            exempt_until: head.exempt_until.map(day_in_words),
            new_plan: head.new_plan,
            plot_id: PLOT_ID,
            plot_description: plot.description(),
        }
    }
}

/// `36` of 36.0, `36.5` of 36.5.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `27 November 2026`, in UTC.
pub fn day_in_words(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!("{} {} {}", at.day(), at.month(), at.year())
}

/// Letters to try templates with: one with everything, one with as little as there can be.
pub fn samples(kind: NoticeKind) -> [About; 2] {
    let link = |answer: &str| format!("https://notices.example.com/n/TOKEN{answer}");
    let day = |day: &str| format!("{day} November 2026");
    let full = About {
        kind,
        sender_name: "Example Edge".to_owned(),
        zone: "chat.example.com".to_owned(),
        plan: "free".to_owned(),
        case: "c-0123456789ab".to_owned(),
        guideline: 1000,
        over_above: 1100,
        over_percent: 10,
        over_hours: "41.5".to_owned(),
        occasions: 4,
        highest: 2345,
        known_percent: 97,
        from: "28 October 2026".to_owned(),
        until: day("26"),
        window_days: 30,
        allowed_hours: "36".to_owned(),
        allowed_occasions: 4,
        spread_days: 7,
        normal_days: 14,
        material_percent: "0.5".to_owned(),
        resource: Some(Resource::new("bytes_per_second", 1_000_000, 41.5, datetime!(2026-11-26 12:00 UTC))),
        client: Some("reconnect_storm"),
        offer: Offer::Plan { plan: "pro".to_owned() },
        links: Some(Links {
            page: link(""),
            event: link("#event"),
            talk: link("#talk"),
            plans: link("#plans"),
            until: "26 January 2027".to_owned(),
        }),
        next: Next::Reminder { on: "4 December 2026".to_owned() },
        no_limit_before: "11 December 2026".to_owned(),
        first_notice: Some(day("20")),
        limit: Some(Limit { cap: 1200, from: "11 December 2026".to_owned() }),
        was_limited: true,
        exempt_until: Some("31 December 2026".to_owned()),
        new_plan: true,
        plot_id: PLOT_ID,
        plot_description: "Live WebSockets of chat.example.com".to_owned(),
    };
    let needs_first = kind == NoticeKind::Reminder || kind == NoticeKind::LimitScheduled;
    let bare = About {
        occasions: 1,
        known_percent: 100,
        resource: None,
        client: None,
        offer: Offer::Talk,
        links: None,
        next: Next::Person { on: "4 December 2026".to_owned() },
        first_notice: full.first_notice.clone().filter(|_| needs_first),
        limit: full.limit.clone().filter(|_| kind == NoticeKind::LimitScheduled),
        was_limited: false,
        exempt_until: None,
        new_plan: false,
        ..full.clone()
    };
    [full, bare]
}
