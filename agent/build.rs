//! Compiles the kernel programs (`ebpf/`) and leaves the object in `OUT_DIR/weir-ebpf`.
//!
//! Nothing is discovered here. `cargo xtask setup` finds or installs a compiler that can target BPF and
//! writes down in `toolchain.env` how to call it; this script reads that file and runs one nested
//! `cargo build`. The nested build has its own target directory under `OUT_DIR`, so it never waits for the
//! outer build's lock, and a second run without changes costs nothing.
//!
//! `WEIR_BPF_TOOLCHAIN` names another `toolchain.env`; without it the file is the one in weir's cache.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

const PACKAGE: &str = "weir-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// Everything the object is made of, relative to the workspace root.
const INPUTS: &[&str] =
    &["Cargo.lock", "Cargo.toml", "common/Cargo.toml", "common/src", "ebpf/Cargo.toml", "ebpf/src"];

/// What decides where `toolchain.env` is.
const PLACES: &[&str] = &["WEIR_BPF_TOOLCHAIN", "WEIR_CACHE", "XDG_CACHE_HOME", "HOME"];

/// Variables of the outer build (clippy, coverage, a user's flags) that would change the nested one.
const FOREIGN: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CLIPPY_ARGS",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let root = Path::new(&var("CARGO_MANIFEST_DIR")?)
        .parent()
        .context("the agent's folder has no parent")?
        .to_path_buf();
    let file = toolchain_file()?;
    let Some(toolchain) = read_toolchain(&file)? else {
        // An instruction to cargo rather than a failure: cargo then prints this one line and no trace.
        println!("cargo::error=the BPF compiler is not set up: run `cargo xtask setup` once");
        return Ok(());
    };

    let out = PathBuf::from(var("OUT_DIR")?);
    let target_dir = out.join("bpf");
    let output = nested_cargo(&toolchain, &root, &target_dir)?
        .output()
        .context("cannot start cargo for the kernel programs")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("the kernel programs (ebpf/) do not compile:\n\n{messages}");
    }

    // Said only now: a failed run is repeated by cargo anyway, and its report stays free of these lines.
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    for place in PLACES {
        println!("cargo::rerun-if-env-changed={place}");
    }
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed={}", file.display());

    let object = target_dir.join(TARGET).join("release").join(PACKAGE);
    let kept = out.join(PACKAGE);
    fs::copy(&object, &kept)
        .with_context(|| format!("cannot copy {} to {}", object.display(), kept.display()))?;
    Ok(())
}

/// The nested build, with the compiler, linker and flags that `toolchain.env` names.
fn nested_cargo(toolchain: &BTreeMap<String, String>, root: &Path, target_dir: &Path) -> Result<Command> {
    let get = |key: &str| toolchain.get(key).filter(|value| !value.is_empty());
    let need = |key: &str| {
        get(key).with_context(|| {
            format!("toolchain.env has no {key}: run `cargo xtask setup --again` to write it anew")
        })
    };

    let cargo = match get("CARGO") {
        Some(cargo) => cargo.clone(),
        None => var("CARGO")?,
    };
    let mut command = Command::new(cargo);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--release"])
        .args(["--package", PACKAGE, "--bin", PACKAGE])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC", need("RUSTC")?)
        .env("CARGO_TERM_COLOR", "never");
    if let Some(crates) = get("BUILD_STD") {
        command.arg(format!("-Zbuild-std={crates}"));
    }
    for name in ["RUSTC_BOOTSTRAP", "LD_LIBRARY_PATH"] {
        if let Some(value) = get(name) {
            command.env(name, value);
        }
    }

    // The separator lets a flag hold spaces, as a path may.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", var("CARGO_CFG_TARGET_ARCH")?),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        "-Ctarget-cpu=v3".into(),
        format!("-Clinker={}", need("LINKER")?),
    ];
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(command)
}

/// `KEY=value` lines; `None` when set-up has not been run.
fn read_toolchain(file: &Path) -> Result<Option<BTreeMap<String, String>>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    Ok(Some(
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    ))
}

/// The same rule as `xtask/src/cache.rs`, which writes the file.
fn toolchain_file() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(file) = set("WEIR_BPF_TOOLCHAIN") {
        return Ok(file.into());
    }
    let cache = if let Some(cache) = set("WEIR_CACHE") {
        PathBuf::from(cache)
    } else if let Some(cache) = set("XDG_CACHE_HOME") {
        PathBuf::from(cache).join("weir")
    } else {
        let home = set("HOME").context("none of WEIR_CACHE, XDG_CACHE_HOME and HOME is set")?;
        PathBuf::from(home).join(".cache/weir")
    };
    Ok(cache.join("bpf-toolchain/toolchain.env"))
}

fn var(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo did not set {name}"))
}
