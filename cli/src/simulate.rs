//! `weir simulate`: the reach-out policy over a recorded series of live counts.

use std::{fs::File, io::BufReader, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use weir_config::Config;
use weir_reachout::{policy::Policy, simulate::simulate};

use crate::output;

/// Run the reach-out policy over a recorded series, and print every decision that it would have made, in time order.
///
/// SERIES is CSV with one header line; columns by position: timestamp (RFC 3339, or YYYY-MM-DD HH:MM:SS in UTC), live
/// WebSockets, and optionally which part of the fleet reported (0 to 1). Any step up to an hour; rows that are absent are unknown,
/// not 0. The policy's parameters are the defaults that docs/reachout.md gives.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SimulateArgs {
    /// Configuration that has the plan.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    policy: PathBuf,
    /// Plan whose guideline the series is judged against.
    #[arg(long, value_name = "NAME", required_unless_present = "guideline")]
    plan: Option<String>,
    /// Guideline to judge against instead of the plan's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    guideline: Option<u64>,
    /// The series.
    #[arg(long, value_name = "SERIES")]
    series: PathBuf,
    /// One JSON object a line: at, event, rule, over_hours, counted_spikes, coverage.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  weir simulate --policy weir.toml --plan free --series usage.csv
  weir simulate --guideline 1000 --series usage.csv --json";

pub fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let (guideline, policy) = judged_by(args)?;
    let shown = args.series.display();
    let file = File::open(&args.series).with_context(|| format!("cannot read the series {shown}"))?;
    let decisions =
        simulate(&policy, guideline, BufReader::new(file)).with_context(|| format!("the series {shown}"))?;
    let mut text = String::new();
    for decision in &decisions {
        if args.json {
            text += &serde_json::to_string(decision)?;
        } else {
            text += &decision.to_string();
        }
        text.push('\n');
    }
    if decisions.is_empty() && !args.json {
        text = format!("nothing: against a guideline of {guideline} this series needs no action\n");
    }
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The guideline and the policy. A guideline that is given needs no configuration, unless it is there; a plan that is named
/// has to exist all the same.
fn judged_by(args: &SimulateArgs) -> anyhow::Result<(u64, Policy)> {
    if args.plan.is_none() && !args.policy.exists() {
        return Ok((args.guideline.context("name a plan or a guideline")?, Policy::default()));
    }
    let (plans, params) = Config::load_policy(&args.policy)?;
    let policy = Policy::new(params)?;
    let Some(name) = &args.plan else {
        return Ok((args.guideline.context("name a plan or a guideline")?, policy));
    };
    let Some(plan) = plans.values().find(|plan| plan.name.as_str() == name) else {
        let known: Vec<&str> = plans.keys().map(|plan| plan.as_str()).collect();
        bail!("no plan is called `{name}`: {} has {}", args.policy.display(), known.join(", "));
    };
    Ok((args.guideline.unwrap_or(plan.guideline), policy))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn guideline(args: &SimulateArgs) -> anyhow::Result<u64> {
        judged_by(args).map(|(guideline, _)| guideline)
    }

    fn args(policy: &tempfile::NamedTempFile, plan: Option<&str>, guideline: Option<u64>) -> SimulateArgs {
        let policy = policy.path().to_owned();
        SimulateArgs { policy, plan: plan.map(Into::into), guideline, series: "unused".into(), json: false }
    }

    #[test]
    fn the_plan_gives_the_guideline_unless_one_is_given() {
        let policy = file("[plans.free]\nguideline = 500\n");
        assert_eq!(guideline(&args(&policy, Some("free"), None)).unwrap(), 500);
        assert_eq!(guideline(&args(&policy, Some("free"), Some(7))).unwrap(), 7);
        assert_eq!(guideline(&args(&file(""), None, Some(7))).unwrap(), 7, "no configuration is needed");
    }

    #[test]
    fn the_policy_is_that_of_the_file() {
        let policy = file("[plans.free]\nguideline = 500\n[policy.detection]\nsustained_hours = 12\n");
        let (_, judged_by) = judged_by(&args(&policy, Some("free"), None)).unwrap();
        assert_eq!(judged_by.params().detection.sustained_hours, 12.0);
        let (_, default) =
            super::judged_by(&args(&file("[plans.free]\nguideline = 500\n"), Some("free"), None)).unwrap();
        assert_eq!(default, Policy::default());
    }

    #[test]
    fn an_unknown_plan_is_refused_with_those_that_there_are() {
        let policy = file("[plans.free]\nguideline = 500\n[plans.pro]\nguideline = 900\n");
        let error = guideline(&args(&policy, Some("fre"), None)).unwrap_err().to_string();
        assert!(error.contains("`fre`") && error.contains("free, pro"), "{error}");
    }

    #[test]
    fn a_faulty_policy_names_its_place() {
        let policy = file("[plans.free]\nguideline = \"many\"\n");
        let error = guideline(&args(&policy, Some("free"), None)).unwrap_err().to_string();
        assert!(error.contains(":2:"), "{error}");
    }
}
