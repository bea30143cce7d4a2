//! `weir cases` and `weir case`.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};
use weir_agent::{CaseAct, CaseRecord, CaseReply, CaseRequest, CasesReply};

use super::{Agent, runtime};
use crate::{
    output,
    table::{Align, Table},
    text::{Line, Style},
};

/// The board: every case, what it rests on, and what happens next.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  weir cases\n  weir cases --all --json")]
pub struct CasesArgs {
    /// Closed ones of the last 30 days, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    agent: Agent,
}

/// Look at a case, or do something with it.
///
/// Every act is recorded with who did it and why, before it has any effect. What the policy forbids is refused, with the rule that
/// stands against it. A case is named by its number or by its zone.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CaseArgs {
    #[command(subcommand)]
    command: CaseCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir case show shop.example
  weir case preview c-0123456789ab --html > letter.html
  weir case contact shop.example --reason \"fourth week of spikes\"
  weir case bounce shop.example --reason \"came back: no such mailbox\"
  weir case exempt shop.example --for 10d --reason \"their sale, agreed by phone\"
  weir case schedule-limit shop.example 1200 --from 2026-05-01T00:00:00Z --reason \"no answer to three letters\"
  weir case approve shop.example --reason \"agreed with sales\"
  weir case lift shop.example --reason \"moved to business\"";

#[derive(Subcommand)]
enum CaseCommand {
    /// The case with its notices and what happens next.
    Show {
        #[arg(value_name = "ID")]
        case: String,
        #[command(flatten)]
        agent: Agent,
    },
    /// The letter that would be sent now, but for its links, which lead nowhere.
    Preview {
        /// The case's number.
        #[arg(value_name = "ID")]
        case: String,
        /// Of another kind than what would be said next.
        #[arg(long, value_enum)]
        kind: Option<Letter>,
        /// As HTML with the plot in it, for a browser.
        #[arg(long, conflicts_with = "json")]
        html: bool,
        #[command(flatten)]
        agent: Agent,
    },
    /// Send the next notice to the customer.
    Contact(Act),
    /// The customer has answered, by another way than a link.
    Reply {
        #[arg(long, value_enum)]
        answer: Answer,
        #[command(flatten)]
        act: Act,
    },
    /// Write something down.
    Note(Act),
    /// A letter that was delivered came back: it was no contact, and what rested on it ends.
    Bounce {
        /// Of the case's letters, as `weir case show` numbers them [default: the last one that was delivered].
        #[arg(long, value_name = "N")]
        notice: Option<u8>,
        #[command(flatten)]
        act: Act,
    },
    /// What happens until then opens no case, and limits nobody.
    Exempt {
        /// As 10d or 12h.
        #[arg(long = "for", value_name = "DURATION", value_parser = super::seconds)]
        for_seconds: u64,
        #[command(flatten)]
        act: Act,
    },
    /// End an exemption before its time.
    EndExemption(Act),
    /// Close the case.
    Resolve {
        #[arg(long, value_enum, default_value = "resolved")]
        how: How,
        #[command(flatten)]
        act: Act,
    },
    /// Announce a limit: not before a delivered notice and the grace after it.
    ScheduleLimit {
        #[arg(value_name = "ID")]
        case: String,
        /// Live WebSockets from which on new upgrades are refused.
        #[arg(value_name = "N")]
        cap: u64,
        /// Not before this, as 2026-05-01T00:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        from: OffsetDateTime,
        #[command(flatten)]
        why: Why,
    },
    /// Approve the limit that is scheduled.
    Approve(Act),
    /// End a limit, in force or scheduled.
    Lift(Act),
}

#[derive(clap::Args)]
struct Act {
    /// The case's number, or its zone.
    #[arg(value_name = "ID")]
    case: String,
    #[command(flatten)]
    why: Why,
}

#[derive(clap::Args)]
struct Why {
    /// Why. It goes into the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    agent: Agent,
}

#[derive(Clone, Copy, ValueEnum)]
enum Answer {
    Event,
    Talk,
    Plans,
}

