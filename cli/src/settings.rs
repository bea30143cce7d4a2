//! The configuration file that commands work by.

use std::path::{Path, PathBuf};

use weir_config::{Config, ConfigError};

/// Where the configuration is if nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/weir/weir.toml";

/// The file of a command that cannot do without one.
#[derive(Clone, clap::Args)]
pub struct ConfigFile {
    /// Configuration file.
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_FILE)]
    path: PathBuf,
}

impl ConfigFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole configuration, checked.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.path)
    }
}
