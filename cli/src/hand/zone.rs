//! `weir zone`.

use std::process::ExitCode;

use clap::Subcommand;
use weir_agent::ActRequest;

use super::{Agent, records, seconds};

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
  weir zone unblock shop.example --reason \"new credentials are out\"";

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
        ZoneCommand::Unblock { zone, reason, agent } => (agent, ActRequest::ZoneUnblock { zone, reason }),
    };
    agent.act(&request, |reply| reply.act.iter().map(records::done).collect())
}
