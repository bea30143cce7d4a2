//! Log lines on stderr.

use std::{
    env::{self, VarError},
    io::{self, IsTerminal as _},
};

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::output;

/// How a process that stays logs.
#[derive(Clone, Copy, clap::Args)]
pub struct LogArgs {
    /// How log lines are written to stderr. RUST_LOG filters them (default `info`, and `error` for `h2`; for example `weir_proxy=debug`).
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
        let asked = match env::var(EnvFilter::DEFAULT_ENV) {
            Err(VarError::NotPresent) => Ok(String::new()),
            asked => asked,
        };
        let filter = asked
            .map_err(anyhow::Error::new)
            .and_then(|asked| Ok(filter(&asked)?))
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

/// What is logged. `h2` warns of what a client does, a line for each that does it: the proxy counts them instead. Who asks for
/// lines of `h2` gets them.
fn filter(asked: &str) -> Result<EnvFilter, ParseError> {
    let builder = EnvFilter::builder();
    let asked = if asked.is_empty() { "info" } else { asked };
    // What is asked comes last: of two for one target that holds.
    builder.parse(format!("h2=error,{asked}"))
}

impl Default for LogArgs {
    fn default() -> Self {
        Self { log_format: Format::Text }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{enabled, subscriber::with_default};
    use tracing_subscriber::{Registry, layer::SubscriberExt as _};

    use super::filter;

    #[test]
    fn clients_write_no_lines_by_h2_unless_somebody_asks_for_them() {
        for (asked, of_h2, of_weir) in [
            ("", false, true),
            ("info", false, true),
            ("weir_proxy=debug", false, true),
            ("error", false, false),
            ("info,h2=warn", true, true),
            ("h2=debug,weir_proxy=error", true, false),
        ] {
            let filter = filter(asked).expect("a filter");
            with_default(Registry::default().with(filter), || {
                let seen = (
                    enabled!(target: "h2::proto::streams::recv", tracing::Level::WARN),
                    enabled!(target: "weir_proxy", tracing::Level::INFO),
                );
                assert_eq!(seen, (of_h2, of_weir), "{asked:?}");
            });
        }
        assert!(filter("a=b=c").is_err());
    }
}
