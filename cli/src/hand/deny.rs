//! `weir deny`.

use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use weir_agent::{ActRequest, DeniedRecord, DeniedReply};

use super::{Agent, records, runtime, seconds};
use crate::{
    table::{Align, Table},
    text::{Line, Style},
};

/// Drop new connections from a prefix for a time.
///
/// The kernel drops the first packet of connections to weir's listeners, on every interface that the gate is on. Established
/// ones stay: `weir kill --source` ends them. A denial ends by itself, whether or not an agent runs.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DenyArgs {
    #[command(subcommand)]
    command: DenyCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir deny add 203.0.113.0/24 --for 15m --reason \"SYN flood\"
  weir deny list
  weir deny remove 203.0.113.0/24 --reason \"over\"";

#[derive(Subcommand)]
enum DenyCommand {
    /// Deny a prefix or an address.
    Add {
        prefix: String,
        /// How long, as 15m or 1h30m; at most 30 days.
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        for_seconds: u64,
        /// Why. It goes into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        agent: Agent,
    },
    /// What is denied now, by whom, why and until when.
    List {
        #[command(flatten)]
        agent: Agent,
    },
    /// End a denial before its time.
    Remove {
        prefix: String,
        /// Why. It goes into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        agent: Agent,
    },
}

pub fn run(args: DenyArgs) -> anyhow::Result<ExitCode> {
    let (agent, request) = match args.command {
        DenyCommand::List { agent } => return list(&agent),
        DenyCommand::Add { prefix, for_seconds, reason, agent } => {
            (agent, ActRequest::DenyAdd { prefix, for_seconds, reason })
        }
        DenyCommand::Remove { prefix, reason, agent } => (agent, ActRequest::DenyRemove { prefix, reason }),
    };
    agent.act(&request, |reply| {
        let done = reply.act.iter().map(records::done);
        done.chain(reply.warning.iter().map(records::warning)).collect()
    })
}

fn list(agent: &Agent) -> anyhow::Result<ExitCode> {
    let client = agent.client()?;
    let reply: DeniedReply = runtime()?.block_on(client.get("/api/denied"))?;
    agent.tell(&reply, || {
        let mut lines = match reply.denied.is_empty() {
            true => vec![Line::new(Style::Faint, "nothing is denied")],
            false => table(&reply.denied, OffsetDateTime::now_utc()),
        };
        lines.extend(reply.warning.iter().map(records::warning));
        lines
    })
}

fn table(denied: &[DeniedRecord], now: OffsetDateTime) -> Vec<Line> {
    let mut table = Table::new([
        ("prefix", Align::Left),
        ("by", Align::Left),
        ("until", Align::Left),
        ("why", Align::Left),
    ]);
    for record in denied {
        let act = record.act.as_ref();
        let temporary = act.map(|act| act.who.clone()).or_else(|| record.by.clone());
        let configured = record.configured.then(|| "configuration".to_owned());
        let by: Vec<String> = configured.into_iter().chain(temporary).collect();
        let until = record.until.filter(|_| !record.configured);
        table.push(vec![
            (Style::Strong, record.prefix.clone()),
            (Style::Plain, by.join(", ")),
            (Style::Plain, until.map_or_else(String::new, |until| records::end(until, true, now))),
            (Style::Plain, act.map_or_else(String::new, |act| act.reason.replace(['\n', '\t'], " "))),
        ]);
    }
    table.lines()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    #[test]
    fn the_list_says_by_whom_and_until_when() {
        let now = time::macros::datetime!(2026-03-01 12:00 UTC);
        let record = |prefix: &str, configured, by: Option<&str>, until| DeniedRecord {
            prefix: prefix.to_owned(),
            configured,
            by: by.map(str::to_owned),
            until,
            act: None,
        };
        let until = Some(now + time::Duration::minutes(5));
        let text = to_text(
            &table(
                &[
                    record("192.0.2.0/24", true, None, None),
                    record("198.51.100.7/32", false, Some("verdict"), until),
                    record("203.0.113.0/24", true, Some("operator"), until),
                ],
                now,
            ),
            false,
        );
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["192.0.2.0/24", "configuration"]);
        assert_eq!(rows[2][..2], ["198.51.100.7/32", "verdict"]);
        assert!(rows[2].contains(&"(5m"), "{text}");
        assert_eq!(rows[3], ["203.0.113.0/24", "configuration,", "operator"], "it goes on after that end");
    }
}
