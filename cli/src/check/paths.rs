//! The files that weir makes: whether there is a folder for each. Nothing is made or opened here, and no running proxy is spoken to:
//! whoever asks at `takeover` takes over.

use std::path::Path;

use weir_config::{Config, LogFormat, LogTo};

use super::report::Finding;

pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![ledger(&config.agent.ledger)];
    if let Some(path) = &config.proxy.takeover {
        findings.push(in_folder("proxy.takeover", path, path.display().to_string()));
    }
    let format = match config.proxy.access_log.format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    match &config.proxy.access_log.to {
        LogTo::Off => {}
        LogTo::Stdout => {
            findings.push(Finding::right("proxy.access_log", format!("{format} to standard output")));
        }
        LogTo::File(path) => {
            findings.push(in_folder("proxy.access_log", path, format!("{format} to {}", path.display())));
        }
    }
    findings
}

/// The agent makes its folder.
fn ledger(path: &Path) -> Finding {
    let name = "agent.ledger";
    let shown = path.display();
    if path.is_dir() {
        return Finding::wrong(name, format!("{shown} is a folder"), "name a file in it, such as ledger.db");
    }
    if path.exists() {
        return Finding::right(name, format!("{shown}, which goes on"));
    }
    match path.ancestors().skip(1).find(|above| above.exists()) {
        Some(above) if !above.is_dir() => Finding::wrong(
            name,
            format!("{shown} cannot be made: {} is not a folder", above.display()),
            "correct the path",
        ),
        _ => Finding::right(name, format!("{shown}, which the agent will make")),
    }
}

fn in_folder(name: &str, path: &Path, found: String) -> Finding {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if path.is_dir() {
        Finding::wrong(name, format!("{} is a folder", path.display()), "name a file in it")
    } else if folder.is_dir() {
        Finding::right(name, found)
    } else {
        let remedy = format!("create it (mkdir -p {})", folder.display());
        Finding::wrong(name, format!("{}: its folder does not exist", path.display()), remedy)
    }
}
