//! Where set-up keeps what it installs: outside `target/`, so that it survives `cargo clean`.
//!
//! The root is `$WEIR_CACHE`, else `$XDG_CACHE_HOME/weir`, else `$HOME/.cache/weir`. `agent/build.rs` has the
//! same rule for finding `toolchain.env`, as a build script cannot depend on this crate. An empty variable
//! counts as unset.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

pub struct Cache {
    root: PathBuf,
    toolchain_file: PathBuf,
}

impl Cache {
    /// The cache of this environment; nothing is created yet.
    pub fn find() -> Result<Self> {
        Self::from_vars(|name| env::var_os(name))
    }

    fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let root = if let Some(root) = set("WEIR_CACHE") {
            PathBuf::from(root)
        } else if let Some(root) = set("XDG_CACHE_HOME") {
            PathBuf::from(root).join("weir")
        } else {
            let home =
                set("HOME").context("none of WEIR_CACHE, XDG_CACHE_HOME and HOME is set: set WEIR_CACHE")?;
            PathBuf::from(home).join(".cache/weir")
        };
        // Paths end up in a file that programs with other working directories read.
        let root = std::path::absolute(root).context("the cache has no absolute path")?;
        let toolchain_file =
            set("WEIR_BPF_TOOLCHAIN").map_or_else(|| root.join("bpf-toolchain/toolchain.env"), PathBuf::from);
        Ok(Self { root, toolchain_file })
    }

    /// The BPF compiler's folder.
    pub fn bpf(&self) -> PathBuf {
        self.root.join("bpf-toolchain")
    }

    /// The Python environments' folder.
    pub fn python(&self) -> PathBuf {
        self.root.join("py")
    }

    /// The fuzzer's folder.
    pub fn fuzz(&self) -> PathBuf {
        self.root.join("cargo-fuzz")
    }

    /// Programs that are built once.
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// What `agent/build.rs` reads: `$WEIR_BPF_TOOLCHAIN`, else the file in [`Cache::bpf`].
    pub fn toolchain_file(&self) -> &Path {
        &self.toolchain_file
    }

    /// Whether the toolchain file is the user's own (`$WEIR_BPF_TOOLCHAIN`), which set-up leaves alone.
    pub fn toolchain_is_users(&self) -> bool {
        !self.toolchain_file.starts_with(&self.root)
    }

    /// Held while something is installed, so that two set-ups at once do not meet in one folder.
    pub fn lock(&self) -> Result<fs::File> {
        fs::create_dir_all(&self.root)
            .with_context(|| format!("cannot create the cache {}", self.root.display()))?;
        let path = self.root.join(".lock");
        let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }
}

/// Removes a folder that may not be there.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(vars: &'static [(&str, &str)]) -> Result<Cache> {
        Cache::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_nearest_variable_decides() {
        let all = [("WEIR_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        let roots = ["/a", "/b/weir", "/c/.cache/weir"];
        for (skip, root) in roots.iter().enumerate() {
            let found = Cache::from_vars(|name| {
                all[skip..].iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            });
            assert_eq!(found.expect("a cache").root, Path::new(root));
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let cache = cache(&[("WEIR_CACHE", ""), ("HOME", "/c")]).expect("a cache");
        assert_eq!(cache.bpf(), Path::new("/c/.cache/weir/bpf-toolchain"));
    }

    #[test]
    fn without_any_variable_the_error_names_the_remedy() {
        let error = cache(&[]).err().expect("an error").to_string();
        assert!(error.contains("set WEIR_CACHE"), "{error}");
    }

    #[test]
    fn the_users_own_toolchain_file_is_told_apart() {
        let ours = cache(&[("WEIR_CACHE", "/a")]).expect("a cache");
        assert!(!ours.toolchain_is_users());
        let theirs = cache(&[("WEIR_CACHE", "/a"), ("WEIR_BPF_TOOLCHAIN", "/etc/bpf.env")]);
        let theirs = theirs.expect("a cache");
        assert!(theirs.toolchain_is_users());
        assert_eq!(theirs.toolchain_file(), Path::new("/etc/bpf.env"));
    }
}
