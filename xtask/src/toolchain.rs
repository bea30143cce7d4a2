//! How to call the BPF compiler: the contract between set-up, which writes it, and `agent/build.rs`, which reads it.
//!
//! The file is `KEY=value` lines, one value a line, no quoting; `#` starts a comment. It is written last and at once
//! (rename), so a file that exists describes a compiler that has built a program.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::exec;

/// The compiler's release in Debian's words.
pub const RUST_PIN: &str = "1.96.0+dfsg1-1~deb12u2";
/// The release of bpf-linker.
pub const LINKER_PIN: &str = "0.13.0";
/// The format of the file; a change here or of a pin makes set-up run again.
const FORMAT: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A compiler out of Debian's packages, with a precompiled `core`.
    Debian,
    /// rustup's nightly, which compiles `core` from its sources.
    Rustup,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    pub kind: Kind,
    /// What `rustc --version` says; another answer means that the compiler was exchanged.
    pub version: String,
    pub rustc: String,
    pub linker: String,
    /// The cargo to call; `None` for the one that runs the build.
    pub cargo: Option<String>,
    pub library_path: Option<String>,
    /// Crates that may use unstable features on a stable compiler.
    pub bootstrap: Option<String>,
    /// Crates to compile from the compiler's sources.
    pub build_std: Option<String>,
}

impl Toolchain {
    /// # Errors
    /// If the file cannot be read; a file of another format or other pins is `None`, as if it were not there.
    pub fn read(file: &Path) -> Result<Option<Self>> {
        Ok(exec::read_if_there(file)?.and_then(|text| Self::parse(&text)))
    }

    /// # Errors
    /// If a value has a line break, or the file cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().context("the toolchain file has no folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let new = file.with_extension("env.new");
        fs::write(&new, self.render()?)
            .and_then(|()| fs::rename(&new, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Whether the compiler and the linker still start, and are the ones that were set up.
    pub fn works(&self) -> bool {
        let version = exec::answer(self.with_libraries(&mut Command::new(&self.rustc)).arg("-V"));
        version.is_ok_and(|version| version.trim() == self.version)
            && exec::succeeds(Command::new(&self.linker).arg("--version"))
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let from = match self.kind {
            Kind::Debian => "from Debian's packages",
            Kind::Rustup => "of rustup's nightly",
        };
        format!("{} {from}, linker {}", self.version, self.linker)
    }

    /// Gives a command the libraries of this compiler.
    pub fn with_libraries<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(path) = &self.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    fn render(&self) -> Result<String> {
        let kind = match self.kind {
            Kind::Debian => "debian",
            Kind::Rustup => "rustup",
        };
        let stamp = stamp();
        let lines = [
            ("STAMP", Some(&*stamp)),
            ("KIND", Some(kind)),
            ("VERSION", Some(&*self.version)),
            ("RUSTC", Some(&*self.rustc)),
            ("LINKER", Some(&*self.linker)),
            ("CARGO", self.cargo.as_deref()),
            ("LD_LIBRARY_PATH", self.library_path.as_deref()),
            ("RUSTC_BOOTSTRAP", self.bootstrap.as_deref()),
            ("BUILD_STD", self.build_std.as_deref()),
        ];
        let mut text = String::from("# Written by `cargo xtask setup`, read by agent/build.rs.\n");
        for (key, value) in lines {
            let Some(value) = value else { continue };
            if value.contains('\n') {
                bail!("{key} has a line break: {value:?}");
            }
            text.push_str(&format!("{key}={value}\n"));
        }
        Ok(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let get = |key: &str| {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
        };
        if get("STAMP")? != stamp() {
            return None;
        }
        let kind = match &*get("KIND")? {
            "debian" => Kind::Debian,
            "rustup" => Kind::Rustup,
            _ => return None,
        };
        Some(Self {
            kind,
            version: get("VERSION")?,
            rustc: get("RUSTC")?,
            linker: get("LINKER")?,
            cargo: get("CARGO"),
            library_path: get("LD_LIBRARY_PATH"),
            bootstrap: get("RUSTC_BOOTSTRAP"),
            build_std: get("BUILD_STD"),
        })
    }
}

fn stamp() -> String {
    format!("{FORMAT} rust={RUST_PIN} bpf-linker={LINKER_PIN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Toolchain {
        Toolchain {
            kind: Kind::Debian,
            version: "rustc 1.96.0 (built from a source tarball)".into(),
            rustc: "/cache with blanks/rust=1/rustc".into(),
            linker: "/cache/bpf-linker".into(),
            cargo: None,
            library_path: Some("/cache/lib".into()),
            bootstrap: Some("aya_ebpf,weir_ebpf".into()),
            build_std: None,
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("deep/toolchain.env");
        assert_eq!(Toolchain::read(&file).expect("no error"), None);

        let rustup = Toolchain {
            kind: Kind::Rustup,
            cargo: Some("/nightly/cargo".into()),
            library_path: None,
            bootstrap: None,
            build_std: Some("core".into()),
            ..debian()
        };
        for toolchain in [debian(), rustup] {
            toolchain.write(&file).expect("written");
            let read = Toolchain::read(&file).expect("read");
            assert_eq!(read.as_ref(), Some(&toolchain));
        }
        let left = fs::read_dir(file.parent().expect("a folder")).expect("a listing");
        assert_eq!(left.count(), 1, "the new file was renamed, not copied");
    }

    #[test]
    fn other_pins_and_foreign_files_count_as_no_toolchain() {
        let text = debian().render().expect("text");
        assert!(Toolchain::parse(&text).is_some());
        assert_eq!(Toolchain::parse(&text.replace("0.13.0", "0.12.0")), None);
        assert_eq!(Toolchain::parse(&text.replace("RUSTC=", "RUST=")), None);
        assert_eq!(Toolchain::parse(&text.replace("debian", "gentoo")), None);
        assert_eq!(Toolchain::parse("KIND=debian\n"), None);
    }

    #[test]
    fn a_value_with_a_line_break_is_refused() {
        let toolchain = Toolchain { linker: "/a\nRUSTC=/b".into(), ..debian() };
        assert!(toolchain.render().is_err());
    }

    #[test]
    fn the_build_script_asks_only_for_keys_that_are_written() {
        let everything = Toolchain { cargo: Some("x".into()), build_std: Some("x".into()), ..debian() };
        let written = everything.render().expect("text");
        let script = include_str!("../../agent/build.rs");
        let asked: Vec<&str> = ["get(\"", "need(\""]
            .iter()
            .flat_map(|call| script.split(call).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .chain(["RUSTC_BOOTSTRAP", "LD_LIBRARY_PATH"])
            .collect();
        assert!(asked.len() >= 6, "{asked:?}");
        for key in asked {
            assert!(written.contains(&format!("\n{key}=")) && script.contains(key), "{key}");
        }
    }

    #[test]
    fn a_toolchain_that_is_gone_does_not_work() {
        assert!(!debian().works());
    }
}