#[derive(Clone, Copy, ValueEnum)]
enum Letter {
    First,
    Reminder,
    EventExempted,
    Resolved,
    LimitScheduled,
}

impl Letter {
    /// As the agent calls it.
    const fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Reminder => "reminder",
            Self::EventExempted => "event_exempted",
            Self::Resolved => "resolved",
            Self::LimitScheduled => "limit_scheduled",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    Resolved,
    Upgraded,
    FalseAlarm,
}

fn moment(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; for example 2026-05-01T00:00:00Z"))
}

pub fn cases(args: &CasesArgs) -> anyhow::Result<ExitCode> {
    let client = args.agent.client()?;
    let mut reply: CasesReply = runtime()?.block_on(client.get("/api/cases"))?;
    reply.cases.retain(|case| args.all || !matches!(case.state.as_str(), "closed" | "none"));
    args.agent.tell(&reply, || board(&reply))
}

pub fn case(args: CaseArgs) -> anyhow::Result<ExitCode> {
    let (act, did) = match args.command {
        CaseCommand::Show { case, agent } => return show(&case, &agent),
        CaseCommand::Preview { case, kind, html, agent } => return preview(&case, kind, html, &agent),
        CaseCommand::Contact(act) => (act, CaseAct::Contact),
        CaseCommand::Reply { answer, act } => {
            use weir_reachout::fact::Answer as Said;
            let answer = match answer {
                Answer::Event => Said::Event,
                Answer::Talk => Said::Talk,
                Answer::Plans => Said::Plans,
            };
            (act, CaseAct::Reply { answer })
        }
        CaseCommand::Note(act) => (act, CaseAct::Note),
        CaseCommand::Bounce { notice, act } => (act, CaseAct::Bounce { number: notice }),
        CaseCommand::Exempt { for_seconds, act } => {
            let now = now(&act.why.agent)?;
            let until =
                now + time::Duration::seconds(i64::try_from(for_seconds).unwrap_or(i64::MAX).min(10 << 30));
            (act, CaseAct::Exempt { until })
        }
        CaseCommand::EndExemption(act) => (act, CaseAct::EndExemption),
        CaseCommand::Resolve { how, act } => {
            let how = match how {
                How::Resolved => "resolved",
                How::Upgraded => "upgraded",
                How::FalseAlarm => "false_alarm",
            };
            (act, CaseAct::Resolve { how: how.to_owned() })
        }
        CaseCommand::ScheduleLimit { case, cap, from, why } => {
            (Act { case, why }, CaseAct::ScheduleLimit { cap, from })
        }
        CaseCommand::Approve(act) => (act, CaseAct::Approve),
        CaseCommand::Lift(act) => (act, CaseAct::Lift),
    };
    let Act { case, why: Why { reason, agent } } = act;
    let request = CaseRequest { case, reason, act: did };
    let client = agent.client()?;
    let reply: CaseReply = runtime()?.block_on(client.post("/api/cases", &request))?;
    agent.tell(&reply, || one(&reply.case))
}

/// The policy's time, which is the agent's.
fn now(agent: &Agent) -> anyhow::Result<OffsetDateTime> {
    let reply: CasesReply = runtime()?.block_on(agent.client()?.get("/api/cases"))?;
    Ok(reply.now)
}

fn show(name: &str, agent: &Agent) -> anyhow::Result<ExitCode> {
    let client = agent.client()?;
    let reply: CasesReply = runtime()?.block_on(client.get("/api/cases"))?;
    let named = |case: &&CaseRecord| case.case.as_deref() == Some(name) || case.zone == name;
    let Some(case) = reply.cases.iter().find(named) else {
        anyhow::bail!("no case and no flagged zone is called `{name}`: see `weir cases --all`");
    };
    agent.tell(case, || one(case))
}

