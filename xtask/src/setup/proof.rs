//! The proof of a BPF compiler: it builds a small program the way `agent/build.rs` builds weir's.
//!
//! No version number can vouch for that: compiler and linker must agree on LLVM, the linker must find its library, and
//! `core` must be there for the target. Only a compiler that has passed is written down.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cache::{self, Cache},
    exec,
    toolchain::Toolchain,
};

const TARGET: &str = "bpfel-unknown-none";
/// A workspace of its own, as the cache may lie inside another one.
const MANIFEST: &str = "[package]\nname = \"proof\"\nedition = \"2024\"\n[workspace]\n";
const PROGRAM: &str = r#"#![no_std]
#![no_main]

#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
pub extern "C" fn proof() -> u32 {
    2
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
"#;

/// # Errors
/// If the compiler and the linker cannot build a program, with what they said.
pub fn prove(toolchain: &Toolchain, cache: &Cache) -> Result<()> {
    let folder = write_program(cache)?;
    let built = exec::answer(&mut cargo(toolchain, &folder));
    let left = folder.join("target").join(TARGET).join("release/proof").is_file();
    cache::remove(&folder)?;
    built.context("it cannot build a program for the kernel")?;
    ensure!(left, "it built a program for the kernel and left no object");
    Ok(())
}

fn write_program(cache: &Cache) -> Result<PathBuf> {
    let folder = cache.bpf().join("proof");
    cache::remove(&folder)?;
    let write = || {
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), MANIFEST)?;
        fs::write(folder.join("src/main.rs"), PROGRAM)
    };
    write().with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(folder)
}

fn cargo(toolchain: &Toolchain, folder: &Path) -> Command {
    let mut cargo = toolchain.cargo.as_ref().map_or_else(exec::cargo, Command::new);
    let flags =
        ["-Clink-arg=--btf", "-Cdebuginfo=2", "-Ctarget-cpu=v3", &format!("-Clinker={}", toolchain.linker)];
    cargo
        .current_dir(folder)
        .args(["build", "--quiet", "--release"])
        .args(["--target", TARGET, "--target-dir", "target"])
        .args(toolchain.build_std.iter().map(|std| format!("-Zbuild-std={std}")))
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if toolchain.bootstrap.is_some() {
        // The setting of weir's own programs, with this one's name.
        cargo.env("RUSTC_BOOTSTRAP", "proof");
    }
    toolchain.with_libraries(&mut cargo);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Kind;

    fn line(build_std: Option<&str>) -> String {
        let toolchain = Toolchain {
            kind: Kind::Rustup,
            version: "rustc".into(),
            rustc: "/rustc".into(),
            linker: "/linker".into(),
            cargo: Some("/nightly/cargo".into()),
            library_path: None,
            bootstrap: None,
            build_std: build_std.map(str::to_owned),
        };
        exec::command_line(&cargo(&toolchain, Path::new("/proof")))
    }

    #[test]
    fn core_is_built_only_where_it_is_not_precompiled() {
        assert!(line(Some("core")).ends_with(" -Zbuild-std=core"));
        assert!(!line(None).contains("build-std"));
        assert!(line(None).starts_with("/nightly/cargo build "));
    }
}
