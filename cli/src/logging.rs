//! Log lines on stderr.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::output;

/// How a process that stays logs.
#[derive(Clone, Copy, clap::Args)]
pub struct LogArgs {
    /// How log lines are written to stderr. RUST_LOG filters them (default `info`; for example `weir_proxy=debug`).
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// `--log-format`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people; in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogArgs {
    /// Begins to log. Called once, when the configuration is known to be right: its faults are no log lines.
    pub fn init(self) -> anyhow::Result<()> {
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .from_env()
            .context("RUST_LOG is not a filter of log lines, as `info` or `weir_proxy=debug` is")?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(output::has_colour(io::stderr().is_terminal()))
            .with_writer(io::stderr);
        match self.log_format {
            Format::Text => builder.init(),
            Format::Json => builder.json().flatten_event(true).init(),
        }
        Ok(())
    }

    /// The same as arguments for a child.
    pub fn to_arguments(self) -> [&'static str; 2] {
        let format = match self.log_format {
            Format::Text => "text",
            Format::Json => "json",
        };
        ["--log-format", format]
    }
}

impl Default for LogArgs {
    fn default() -> Self {
        Self { log_format: Format::Text }
    }
}
