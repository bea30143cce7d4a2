//! `cargo xtask setup`: brings a machine to where weir builds, runs and can be tested.
//!
//! First it looks for what is missing, which changes nothing and takes a fraction of a second; that is all
//! when nothing is. Else a plan is made and said aloud, and what only root may do is either done or printed as
//! commands. What is done is found done by the next look, so an interrupted set-up is continued by running
//! it again.

mod apt;
pub mod autobahn;
mod compiler;
mod debian;
pub mod fuzz;
mod host;
mod plan;
mod proof;
mod python;
mod rustup;
pub mod sozu;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};

use self::plan::Plan;
use crate::{cache::Cache, exec, toolchain::Toolchain};

/// What a command needs beyond the BPF compiler, which all need.
#[derive(Clone, Copy)]
pub struct Needs {
    /// Kernel programs will be loaded.
    kernel: bool,
    /// The tests' programs will be called.
    tools: bool,
    /// The tests' client of another language will be run.
    python: bool,
}

impl Needs {
    pub const BUILD: Self = Self { kernel: false, tools: false, python: false };
    pub const RUN: Self = Self { kernel: true, ..Self::BUILD };
    /// All that can be prepared without the package index of Python.
    pub const SETUP: Self = Self { tools: true, ..Self::RUN };
    /// The tests' programs of other languages, without the kernel.
    pub const PEERS: Self = Self { python: true, ..Self::BUILD };
    pub const TEST: Self = Self { python: true, ..Self::SETUP };
}

/// What set-up leaves for its caller.
pub struct Ready {
    pub toolchain: Toolchain,
    /// The interpreter with the tests' packages, if it was asked for.
    pub python: Option<PathBuf>,
}

/// Whether managed rules of the firewall can be built and tested here: set-up sees to it for [`Needs::TEST`].
pub fn has_modsecurity() -> bool {
    host::has_modsecurity()
}

/// What is missing on this machine.
struct Gaps {
    compiler: bool,
    bpffs: bool,
    /// Packages of programs.
    tools: Vec<String>,
    python: bool,
}

/// `cargo xtask setup`.
pub fn command(again: bool) -> Result<ExitCode> {
    let ready = carry_out(Needs::SETUP, again)?;
    eprintln!("weir is set up: {}", ready.toolchain.summary());
    Ok(ExitCode::SUCCESS)
}

/// Makes sure of what a command needs; says nothing when nothing is missing.
pub fn ensure(needs: Needs) -> Result<Ready> {
    carry_out(needs, false)
}

fn carry_out(needs: Needs, again: bool) -> Result<Ready> {
    let cache = Cache::find()?;
    if Gaps::find(&cache, needs, again)?.any() {
        let _lock = cache.lock()?;
        // Looked for again, as another set-up may have filled them while this one waited.
        let plan = Plan::make(&cache, Gaps::find(&cache, needs, again)?, again)?;
        plan.announce(&cache);
        if !exec::is_root() {
            plan.refuse_without_root()?;
        }
        plan.carry_out(&cache, again)?;
    }
    let Some(toolchain) = compiler::ready(&cache)? else {
        bail!("the BPF compiler was set up and does not start: run `cargo xtask setup --again`");
    };
    let python = needs.python.then(|| python::interpreter(&cache));
    Ok(Ready { toolchain, python })
}

impl Gaps {
    fn find(cache: &Cache, needs: Needs, again: bool) -> Result<Self> {
        Ok(Self {
            compiler: compiler::ready(cache)?.is_none() || again && !cache.toolchain_is_users(),
            bpffs: needs.kernel && host::lacks_bpffs()?,
            tools: if needs.tools { host::missing_packages() } else { Vec::new() },
            python: needs.python && !python::is_ready(cache),
        })
    }

    fn any(&self) -> bool {
        self.compiler || self.bpffs || !self.tools.is_empty() || self.python
    }
}
