//! Debian's package tools, as far as set-up needs them.
//!
//! The lists of packages are fetched only when they do not know a package, or when what they know is no longer there to
//! download: a fresh image has no lists, and old lists name files that are gone.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::exec;

/// A version of a package that can be downloaded.
pub struct Offer {
    pub version: String,
    /// The version of LLVM that the package is linked to, if it is.
    pub llvm: Option<u32>,
}

pub fn is_here() -> bool {
    ["apt-get", "apt-cache", "dpkg-deb", "dpkg-query"].iter().all(|program| exec::on_path(program).is_some())
}

pub fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    exec::answer(&mut query).is_ok_and(|status| status == "installed")
}

/// Whether the lists know any version of all these.
pub fn knows(packages: &[String]) -> bool {
    packages.iter().all(|package| {
        exec::answer(Command::new("apt-cache").args(["madison", package]))
            .is_ok_and(|versions| !versions.trim().is_empty())
    })
}

/// The versions of a package that the lists offer, newest first.
pub fn offers(package: &str) -> Result<Vec<Offer>> {
    let shown = exec::answer(Command::new("apt-cache").args(["show", "--all-versions", package]));
    // A package without any version is an error to apt-cache and an empty list to us.
    Ok(parse_offers(&shown.unwrap_or_default()))
}

fn parse_offers(shown: &str) -> Vec<Offer> {
    shown
        .split("\n\n")
        .filter_map(|stanza| {
            let field =
                |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let llvm = field("Depends").and_then(|depends| {
                depends.split([',', ' ']).find_map(|word| word.strip_prefix("libllvm")?.parse().ok())
            });
            Some(Offer { version: field("Version")?.to_owned(), llvm })
        })
        .collect()
}

/// What a user without root is told to run.
pub fn commands(packages: &[String]) -> Vec<String> {
    let mut commands = Vec::new();
    if !knows(packages) {
        commands.push(exec::command_line(&update_command()));
    }
    commands.push(exec::command_line(&install_command(packages)));
    commands
}

pub fn install(packages: &[String]) -> Result<()> {
    let mut updated = false;
    if !knows(packages) {
        update()?;
        updated = true;
        if !knows(packages) {
            bail!("apt-get knows no such packages, also after an update: {}", packages.join(" "));
        }
    }
    let title = "Installing packages";
    let install = || exec::step(title, &mut quiet(install_command(packages)));
    install().or_else(|error| {
        if updated {
            return Err(error);
        }
        update()?;
        install()
    })
}

pub fn update() -> Result<()> {
    exec::step("Fetching the lists of packages", &mut quiet(update_command()))
}

/// Downloads packages into a folder without installing them.
pub fn download(packages: &[String], folder: &Path) -> Result<()> {
    let title = "Downloading packages";
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.arg("download").args(packages).current_dir(folder);
        if exec::is_root() {
            // apt's own user may not write into the cache, and would only warn about it.
            apt.args(["-o", "APT::Sandbox::User=root"]);
        }
        exec::step(title, &mut quiet(apt))
    };
    download().or_else(|error| {
        if !exec::is_root() {
            return Err(error.context("the lists may be old: run `sudo apt-get update`"));
        }
        update()?;
        download()
    })
}

fn update_command() -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("update");
    apt
}

fn install_command(packages: &[String]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    apt
}

/// No questions, no progress bars, and patience with another apt at work.
fn quiet(mut apt: Command) -> Command {
    apt.args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_name_their_version_and_llvm() {
        let shown = "Package: libstd-rust-web-1.96\nVersion: 1.96.0+dfsg1-1~deb12u2\n\
            Pre-Depends: libllvm7\nDepends: libc6 (>= 2.34), libgcc-s1 (>= 4.2), libllvm22, libstdc++6 (>= 11)\n\n\
            Package: libstd-rust-web-1.96\nVersion: 1.96.0-1\nDepends: libc6\n";
        let offers = parse_offers(shown);
        assert_eq!(offers.len(), 2);
        assert_eq!(offers[0].version, "1.96.0+dfsg1-1~deb12u2");
        assert_eq!(offers[0].llvm, Some(22));
        assert_eq!((&*offers[1].version, offers[1].llvm), ("1.96.0-1", None));
    }

    #[test]
    fn a_package_without_versions_has_no_offers() {
        assert!(parse_offers("").is_empty());
    }
}
