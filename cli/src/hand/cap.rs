//! `weir cap`.

use std::process::ExitCode;

use clap::Subcommand;
use weir_agent::ActRequest;

use super::{Agent, records, seconds};

/// Cap the live WebSockets of a zone on this host for a time, because abuse is suspected.
///
/// The kernel refuses new upgrades above the cap and answers 503 with the reason `verdict`; established WebSockets stay. The
/// cap ends by itself, whether or not an agent runs. Repeating it replaces what it said before.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CapArgs {
    #[command(subcommand)]
    command: CapCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir cap set shop.example 500 --for 1h --verdict \"x30 in 60 s from 3 prefixes, no bytes; see INC-42\"
  weir cap clear shop.example --reason \"over since 14:00\"
  weir acts                          What is in force, who did it, and until when.";

#[derive(Subcommand)]
enum CapCommand {
    /// Cap a zone.
    Set {
        zone: String,
        /// Live WebSockets of the zone on this host; below the plan's abuse cap.
        #[arg(value_name = "N")]
        websockets: u64,
        /// How long, as 15m or 1h30m; at most 30 days.
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        for_seconds: u64,
        /// The evidence, in words. It goes into the ledger.
        #[arg(long, value_name = "TEXT")]
        verdict: String,
        #[command(flatten)]
        agent: Agent,
    },
    /// End a cap before its time.
    Clear {
        zone: String,
        /// Why. It goes into the ledger.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        agent: Agent,
    },
}

pub fn run(args: CapArgs) -> anyhow::Result<ExitCode> {
    let (agent, request) = match args.command {
        CapCommand::Set { zone, websockets, for_seconds, verdict, agent } => {
            (agent, ActRequest::CapSet { zone, websockets, for_seconds, verdict })
        }
        CapCommand::Clear { zone, reason, agent } => (agent, ActRequest::CapClear { zone, reason }),
    };
    agent.act(&request, |reply| reply.act.iter().map(records::done).collect())
}
