//! Which BPF compiler: the two ways to one, and the choice between them.
//!
//! The choice is made once and written down; it is made anew when the written one stops working or by
//! `setup --again`. rustup's nightly is preferred because a user who has installed it for BPF expects it to
//! be used; it counts only when it is complete.

use anyhow::{Context as _, Result, bail};

use super::{apt, debian::Release, proof, rustup};
use crate::{cache::Cache, exec, toolchain::Toolchain};

pub enum Way {
    /// Proved already: it has only to be written down.
    Rustup(Toolchain),
    Debian(Release),
}

/// The compiler that was set up, if it still works.
///
/// # Errors
/// If its description cannot be read, or is the user's own and wrong.
pub fn ready(cache: &Cache) -> Result<Option<Toolchain>> {
    let file = cache.toolchain_file();
    let working = Toolchain::read(file)?.filter(Toolchain::works);
    if working.is_none() && cache.toolchain_is_users() {
        bail!(
            "WEIR_BPF_TOOLCHAIN names {}, which describes no working BPF compiler: correct it or unset the variable",
            file.display()
        );
    }
    Ok(working)
}

impl Way {
    /// With `again`, what was unpacked before does not count.
    ///
    /// # Errors
    /// If this machine offers neither; the error has both remedies.
    pub fn choose(cache: &Cache, again: bool) -> Result<Self> {
        let lacking = match rustup::find() {
            rustup::Found::Complete(toolchain) => {
                eprintln!("==> Trying {}", toolchain.summary());
                match proof::prove(&toolchain, cache) {
                    Ok(()) => return Ok(Self::Rustup(toolchain)),
                    Err(error) => {
                        // Said even if Debian's way follows: a user who prepared this one will want to know.
                        eprintln!("    it does not serve: {error:#}");
                        "it is complete, but does not serve: see above".to_owned()
                    }
                }
            }
            rustup::Found::Lacking(what) => what,
        };
        if !apt::is_here() {
            bail!("{}", neither(&lacking, "there is no apt-get"));
        }
        if let Some(release) = Release::unpacked(cache).filter(|_| !again) {
            return Ok(Self::Debian(release));
        }
        if let Some(release) = Release::offered()? {
            return Ok(Self::Debian(release));
        }
        if exec::is_root() {
            apt::update()?;
            if let Some(release) = Release::offered()? {
                return Ok(Self::Debian(release));
            }
        } else if !apt::knows(&["libc6".into()]) {
            bail!(
                "apt-get has no lists of packages. Run this, then the same command again:\n\n    sudo apt-get update\n"
            );
        }
        let why = "apt-get offers no rustc-web of 1.96 or later with libstd-rust-web-dev-bpf and its LLVM";
        bail!("{}", neither(&lacking, why))
    }

    /// Packages that have to be installed first.
    pub fn packages(&self) -> Vec<String> {
        match self {
            Self::Rustup(_) => Vec::new(),
            Self::Debian(release) => release.missing_packages(),
        }
    }

    pub fn describe(&self, cache: &Cache) -> Vec<String> {
        match self {
            Self::Rustup(toolchain) => {
                vec![format!("a note in {} to use {}", cache.bpf().display(), toolchain.summary())]
            }
            Self::Debian(release) => release.describe(cache),
        }
    }

    /// # Errors
    /// If a step fails, or what was installed cannot build a BPF program.
    pub fn install(self, cache: &Cache, again: bool) -> Result<()> {
        let toolchain = match self {
            Self::Rustup(toolchain) => toolchain,
            Self::Debian(release) => {
                let toolchain = release.install(cache, again)?;
                proof::prove(&toolchain, cache).context(
                    "the BPF compiler was installed, and does not serve: try `cargo xtask setup --again`",
                )?;
                toolchain
            }
        };
        toolchain.write(cache.toolchain_file())
    }
}

fn neither(rustup: &str, debian: &str) -> String {
    format!(
        "there is no BPF compiler, and none can be installed by set-up. Either\n\
         \x20 - with rustup ({rustup}):\n\
         \x20       rustup toolchain install nightly --component rust-src\n\
         \x20       cargo install bpf-linker\n\
         \x20 - or with a Debian or Ubuntu that packages Rust's BPF libraries ({debian})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_neither_way_both_remedies_and_their_reasons_are_told() {
        let text = neither("it has no rust-src", "there is no apt-get");
        for part in
            ["it has no rust-src", "--component rust-src", "cargo install bpf-linker", "there is no apt-get"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