fn preview(case: &str, kind: Option<Letter>, html: bool, agent: &Agent) -> anyhow::Result<ExitCode> {
    let kind = kind.map_or_else(String::new, |kind| format!("&kind={}", kind.label()));
    let page = format!("/api/cases/{case}/letter?html={html}{kind}");
    let letter = runtime()?.block_on(agent.client()?.page(&page))?;
    let letter = String::from_utf8_lossy(&letter);
    if agent.json {
        return agent.tell(&serde_json::json!({ "letter": letter }), Vec::new);
    }
    output::to_stdout(&letter)?;
    Ok(ExitCode::SUCCESS)
}

fn board(reply: &CasesReply) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(fault) = &reply.fault {
        lines.push(Line::default().and(Style::Strong, format!("nothing is decided at present: {fault}")));
    }
    if reply.cases.is_empty() {
        lines.push(Line::default().and(Style::Plain, "no case is open, and no zone is flagged"));
        return lines;
    }
    let mut table = Table::new([
        ("case", Align::Left),
        ("zone", Align::Left),
        ("plan", Align::Left),
        ("state", Align::Left),
        ("rule", Align::Left),
        ("over", Align::Right),
        ("occasions", Align::Right),
        ("days", Align::Right),
        ("next", Align::Left),
    ]);
    for case in &reply.cases {
        let plain = |text: String| (Style::Plain, text);
        let next =
            case.next_at.map_or_else(|| case.next.clone(), |at| format!("{}, {}", case.next, short(at)));
        table.push(vec![
            plain(case.case.clone().unwrap_or_else(|| "-".to_owned())),
            (Style::Strong, case.zone.clone()),
            plain(case.plan.clone()),
            plain(case.state.clone()),
            plain(case.rule.clone().unwrap_or_default()),
            plain(format!("{:.1} h", case.over_hours)),
            plain(case.occasions.to_string()),
            plain(format!("{:.1}", case.days_in_state)),
            plain(next),
        ]);
    }
    lines.extend(table.lines());
    lines
}

/// One case in words.
pub fn one(case: &CaseRecord) -> Vec<Line> {
    let line = |name: &str, text: String| {
        Line::default().and(Style::Faint, format!("{name:<12}")).and(Style::Plain, text)
    };
    let mut lines = vec![
        line("zone", format!("{} ({}, guideline {})", case.zone, case.plan, case.guideline)),
        line("case", case.case.clone().unwrap_or_else(|| "none".to_owned())),
        line(
            "state",
            match case.since {
                Some(since) => format!("{} since {}", case.state, short(since)),
                None => case.state.clone(),
            },
        ),
        line(
            "usage",
            format!(
                "{:.1} h over in the window ({:.0} % of the budget), {} occasions, {:.0} % known",
                case.over_hours,
                case.budget_spent * 100.0,
                case.occasions,
                (case.coverage * 100.0).floor()
            ),
        ),
    ];
    if let Some(rule) = &case.rule {
        lines.insert(2, line("rule", rule.clone()));
    }
    for (number, notice) in (1..).zip(&case.notices) {
        let when = notice.delivered_at.map_or_else(String::new, |at| format!(" {}", short(at)));
        lines.push(line(
            "notice",
            format!(
                "{number}: {}, queued {}, {}{when}",
                notice.kind,
                short(notice.queued_at),
                notice.outcome
            ),
        ));
    }
    if let Some(cap) = case.cap {
        let from = case.limit_from.map_or_else(String::new, |at| format!(" from {}", short(at)));
        let by =
            case.approved_by.as_ref().map_or("not approved".to_owned(), |who| format!("approved by {who}"));
        lines.push(line("limit", format!("{cap}{from}, {by}")));
    }
    if let Some(until) = case.exempt_until {
        lines.push(line("exempt", format!("until {}", short(until))));
    }
    if !case.next.is_empty() {
        let at = case.next_at.map_or_else(String::new, |at| format!(", {}", short(at)));
        lines.push(line("next", format!("{}{at}", case.next)));
    }
    lines
}

pub fn short(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(format_description!("[year]-[month]-[day] [hour]:[minute]"))
        .unwrap_or_default()
}
