//! `weir zone`.

use std::process::ExitCode;

use clap::Subcommand;
use weir_agent::{ActRequest, ReportReply};

use super::{Agent, cases, records, runtime, seconds};
use crate::{
    table::{Align, Table},
    text::{Line, Style},
};

/// Block a zone on this host for a time, and let it in again.
///
/// Nothing new is attributed or admitted to a blocked zone; its clients are answered 403. Established WebSockets stay: `weir
/// kill --zone` ends them. The block ends by itself, whether or not an agent runs.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ZoneArgs {
    #[command(subcommand)]
    command: ZoneCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir zone block shop.example --for 1h --reason \"credentials leaked, owner asked for it\"
  weir zone unblock shop.example --reason \"new credentials are out\"
  weir zone report shop.example";

#[derive(Subcommand)]
enum ZoneCommand {
    /// Block a zone.
    Block {
        zone: String,
        /// How long, as 15m or 1h30m; at most 30 days.
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        for_seconds: u64,
        /// Why. It goes into the ledger.
        #[arg(long, visible_alias = "verdict", value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        agent: Agent,
    },
    /// What the zone used in the policy's window, day by day.
    Report {
        zone: String,
        #[command(flatten)]
        agent: Agent,
    },
    /// End a block before its time.
    Unblock {
        zone: String,
        /// Why. It goes into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        agent: Agent,
    },
}

pub fn run(args: ZoneArgs) -> anyhow::Result<ExitCode> {
    let (agent, request) = match args.command {
        ZoneCommand::Block { zone, for_seconds, reason, agent } => {
            (agent, ActRequest::ZoneBlock { zone, for_seconds, reason })
        }
        ZoneCommand::Report { zone, agent } => {
            let client = agent.client()?;
            let page = format!("/api/report/{zone}");
            let reply: ReportReply = runtime()?.block_on(client.get(&page))?;
            return agent.tell(&reply, || report(&reply));
        }
        ZoneCommand::Unblock { zone, reason, agent } => (agent, ActRequest::ZoneUnblock { zone, reason }),
    };
    agent.act(&request, |reply| reply.act.iter().map(records::done).collect())
}

fn report(reply: &ReportReply) -> Vec<Line> {
    let mut lines = cases::one(&reply.record);
    let line = |text: String| Line::default().and(Style::Plain, text);
    let (from, to) = (cases::short(reply.from), cases::short(reply.to));
    lines.push(line(format!("{:<12}{from} to {to}, policy {}", "window", reply.policy)));
    let number = |n: Option<f64>| n.map_or_else(|| "unknown".to_owned(), |n| format!("{n:.0}"));
    lines.push(line(format!("{:<12}{}, highest {}", "p95", number(reply.p95), number(reply.highest))));
    let mut table = Table::new([
        ("day", Align::Left),
        ("mean", Align::Right),
        ("highest", Align::Right),
        ("over", Align::Right),
        ("known", Align::Right),
    ]);
    for day in &reply.days {
        let plain = |text: String| (Style::Plain, text);
        table.push(vec![
            plain(day.day.clone()),
            plain(format!("{:.0}", day.mean)),
            plain(format!("{:.0}", day.max)),
            plain(format!("{:.1} h", day.over_hours)),
            plain(format!("{:.0} %", (day.known * 100.0).floor())),
        ]);
    }
    lines.extend(table.lines());
    lines
}
