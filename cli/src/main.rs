//! The `weir` command.
#![forbid(unsafe_code)]

mod agent;
mod reload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Connection accounting in the kernel, with its own WebSocket proxy.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load or adopt the kernel programs, keep the zone table, export, audit.
    Agent(agent::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Agent(args) => agent::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
