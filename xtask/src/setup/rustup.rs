//! The first way: rustup's nightly with the sources of `core`, and a `bpf-linker` of the user's own.
//!
//! Set-up looks and installs nothing here: toolchains and programs on `PATH` are the user's.

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::Result;

use crate::{
    exec,
    toolchain::{Kind, Toolchain},
};

pub enum Found {
    Complete(Toolchain),
    /// What is missing, for people.
    Lacking(String),
}

pub fn find() -> Found {
    let mut lacking = Vec::new();
    let linker = exec::on_path("bpf-linker");
    if linker.is_none() {
        lacking.push("bpf-linker is not on PATH");
    }
    let nightly = nightly();
    match &nightly {
        None => lacking.push("it has no nightly"),
        Some(nightly) if !has_sources(&nightly.rustc) => {
            lacking.push("its nightly has no rust-src");
        }
        Some(_) => {}
    }
    match (linker, nightly) {
        (Some(linker), Some(nightly)) if lacking.is_empty() => Found::Complete(Toolchain {
            kind: Kind::Rustup,
            version: nightly.version,
            rustc: nightly.rustc,
            linker: linker.to_string_lossy().into_owned(),
            cargo: Some(nightly.cargo),
            library_path: None,
            bootstrap: None,
            build_std: Some("core".into()),
        }),
        _ => Found::Lacking(lacking.join(", ")),
    }
}

struct Nightly {
    rustc: String,
    cargo: String,
    version: String,
}

fn nightly() -> Option<Nightly> {
    exec::on_path("rustup")?;
    let rustc = which("rustc").ok()?;
    let version = exec::answer(Command::new(&rustc).arg("-V")).ok()?;
    Some(Nightly { cargo: which("cargo").ok()?, version: version.trim().to_owned(), rustc })
}

fn which(program: &str) -> Result<String> {
    let mut rustup = Command::new("rustup");
    rustup
        .args(["which", "--toolchain", "nightly", program])
        // A question must not download a toolchain.
        .env("RUSTUP_AUTO_INSTALL", "0");
    exec::answer(&mut rustup).map(|path| path.trim().to_owned())
}

/// Whether `rust-src` lies where `-Z build-std` looks: `<sysroot>/bin/rustc` tells the sysroot.
fn has_sources(rustc: impl AsRef<OsStr>) -> bool {
    Path::new(&rustc)
        .ancestors()
        .nth(2)
        .is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_looked_for_in_the_compilers_own_sysroot() {
        let sysroot = tempfile::tempdir().expect("a folder");
        let rustc = sysroot.path().join("bin/rustc");
        assert!(!has_sources(&rustc));
        let core = sysroot.path().join("lib/rustlib/src/rust/library/core");
        std::fs::create_dir_all(core).expect("created");
        assert!(has_sources(&rustc));
    }
}
