//! `weir ledger`: with or without an agent.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use serde::Serialize;
use weir_agent::LedgerReader;
use weir_config::Config;
use weir_reachout::ledger::{Hash, Head};

use crate::{
    output,
    settings::DEFAULT_FILE,
    text::{Line, Style, plural, to_text},
};

/// Verify, export or copy the ledger of everything that operators and the policy did.
///
/// Needs no agent, and may run beside one. Needs to be the user who owns the ledger: root as a rule.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir ledger verify                          Prints the head; note it elsewhere ...
  weir ledger verify --head 42:9f86d0...      ... and nothing up to it can be cut off or replaced unseen.
  weir ledger export | jq 'select(.zone == \"shop.example\")'
  weir ledger backup /var/backups/weir-ledger.db";

#[derive(Subcommand)]
enum LedgerCommand {
    /// Follow the chain of hashes from the first entry to the last, and have SQLite check its file.
    ///
    /// Any edit, removal or insertion is named by its entry, and the exit code is 1.
    Verify {
        /// A head that was noted before, as it was printed.
        #[arg(long, value_name = "ENTRY:HASH", value_parser = head)]
        head: Option<Head>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: LedgerFile,
    },
    /// Print every entry, oldest first, one JSON object a line.
    Export {
        #[command(flatten)]
        file: LedgerFile,
        /// As it is always.
        #[arg(long, hide = true)]
        json: bool,
    },
    /// Copy it into a new file.
    Backup {
        to: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: LedgerFile,
    },
}

#[derive(clap::Args)]
struct LedgerFile {
    /// The ledger [default: agent.ledger of the configuration].
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    ledger: Option<PathBuf>,
    /// Configuration file, for the ledger's place [default: /etc/weir/weir.toml; without it /var/lib/weir/ledger.db].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The ledger if neither an option nor a configuration names one.
const DEFAULT_LEDGER: &str = "/var/lib/weir/ledger.db";

impl LedgerFile {
    fn open(&self) -> anyhow::Result<LedgerReader> {
        let default = Path::new(DEFAULT_FILE);
        let path = match (&self.ledger, &self.config) {
            (Some(ledger), _) => ledger.clone(),
            (None, None) if !default.exists() => DEFAULT_LEDGER.into(),
            (None, config) => Config::load(config.as_deref().unwrap_or(default))?.agent.ledger,
        };
        Ok(LedgerReader::open(&path)?)
    }
}

/// What a check or a copy found.
#[derive(Serialize)]
struct Found {
    entries: u64,
    /// As `--head` takes it.
    head: String,
}

impl Found {
    fn new(head: Head) -> Self {
        Self { entries: head.seq, head: format!("{}:{}", head.seq, head.hash) }
    }

    fn tell(&self, json: bool, text: &str) -> anyhow::Result<ExitCode> {
        let told = if json {
            serde_json::to_string(self)? + "\n"
        } else {
            let entries = plural_entries(self.entries);
            let lines = [
                Line::new(Style::Good, format!("{entries}, {text}")),
                Line::new(Style::Plain, format!("head {}", self.head)),
            ];
            to_text(&lines, output::has_colour(io::IsTerminal::is_terminal(&io::stdout())))
        };
        output::to_stdout(&told)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn plural_entries(count: u64) -> String {
    if count == 1 { plural(1, "entry") } else { format!("{count} entries") }
}

pub fn run(args: LedgerArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LedgerCommand::Verify { head, json, file } => {
            Found::new(file.open()?.verify(head)?).tell(json, "each as it was written")
        }
        LedgerCommand::Backup { to, json, file } => {
            let text = format!("copied to {}", to.display());
            Found::new(file.open()?.backup(&to)?).tell(json, &text)
        }
        LedgerCommand::Export { file, json: _ } => export(&file),
    }
}

fn export(file: &LedgerFile) -> anyhow::Result<ExitCode> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut gone = false;
    let written = file.open()?.each(|entry| {
        let line = serde_json::to_string(&entry).map_err(io::Error::other)?;
        let result = writeln!(stdout, "{line}");
        gone = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    });
    // A reader that has seen enough is no failure.
    if !gone {
        written?;
        match stdout.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn head(text: &str) -> Result<Head, String> {
    let wrong =
        || "write it as `weir ledger verify` prints it: the entry's number, a colon, 64 digits".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
    let hash = Hash::try_from(hash.to_owned()).map_err(|_| wrong())?;
    Ok(Head { seq: seq.parse().map_err(|_| wrong())?, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_printed() {
        let given = Head { seq: 7, hash: Hash::try_from("ab".repeat(32)).unwrap() };
        assert_eq!(head(&Found::new(given).head), Ok(given));
        for wrong in ["", "7", "7:", "x:00", "7:zz"] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
