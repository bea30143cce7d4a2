//! The second way: a compiler out of Debian's packages, unpacked into the cache, and a `bpf-linker` built for its LLVM.
//!
//! The packages are downloaded, not installed, as they would conflict with the system's own Rust. They hold a
//! `core` for BPF that is compiled already, so a stable cargo can use them. What is linked against (LLVM) is
//! installed for good.
//!
//! Exactly one version is pinned. A mirror drops old versions, so a later one serves too if its LLVM is one
//! that the pinned linker knows; that it works is proved by building a program.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::apt::{self, Offer};
use crate::{
    cache::{self, Cache},
    exec,
    toolchain::{self, Kind, Toolchain},
};

const LINKER: &str = toolchain::LINKER_PIN;
/// The versions of LLVM that the pinned linker can be built for.
const LINKER_LLVMS: [u32; 3] = [21, 22, 23];
const OLDEST: (u32, u32) = (1, 96);

/// A release of the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Debian's version, for example `1.96.0+dfsg1-1~deb12u2`.
    version: String,
    llvm: u32,
}

impl Release {
    fn pinned() -> Self {
        Self { version: toolchain::RUST_PIN.into(), llvm: 22 }
    }

    /// The pinned release, if it is in the cache already.
    pub fn unpacked(cache: &Cache) -> Option<Self> {
        let pinned = Self::pinned();
        let there = pinned.rustc(&pinned.folder(cache)).is_file();
        there.then_some(pinned)
    }

    /// The release that apt-get can download: the pinned one, else the newest that will do.
    pub fn offered() -> Result<Option<Self>> {
        let mut offers = apt::offers("libstd-rust-web-dev-bpf")?;
        // Its LLVM is told by the library of the same release, whose name has the version.
        for offer in &mut offers {
            let library = format!("libstd-rust-web-{}", series(&offer.version));
            let same = |found: &Offer| found.version == offer.version;
            offer.llvm = apt::offers(&library)?.into_iter().find(same).and_then(|found| found.llvm);
        }
        Ok(Self::choose(&offers).filter(|release| apt::knows(&[release.llvm_package()])))
    }

    fn choose(offers: &[Offer]) -> Option<Self> {
        let pinned = Self::pinned();
        let fits = |offer: &&Offer| {
            number(&offer.version) >= Some(OLDEST)
                && offer.llvm.is_some_and(|llvm| LINKER_LLVMS.contains(&llvm))
        };
        let exact = offers.iter().filter(fits).find(|o| o.version == pinned.version);
        let offer = exact.or_else(|| offers.iter().find(fits))?;
        Some(Self { version: offer.version.clone(), llvm: offer.llvm? })
    }

    pub fn missing_packages(&self) -> Vec<String> {
        let linker_needs = [
            self.llvm_package(),
            format!("libpolly-{}-dev", self.llvm),
            "libzstd-dev".into(),
            "zlib1g-dev".into(),
            "pkg-config".into(),
        ];
        let missing = |package: &String| !apt::is_installed(package);
        linker_needs.into_iter().filter(missing).collect()
    }

    pub fn describe(&self, cache: &Cache) -> Vec<String> {
        let bpf = cache.bpf();
        let mut lines = vec![
            format!(
                "the BPF compiler: Debian's rustc-web {}, unpacked into {} (375 MB)",
                self.version,
                bpf.display()
            ),
            format!("bpf-linker {LINKER} for LLVM {}, built there (40 MB)", self.llvm),
        ];
        if *self != Self::pinned() {
            lines.push(format!("(the pinned {} is not offered any more)", Self::pinned().version));
        }
        lines
    }

    /// Installs what is not there yet; with `again`, all of it.
    pub fn install(&self, cache: &Cache, again: bool) -> Result<Toolchain> {
        let rust = self.folder(cache);
        if again || !self.rustc(&rust).is_file() {
            self.unpack(cache, &rust)?;
        }
        let linker_root = cache.bpf().join(self.linker_folder());
        let linker = linker_root.join("bin/bpf-linker");
        if again || !linker.is_file() {
            self.build_linker(cache, &linker_root)?;
        }
        self.describe_toolchain(&rust, &linker)
    }

    fn unpack(&self, cache: &Cache, rust: &Path) -> Result<()> {
        let debs = cache.bpf().join("debs");
        cache::remove(&debs)?;
        fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
        apt::download(&self.compiler_packages(), &debs)?;

        let new = rust.with_extension("new");
        cache::remove(&new)?;
        for deb in fs::read_dir(&debs).context("cannot list the downloaded packages")? {
            let deb = deb.context("cannot list the downloaded packages")?;
            let title = format!("Unpacking {}", deb.file_name().to_string_lossy());
            let mut dpkg = Command::new("dpkg-deb");
            dpkg.arg("--extract").arg(deb.path()).arg(&new);
            exec::step(&title, &mut dpkg)?;
        }
        cache::remove(&debs)?;
        cache::remove(rust)?;
        fs::rename(&new, rust).with_context(|| format!("cannot create {}", rust.display()))
    }

