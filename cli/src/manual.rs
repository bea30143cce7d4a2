//! `weir completions` and `weir man`: what a package installs beside the command, made of the same definitions that parse it.

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::{Cli, output};

/// Completions of this command for a shell, on stdout.
///
/// They know every subcommand and option of this very version: write them anew when weir is upgraded (its packages do).
#[derive(clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  weir completions bash > /usr/share/bash-completion/completions/weir
  weir completions zsh  > /usr/share/zsh/site-functions/_weir
  weir completions fish > /usr/share/fish/vendor_completions.d/weir.fish";

/// The manual's page of `weir` on stdout, or all pages into a folder.
///
/// One page a command: weir(1), weir-agent(1), weir-zone-block(1), as git has them.
#[derive(clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// A folder that exists; pages that are there are overwritten.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  weir man | man -l -
  weir man --dir /usr/share/man/man1";

pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "weir", &mut script);
    output::to_stdout(&String::from_utf8(script).context("the script is not UTF-8")?)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let pages = pages()?;
    match &args.dir {
        None => output::to_stdout(&pages.first().context("there is no page")?.text)?,
        Some(folder) => {
            for page in &pages {
                let path = folder.join(format!("{}.1", page.name));
                let mut file =
                    fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
                file.write_all(page.text.as_bytes())
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Page {
    name: String,
    text: String,
}

/// The page of `weir` first, then those of its commands.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut root = Cli::command();
    // Gives each command the name of its page.
    root.build();
    let mut pages = Vec::new();
    add(&root, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<Page>) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    Man::new(command.clone())
        .render(&mut text)
        .with_context(|| format!("cannot write the page of {name}"))?;
    pages.push(Page { name, text: String::from_utf8(text).context("a page is not UTF-8")? });
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| add(sub, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let pages = pages().unwrap();
        let names: Vec<_> = pages.iter().map(|page| &*page.name).collect();
        assert_eq!(names[0], "weir");
        for name in ["weir-agent", "weir-proxy", "weir-zone-block", "weir-ledger-verify"] {
            assert!(names.contains(&name), "{names:?}");
        }
        for page in &pages {
            let title = format!(".TH {}", page.name);
            assert!(page.text.contains(&title), "{}: {}", page.name, page.text);
            assert!(page.text.contains(".SH SYNOPSIS"), "{}", page.name);
        }
        // An option that only our own processes use is nobody's business.
        assert!(pages.iter().all(|page| !page.text.contains("supervised")));
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "weir", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["agent", "simulate", "search"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }
}
