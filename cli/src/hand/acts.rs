//! `weir acts`.

use std::process::ExitCode;

use time::OffsetDateTime;
use weir_agent::ActsReply;

use super::{Agent, records, runtime};
use crate::text::{Line, Style};

/// What operators have put in force on this host: who, why and until when.
///
/// With --history what was ever done, newest first, from the ledger. (Without an agent: `weir ledger export`.)
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ActsArgs {
    /// The newest N entries of the ledger instead.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "50",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    history: Option<u64>,
    #[command(flatten)]
    agent: Agent,
}

const EXAMPLES: &str = "\
Examples:
  weir acts
  weir acts --history 20
  weir acts --json | jq '.acts[] | select(.zone == \"shop.example\")'";

pub fn run(args: &ActsArgs) -> anyhow::Result<ExitCode> {
    let page = match args.history {
        Some(count) => format!("/api/acts?history={count}"),
        None => "/api/acts".to_owned(),
    };
    let client = args.agent.client()?;
    let reply: ActsReply = runtime()?.block_on(client.get(&page))?;
    args.agent.tell(&reply, || lines(&reply, args.history.is_some()))
}

fn lines(reply: &ActsReply, history: bool) -> Vec<Line> {
    let mut lines = match (reply.acts.is_empty(), history) {
        (false, _) => records::table(&reply.acts, OffsetDateTime::now_utc()),
        (true, true) => vec![Line::new(Style::Faint, "nobody has done anything yet")],
        (true, false) => vec![Line::new(Style::Faint, "nothing is in force")],
    };
    if let Some(fault) = &reply.ledger_fault {
        lines.push(Line::new(Style::Bad, format!("no act can be taken: {fault}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::to_text;

    #[test]
    fn a_ledger_that_fails_is_said_last_and_loud() {
        let reply = ActsReply { acts: Vec::new(), ledger_fault: Some("the disk is full".to_owned()) };
        let text = to_text(&lines(&reply, false), false);
        assert_eq!(text, "nothing is in force\nno act can be taken: the disk is full\n");
    }
}
