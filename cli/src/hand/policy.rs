//! `weir policy`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use weir_agent::PolicyReply;
use weir_config::{Config, PolicyParams};
use weir_reachout::policy::Policy;

use super::{Agent, runtime};
use crate::{output, settings::DEFAULT_FILE};

/// The policy: show what is in force, or what a file would change.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

const EXAMPLES: &str = "\
Examples:
  weir policy show                          What the running agent judges by.
  weir policy show --file weir.toml         What this file says.
  weir policy diff                          What a reload would change.
  weir policy diff new.toml --from old.toml";

#[derive(Subcommand)]
enum PolicyCommand {
    /// Every number, and the version.
    Show {
        /// Of this configuration file, in place of the agent's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        agent: Agent,
    },
    /// What a configuration file would change: exit code 1 if anything.
    Diff {
        /// The configuration file.
        #[arg(value_name = "FILE", default_value = DEFAULT_FILE)]
        to: PathBuf,
        /// Another file, in place of the running agent.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        agent: Agent,
    },
}

pub fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        PolicyCommand::Show { file, agent } => show(file, &agent),
        PolicyCommand::Diff { to, from, agent } => diff(to, from, &agent),
    }
}

fn show(file: Option<PathBuf>, agent: &Agent) -> anyhow::Result<ExitCode> {
    let (version, numbers) = of(file, agent)?;
    let mut text = format!("# version {version}\n");
    for (name, value) in numbers {
        text += &format!("{name} = {value}\n");
    }
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn diff(to: PathBuf, from: Option<PathBuf>, agent: &Agent) -> anyhow::Result<ExitCode> {
    let (old_version, old) = of(from, agent)?;
    let (new_version, new) = of(Some(to), agent)?;
    if old == new {
        output::to_stdout(&format!("no difference: {old_version}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::to_stdout(&differences(&old_version, &old, &new_version, &new))?;
    Ok(ExitCode::FAILURE)
}

type Numbers = BTreeMap<String, String>;

fn differences(old_version: &str, old: &Numbers, new_version: &str, new: &Numbers) -> String {
    let mut text = format!("version: {old_version} -> {new_version}\n");
    for (name, value) in new.iter().filter(|(name, value)| old.get(*name) != Some(value)) {
        let before = old.get(name).map_or("-", String::as_str);
        text += &format!("{name}: {before} -> {value}\n");
    }
    text
}

/// The version and the numbers by their dotted names: of a file, or of the agent.
fn of(file: Option<PathBuf>, agent: &Agent) -> anyhow::Result<(String, Numbers)> {
    let Some(file) = file else {
        let reply: PolicyReply = runtime()?.block_on(agent.client()?.get("/api/policy"))?;
        return Ok((reply.version, numbers(&reply.policy)));
    };
    let (_, params) = Config::load_policy(&file)?;
    of_params(params)
}

fn of_params(params: PolicyParams) -> anyhow::Result<(String, Numbers)> {
    let policy = Policy::new(params)?;
    Ok((policy.version().to_string(), numbers(&serde_json::to_value(policy.params())?)))
}

fn numbers(policy: &serde_json::Value) -> Numbers {
    let mut numbers = Numbers::new();
    for (section, value) in policy.as_object().into_iter().flatten() {
        match value.as_object() {
            None => drop(numbers.insert(section.clone(), value.to_string())),
            Some(of) => {
                numbers
                    .extend(of.iter().map(|(name, value)| (format!("{section}.{name}"), value.to_string())));
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_number_and_the_version() {
        let mut params = PolicyParams::default();
        params.detection.sustained_hours = 48.0;
        let (old_version, old) = of_params(PolicyParams::default()).unwrap();
        let (new_version, new) = of_params(params).unwrap();
        let text = differences(&old_version, &old, &new_version, &new);
        assert_eq!(
            text,
            format!("version: {old_version} -> {new_version}\ndetection.sustained_hours: 36.0 -> 48.0\n")
        );
        assert_ne!(old_version, new_version);
    }
}
