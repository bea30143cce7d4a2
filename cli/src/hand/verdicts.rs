//! `weir verdicts` and `weir verdict`.

use std::process::ExitCode;

use clap::Subcommand;
use time::OffsetDateTime;
use weir_agent::{CaseAct, CaseReply, CaseRequest, CasesReply, VerdictRecord};

use super::{Agent, cases::short, runtime};
use crate::{
    table::{Align, Table},
    text::{Line, Style},
};

/// Zones that are suspected of abuse, on what evidence, and what is done about it.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  weir verdicts\n  weir verdicts --json")]
pub struct VerdictsArgs {
    #[command(flatten)]
    agent: Agent,
}

/// Say something to a verdict on suspicion of abuse.
///
/// A verdict ends by itself, at most 15 minutes after its evidence; what it refuses ends after a day unless a person has looked. What is
/// said here is recorded with who said it and why.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct VerdictArgs {
    #[command(subcommand)]
    command: VerdictCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir verdict attend shop.example --reason \"botnet, upstream is informed\"
  weir verdict end shop.example --reason \"their load test, announced by phone\"";

#[derive(Subcommand)]
enum VerdictCommand {
    /// Let it go on past a day, while its evidence lasts.
    Attend(Said),
    /// End it, with what it refuses. None is made by itself for a day.
    End(Said),
}

#[derive(clap::Args)]
struct Said {
    /// Whose verdict.
    zone: String,
    /// Why, for whoever reads the ledger.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    agent: Agent,
}

pub fn verdicts(args: &VerdictsArgs) -> anyhow::Result<ExitCode> {
    let reply: CasesReply = runtime()?.block_on(args.agent.client()?.get("/api/cases"))?;
    args.agent.tell(&reply.verdicts, || board(&reply.verdicts))
}

pub fn verdict(args: VerdictArgs) -> anyhow::Result<ExitCode> {
    let (Said { zone, reason, agent }, act) = match args.command {
        VerdictCommand::Attend(said) => (said, CaseAct::AttendVerdict),
        VerdictCommand::End(said) => (said, CaseAct::EndVerdict),
    };
    let goes_on = act == CaseAct::AttendVerdict;
    let request = CaseRequest { case: zone, reason, act };
    let reply: CaseReply = runtime()?.block_on(agent.client()?.post("/api/cases", &request))?;
    let words = if goes_on {
        "the verdict goes on while its evidence lasts"
    } else {
        "the verdict has ended, and what it refused; none is made by itself for a day"
    };
    agent.tell(&reply, || vec![Line::default().and(Style::Plain, format!("{}: {words}", reply.case.zone))])
}

fn board(verdicts: &[VerdictRecord]) -> Vec<Line> {
    if verdicts.is_empty() {
        return vec![Line::default().and(Style::Plain, "no zone is suspected of abuse")];
    }
    let mut table = Table::new([
        ("verdict", Align::Left),
        ("zone", Align::Left),
        ("since", Align::Left),
        ("until", Align::Left),
        ("does", Align::Left),
        ("signs", Align::Left),
        ("attended", Align::Left),
    ]);
    for verdict in verdicts {
        let plain = |text: String| (Style::Plain, text);
        let does = match verdict.prefixes.as_slice() {
            [] => "observes".to_owned(),
            prefixes => format!("refuses {}", prefixes.join(", ")),
        };
        let moment = |at: OffsetDateTime| plain(short(at));
        table.push(vec![
            plain(verdict.verdict.clone()),
            (Style::Strong, verdict.zone.clone()),
            moment(verdict.since),
            moment(verdict.until),
            plain(does),
            plain(signs(&verdict.evidence)),
            plain(verdict.attended_by.clone().unwrap_or_else(|| "by nobody".to_owned())),
        ]);
    }
    table.lines()
}

/// `source 0.12 -> 0.93, shape 24 -> 324`: what is normal, and what was seen.
fn signs(evidence: &serde_json::Value) -> String {
    let families = evidence["families"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sign = |finding: &serde_json::Value| {
        let number = |key: &str| {
            let number = finding[key].as_f64().unwrap_or(0.0);
            if number > 1.0 { format!("{number:.0}") } else { format!("{number:.2}") }
        };
        format!("{} {} -> {}", finding["family"].as_str().unwrap_or("?"), number("baseline"), number("now"))
    };
    families.iter().map(sign).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_told_as_what_is_normal_and_what_was_seen() {
        let evidence = serde_json::json!({ "families": [
            { "family": "source", "baseline": 0.125, "now": 0.926 },
            { "family": "shape", "baseline": 24.0, "now": 324.0 },
        ] });
        assert_eq!(signs(&evidence), "source 0.12 -> 0.93, shape 24 -> 324");
        assert_eq!(signs(&serde_json::Value::Null), "");
    }
}
