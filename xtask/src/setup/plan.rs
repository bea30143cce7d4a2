//! What set-up is about to do: said aloud first, and refused as a whole if part of it needs a root that is not there.

use anyhow::{Result, bail};

use super::{Gaps, apt, compiler, host, python};
use crate::cache::Cache;

/// The steps, in the order in which they are done.
#[derive(Default)]
pub struct Plan {
    packages: Vec<String>,
    bpffs: bool,
    compiler: Option<compiler::Way>,
    python: bool,
}

impl Plan {
    /// # Errors
    /// If there is no way to a BPF compiler, or packages are missing and apt-get is too.
    pub fn make(cache: &Cache, gaps: Gaps, again: bool) -> Result<Self> {
        let mut plan = Self { packages: gaps.tools, bpffs: gaps.bpffs, compiler: None, python: gaps.python };
        if gaps.compiler {
            let way = compiler::Way::choose(cache, again)?;
            plan.packages.extend(way.packages());
            plan.compiler = Some(way);
        }
        if plan.python {
            plan.packages.extend(python::missing_packages());
        }
        plan.packages.sort();
        plan.packages.dedup();
        if !plan.packages.is_empty() && !apt::is_here() {
            bail!(
                "missing, and set-up can install with apt-get only: {} (Debian's names; install what your system calls them)",
                plan.packages.join(", ")
            );
        }
        Ok(plan)
    }

    pub fn announce(&self, cache: &Cache) {
        eprintln!("weir needs on this machine, once:");
        if !self.packages.is_empty() {
            eprintln!("  - packages by apt-get: {}", self.packages.join(" "));
        }
        if self.bpffs {
            eprintln!("  - the BPF file system, mounted at {}", host::BPFFS);
        }
        if let Some(way) = &self.compiler {
            for line in way.describe(cache) {
                eprintln!("  - {line}");
            }
        }
        if self.python {
            eprintln!("  - {}", python::describe(cache));
        }
    }

    /// # Errors
    /// If anything here needs root; the error is the list of commands to paste.
    pub fn refuse_without_root(&self) -> Result<()> {
        let mut commands = Vec::new();
        if !self.packages.is_empty() {
            commands.extend(apt::commands(&self.packages));
        }
        if self.bpffs {
            commands.push(format!("mount -t bpf bpf {}", host::BPFFS));
        }
        if commands.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = commands.iter().map(|command| format!("    sudo {command}\n")).collect();
        bail!("part of this needs root. Run these, then the same command again:\n\n{}", lines.concat());
    }

    /// # Errors
    /// If a step fails; those before it stay done.
    pub fn carry_out(self, cache: &Cache, again: bool) -> Result<()> {
        if !self.packages.is_empty() {
            apt::install(&self.packages)?;
        }
        if self.bpffs {
            host::mount_bpffs()?;
        }
        if let Some(way) = self.compiler {
            way.install(cache, again)?;
        }
        if self.python {
            python::install(cache)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_the_error_is_the_commands_to_paste() {
        let plan =
            Plan { packages: vec!["iproute2".into(), "llvm-22-dev".into()], bpffs: true, ..Plan::default() };
        let error = plan.refuse_without_root().expect_err("refused").to_string();
        for line in [
            "    sudo apt-get install --yes --no-install-recommends iproute2 llvm-22-dev\n",
            "    sudo mount -t bpf bpf /sys/fs/bpf\n",
        ] {
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn a_plan_without_privileged_steps_needs_no_root() {
        let plan = Plan { python: true, ..Plan::default() };
        assert!(plan.refuse_without_root().is_ok());
    }
}