    fn build_linker(&self, cache: &Cache, root: &Path) -> Result<()> {
        let mut cargo = exec::cargo();
        cargo
            // Away from weir's workspace, whose settings are not the linker's.
            .current_dir(cache.bpf())
            .args(["install", "bpf-linker", "--version", LINKER, "--locked", "--force"])
            .args(["--no-default-features", "--features"])
            .arg(format!("llvm-{}", self.llvm))
            .arg("--root")
            .arg(root)
            // Without it the linker's build looks for LLVM in the wrong folder.
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{}", self.llvm))
            .env_remove("CARGO_TARGET_DIR");
        exec::step(&format!("Building bpf-linker {LINKER} (about a minute)"), &mut cargo)
    }

    fn describe_toolchain(&self, rust: &Path, linker: &Path) -> Result<Toolchain> {
        let rustc = self.rustc(rust);
        let mut toolchain = Toolchain {
            kind: Kind::Debian,
            version: String::new(),
            rustc: text(&rustc)?,
            linker: text(linker)?,
            cargo: None,
            library_path: Some(text(&libraries(rust)?)?),
            bootstrap: Some("aya_ebpf,weir_ebpf".into()),
            build_std: None,
        };
        let mut ask = Command::new(&rustc);
        let version = exec::answer(toolchain.with_libraries(&mut ask).arg("-V"))?;
        toolchain.version = version.trim().to_owned();
        Ok(toolchain)
    }

    fn compiler_packages(&self) -> Vec<String> {
        [
            "rustc-web",
            &format!("libstd-rust-web-{}", series(&self.version)),
            "libstd-rust-web-dev",
            "libstd-rust-web-dev-bpf",
        ]
        .map(|name| format!("{name}={}", self.version))
        .into()
    }

    fn llvm_package(&self) -> String {
        format!("llvm-{}-dev", self.llvm)
    }

    fn folder(&self, cache: &Cache) -> PathBuf {
        cache.bpf().join(format!("rust-{}", upstream(&self.version)))
    }

    fn linker_folder(&self) -> String {
        if self.llvm == Self::pinned().llvm {
            format!("bpf-linker-{LINKER}")
        } else {
            format!("bpf-linker-{LINKER}-llvm-{}", self.llvm)
        }
    }

    fn rustc(&self, folder: &Path) -> PathBuf {
        folder.join("usr/bin/rustc")
    }
}

/// The folder of the compiler's libraries, whose name has the machine's architecture in it.
fn libraries(rust: &Path) -> Result<PathBuf> {
    let lib = rust.join("usr/lib");
    let pattern = format!("{}-linux-gnu", env::consts::ARCH);
    let folder = lib.join(pattern);
    if !folder.is_dir() {
        bail!("the unpacked compiler has no {}", folder.display());
    }
    Ok(folder)
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str();
    text.map(str::to_owned)
        .with_context(|| format!("{} is not UTF-8: set WEIR_CACHE to another folder", path.display()))
}

/// `1.96.0` of `1.96.0+dfsg1-1~deb12u2`.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

/// `1.96` of `1.96.0+dfsg1-1~deb12u2`: what Debian puts into the library's name.
fn series(version: &str) -> String {
    let upstream = upstream(version);
    upstream.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = upstream(version).split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(version: &str, llvm: Option<u32>) -> Offer {
        Offer { version: version.into(), llvm }
    }

    fn chosen(offers: &[Offer]) -> Option<String> {
        Release::choose(offers).map(|release| release.version)
    }

    #[test]
    fn the_pinned_release_is_taken_even_if_a_newer_one_is_offered() {
        let pin = toolchain::RUST_PIN;
        let offers = [offer("1.98.0-1", Some(23)), offer(pin, Some(22))];
        assert_eq!(chosen(&offers).as_deref(), Some(pin));
    }

    #[test]
    fn without_the_pinned_release_the_newest_that_fits_is_taken() {
        let offers =
            [offer("1.99.0-1", Some(24)), offer("1.98.0+dfsg1-1", Some(23)), offer("1.97.0-1", Some(22))];
        assert_eq!(chosen(&offers).as_deref(), Some("1.98.0+dfsg1-1"));
    }

    #[test]
    fn an_old_compiler_or_an_unknown_llvm_is_not_taken() {
        let offers =
            [offer("1.85.0+dfsg3-1~deb12u3", Some(21)), offer("1.99.0-1", Some(24)), offer("1.97.0-1", None)];
        assert_eq!(chosen(&offers), None);
    }

    #[test]
    fn versions_are_read_as_debian_writes_them() {
        assert_eq!(upstream(toolchain::RUST_PIN), "1.96.0");
        assert_eq!(series(toolchain::RUST_PIN), "1.96");
        assert_eq!(number("1.100.2~rc1-1"), Some((1, 100)));
        assert_eq!(number("unstable"), None);
    }

    #[test]
    fn all_four_packages_are_of_one_release() {
        let packages = Release::pinned().compiler_packages();
        assert_eq!(packages.len(), 4);
        assert_eq!(packages[1], format!("libstd-rust-web-1.96={}", toolchain::RUST_PIN));
        assert!(packages.iter().all(|p| p.ends_with(toolchain::RUST_PIN)));
    }
}
