//! `weir deny`.

use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use weir_agent::{ActRequest, ActsReply};

use super::{Agent, records, runtime, seconds};
use crate::text::{Line, Style};

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
    agent.act(&request, |reply| reply.act.iter().map(records::done).collect())
}

fn list(agent: &Agent) -> anyhow::Result<ExitCode> {
    let client = agent.client()?;
    let mut reply: ActsReply = runtime()?.block_on(client.get("/api/acts"))?;
    reply.acts.retain(|act| act.act == "deny_add");
    agent.tell(&reply, || match reply.acts.is_empty() {
        true => vec![Line::new(Style::Faint, "nothing is denied")],
        false => records::table(&reply.acts, OffsetDateTime::now_utc()),
    })
}
