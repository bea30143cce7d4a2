//! The `weir` command: one module a subcommand, and what they share.
//!
//! Exit codes: 0 done, 1 failed (one sentence on stderr says why, or the faults of the configuration), 2 wrong usage, 3 no agent
//! answers where one is asked to act.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod check;
mod demo;
mod failure;
mod hand;
mod http;
mod logging;
mod manager;
mod manual;
mod neighbours;
mod output;
mod proxy;
mod reload;
mod run;
mod settings;
mod signals;
mod simulate;
mod sources;
mod supervisor;
mod table;
mod text;
mod zone_cells;
mod zones;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Counts every live WebSocket of every zone in the kernel, lets spikes pass, refuses only abuse.
///
/// `weir agent` loads the kernel programs and exports their numbers, `weir proxy` serves WebSockets; `weir run` is both on
/// one host. Either may stop or die: the kernel goes on counting.
#[derive(Parser)]
#[command(name = "weir", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sudo weir demo                     See it at work, on the loopback address.
  weir check --config weir.toml      Is this configuration right, and has this host what it takes?
  weir run --config weir.toml        Agent and proxy on this host.
  weir zones                         The zones of this host and their live WebSockets.
  weir acts                          What operators have put in force, and until when.";

#[derive(Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Run(run::RunArgs),
    Agent(agent::AgentArgs),
    Proxy(proxy::ProxyArgs),
    Check(check::CheckArgs),
    Zones(zones::ZonesArgs),
    Acts(hand::acts::ActsArgs),
    Cases(hand::cases::CasesArgs),
    Case(hand::cases::CaseArgs),
    Verdicts(hand::verdicts::VerdictsArgs),
    Verdict(hand::verdicts::VerdictArgs),
    Policy(hand::policy::PolicyArgs),
    Deny(hand::deny::DenyArgs),
    Cap(hand::cap::CapArgs),
    Zone(hand::zone::ZoneArgs),
    Kill(hand::kill::KillArgs),
    Ledger(hand::ledger::LedgerArgs),
    Sources(sources::SourcesArgs),
    Simulate(simulate::SimulateArgs),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Zones(args) => zones::run(&args),
        Command::Sources(args) => sources::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Cases(args) => hand::cases::cases(&args),
        Command::Case(args) => hand::cases::case(args),
        Command::Verdicts(args) => hand::verdicts::verdicts(&args),
        Command::Verdict(args) => hand::verdicts::verdict(args),
        Command::Policy(args) => hand::policy::run(args),
        Command::Acts(args) => hand::acts::run(&args),
        Command::Deny(args) => hand::deny::run(args),
        Command::Cap(args) => hand::cap::run(args),
        Command::Zone(args) => hand::zone::run(args),
        Command::Kill(args) => hand::kill::run(&args),
        Command::Ledger(args) => hand::ledger::run(args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    };
    result.unwrap_or_else(|error| {
        output::to_stderr(&format!("weir: {}\n", failure::describe(&error)));
        hand::exit_code(&error)
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    /// Words of a line as a shell has them: parted by blanks, but not inside of double quotes. A pipe ends the command.
    fn words(line: &str) -> Vec<String> {
        let command = line.split(" | ").next().unwrap_or(line);
        let (mut words, mut quoted) = (vec![String::new()], false);
        for c in command.chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn every_command_of_the_recipes_is_one() {
        let page = include_str!("../../docs/operating.md");
        let blocks = page.split("```").skip(1).step_by(2);
        // What stands behind a wide gap is said of the command.
        let commands: Vec<&str> = blocks
            .flat_map(str::lines)
            .filter(|line| line.starts_with("weir "))
            .map(|line| line.split("    ").next().unwrap_or(line))
            .collect();
        assert!(commands.len() > 10, "{commands:?}");
        for command in commands {
            // A hash is not written out on the page.
            let command = command.replace("9f86d081884c7d65...", &"9f".repeat(32));
            if let Err(error) = super::Cli::try_parse_from(words(&command)) {
                panic!("docs/operating.md: {command}: {error}");
            }
        }
    }
}
