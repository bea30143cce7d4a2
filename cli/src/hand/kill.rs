//! `weir kill`.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    process::ExitCode,
};

use anyhow::bail;
use clap::ArgGroup;
use weir_agent::{ActReply, ActRequest};

use super::Agent;
use crate::{
    output,
    text::{Line, Style, plural},
};

/// End the established sockets of a zone, or of a source.
///
/// Clients get a TCP reset; a tunnel ends at its origin too. Only sockets that weir counts are ended, and nothing keeps
/// clients from coming back: block, cap or deny first. Asks before it does it; without a terminal it needs --yes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("target").required(true).args(["zone", "source"])))]
pub struct KillArgs {
    /// The zone whose sockets are ended.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// The prefix or address whose sockets are ended, in whatever zone they are.
    #[arg(long, value_name = "PREFIX")]
    source: Option<String>,
    /// Count, and end nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Why. It goes into the ledger.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    #[command(flatten)]
    agent: Agent,
}

const EXAMPLES: &str = "\
Examples:
  weir kill --zone shop.example --dry-run
  weir kill --zone shop.example --reason \"sessions were hijacked, owner asked for it\"
  weir kill --source 203.0.113.0/24 --yes --reason \"botnet, INC-42\"";

pub fn run(args: &KillArgs) -> anyhow::Result<ExitCode> {
    let of = match (&args.zone, &args.source) {
        (Some(zone), _) => format!("of {zone}"),
        (None, source) => format!("from {}", source.as_deref().unwrap_or_default()),
    };
    if !args.dry_run && !args.yes && !confirmed(args, &of)? {
        output::to_stderr("nothing was ended\n");
        return Ok(ExitCode::FAILURE);
    }
    let reply = args.agent.ask(&request(args, args.dry_run))?;
    args.agent.tell(&reply, || vec![told(&reply, &of)])
}

fn request(args: &KillArgs, dry_run: bool) -> ActRequest {
    ActRequest::Kill {
        zone: args.zone.clone(),
        source: args.source.clone(),
        dry_run,
        reason: args.reason.clone().unwrap_or_default(),
    }
}

fn confirmed(args: &KillArgs, of: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on: look with --dry-run, then say --yes");
    }
    let found = args.agent.ask(&request(args, true))?.sockets.unwrap_or(0);
    output::to_stderr(&format!("End {} {of}? Type yes: ", plural(found, "established socket")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

fn told(reply: &ActReply, of: &str) -> Line {
    let found = reply.sockets.unwrap_or(0);
    match (&reply.act, reply.ended) {
        (Some(act), Some(ended)) => {
            let gone = match found.saturating_sub(ended) {
                0 => String::new(),
                gone => format!("; {gone} more had ended by then"),
            };
            Line::new(Style::Good, format!("{} {of} ended{gone}", plural(ended, "socket")))
                .and(Style::Faint, format!(" (ledger entry {})", act.entry))
        }
        _ => Line::new(Style::Plain, format!("{} {of} would be ended", plural(found, "socket"))),
    }
}
