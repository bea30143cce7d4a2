//! `weir zone`.

use std::process::ExitCode;

use clap::Subcommand;
use weir_agent::{ActRequest, HeldReply, ReportReply, ZoneRecord};

use super::{Agent, cases, records, runtime, seconds};
use crate::{
    output,
    table::{Align, Table},
    text::{Line, Style, plural},
};

/// Look at a zone on this host, block it for a time, and let it in again.
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
  weir zone show shop.example
  weir zone block shop.example --for 1h --reason \"credentials leaked, owner asked for it\"
  weir zone unblock shop.example --reason \"new credentials are out\"
  weir zone report shop.example
  weir zone report shop.example --svg > shop.svg";

#[derive(Subcommand)]
enum ZoneCommand {
    /// A zone's numbers, and what its sockets held at the last audit.
    Show {
        zone: String,
        #[command(flatten)]
        agent: Agent,
    },
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
        /// The evidence plot as SVG, on standard output.
        #[arg(long, conflicts_with = "json")]
        svg: bool,
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
        ZoneCommand::Show { zone, agent } => return show(&agent, &zone),
        ZoneCommand::Block { zone, for_seconds, reason, agent } => {
            (agent, ActRequest::ZoneBlock { zone, for_seconds, reason })
        }
        ZoneCommand::Report { zone, svg: true, agent } => {
            let page = format!("/api/zones/{zone}/plot.svg");
            let svg = runtime()?.block_on(agent.client()?.page(&page))?;
            output::to_stdout(&String::from_utf8_lossy(&svg))?;
            return Ok(ExitCode::SUCCESS);
        }
        ZoneCommand::Report { zone, svg: false, agent } => {
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

fn show(agent: &Agent, zone: &str) -> anyhow::Result<ExitCode> {
    let client = agent.client()?;
    let record: ZoneRecord = runtime()?.block_on(client.get(&format!("/api/zones/{zone}")))?;
    agent.tell(&record, || lines(&record))
}

fn lines(record: &ZoneRecord) -> Vec<Line> {
    let mut lines = vec![
        Line::new(Style::Strong, record.zone.clone())
            .and(Style::Faint, format!(" (plan {}, {})", record.plan, record.state)),
        fact(
            "live",
            format!(
                "{}, {}; recently up to {}, guideline {}, abuse cap {}",
                plural(record.websockets, "WebSocket"),
                plural(record.sockets, "socket"),
                record.websockets_peak_recent,
                record.guideline,
                record.abuse_cap
            ),
        ),
        fact("ever", format!("{} admitted, {} refused", record.admitted_total, record.refused_total)),
        fact("bytes", format!("{} received, {} sent", record.received_bytes_total, record.sent_bytes_total)),
    ];
    match &record.held {
        Some(held) => lines.extend(held_lines(held)),
        None => lines.push(Line::new(Style::Faint, "no sockets at the last audit")),
    }
    lines
}

fn held_lines(held: &HeldReply) -> [Line; 5] {
    let milliseconds =
        |rtt: Option<f64>| rtt.map_or_else(|| "?".to_owned(), |rtt| format!("{:.1} ms", rtt * 1000.0));
    [
        Line::new(Style::Faint, format!("at the last audit, of {}:", plural(held.sockets, "socket"))),
        fact("memory", format!("{} bytes of the kernel's", held.memory_bytes)),
        fact(
            "queues",
            format!(
                "{} bytes not read by the server, {} not acknowledged by clients",
                held.receive_queue_bytes, held.send_queue_bytes
            ),
        ),
        fact(
            "network",
            format!(
                "round trip {} (median), {} (95 of 100 below); {} sent again",
                milliseconds(held.rtt_median_seconds),
                milliseconds(held.rtt_p95_seconds),
                plural(held.retransmits, "segment")
            ),
        ),
        fact("oldest", format!("{} s", held.oldest_seconds.round())),
    ]
}

fn fact(name: &str, value: String) -> Line {
    Line::new(Style::Faint, format!("  {name:<8}")).and(Style::Plain, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text::to_text, zone_cells::tests::zone};

    #[test]
    fn what_a_zones_sockets_hold_is_told_in_words() {
        let mut record = zone("shop.example", 7, 1);
        let text = |record: &ZoneRecord| to_text(&lines(record), false);
        assert!(text(&record).contains("no sockets at the last audit"));
        record.held = Some(HeldReply {
            sockets: 7,
            memory_bytes: 4096,
            receive_queue_bytes: 1,
            send_queue_bytes: 2,
            retransmits: 1,
            oldest_seconds: 61.4,
            rtt_median_seconds: Some(0.0123),
            rtt_p95_seconds: None,
        });
        let told = text(&record);
        for part in ["of 7 sockets", "4096 bytes", "12.3 ms (median), ?", "1 segment sent again", "61 s"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
