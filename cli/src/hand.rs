//! The operator's hand: what the commands that act have in common.
//!
//! They speak to the agent through its Unix socket, and the agent records what they ask for before it does it. Exit codes: 0
//! done, 1 refused or failed, 2 wrong usage, 3 no agent answers.

pub mod acts;
pub mod cap;
pub mod cases;
pub mod client;
pub mod deny;
pub mod kill;
pub mod ledger;
pub mod policy;
mod records;
pub mod verdicts;
pub mod zone;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use weir_agent::{ActReply, ActRequest};
use weir_config::Config;

use self::client::{Client, ClientError};
use crate::{
    output,
    settings::DEFAULT_FILE,
    text::{Line, to_text},
};

/// Which agent, and how it is told what it answered.
#[derive(clap::Args)]
pub struct Agent {
    /// The agent's socket [default: agent.socket of the configuration].
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// Configuration file, for the agent's socket [default: /etc/weir/weir.toml; without it /run/weir/agent.sock].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the agent's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// The socket if neither an option nor a configuration names one.
const DEFAULT_SOCKET: &str = "/run/weir/agent.sock";

/// No agent answers.
pub const NO_AGENT: u8 = 3;

impl Agent {
    fn client(&self) -> anyhow::Result<Client> {
        let default = Path::new(DEFAULT_FILE);
        let path = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, None) if !default.exists() => DEFAULT_SOCKET.into(),
            (None, config) => Config::load(config.as_deref().unwrap_or(default))?.agent.socket,
        };
        Ok(Client::at(path))
    }

    /// Has the agent do something, and tells what came of it.
    fn act(
        &self,
        request: &ActRequest,
        told: impl FnOnce(&ActReply) -> Vec<Line>,
    ) -> anyhow::Result<ExitCode> {
        let reply: ActReply = self.ask(request)?;
        self.tell(&reply, || told(&reply))
    }

    fn ask(&self, request: &ActRequest) -> anyhow::Result<ActReply> {
        let client = self.client()?;
        Ok(runtime()?.block_on(client.post("/api/acts", request))?)
    }

    fn tell(&self, reply: &impl Serialize, lines: impl FnOnce() -> Vec<Line>) -> anyhow::Result<ExitCode> {
        let text = if self.json {
            serde_json::to_string(reply)? + "\n"
        } else {
            to_text(&lines(), output::has_colour(io::stdout().is_terminal()))
        };
        output::to_stdout(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// The exit code of a failure: that there is no agent is another thing than that it refuses.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref() {
        Some(ClientError::NoAgent { .. }) => ExitCode::from(NO_AGENT),
        _ => ExitCode::FAILURE,
    }
}

/// `15m`, `1h 30m`; in whole seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; for example 15m"))?;
    if duration < Duration::from_secs(1) {
        return Err("at least 1s".to_owned());
    }
    Ok(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_as_long_as_it_is_written() {
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert!(seconds("0s").is_err() && seconds("500ms").is_err() && seconds("soon").is_err());
        assert!(seconds("15").is_err(), "a number needs a unit");
    }

    #[test]
    fn that_nobody_answers_has_a_code_of_its_own() {
        let gone = ClientError::NoAgent { path: "/x".into(), source: io::Error::other("gone") };
        assert_eq!(format!("{:?}", exit_code(&gone.into())), format!("{:?}", ExitCode::from(3)));
        assert_eq!(format!("{:?}", exit_code(&anyhow::anyhow!("x"))), format!("{:?}", ExitCode::FAILURE));
    }
}
