//! Who counts sockets in this network namespace already.
//!
//! The kernel asks every instance's programs about every socket of the namespace, and each answers for zones that only another
//! knows: two instances disturb each other. Instances of other namespaces do not.

use std::{fs, io, net::SocketAddr, path::Path};

use weir_config::{Config, LogTo};
use weir_proxy::{StartError, Unavailable};

/// Where instances are pinned, whatever namespace they count in.
const PINS: &str = "/sys/fs/bpf/weir";

/// True if some instance's programs answer here. `config` is any. Call it inside of a runtime.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn is_counted(config: &Config) -> anyhow::Result<bool> {
    let mut config = config.clone();
    // A proxy that serves nothing asks the kernel all the same, before anything else.
    config.proxy.accounting = weir_config::Accounting::Required;
    config.proxy.http.clear();
    config.proxy.https.clear();
    config.zones.clear();
    // Nor does it take anything from one that serves.
    config.proxy.admin = SocketAddr::from(([127, 0, 0, 1], 0));
    config.proxy.takeover = None;
    config.proxy.access_log.to = LogTo::Off;
    match weir_proxy::bind(&config)?.start() {
        Err(StartError::Accounting(Unavailable::NoAgent)) => Ok(false),
        Err(error @ (StartError::Tls(_) | StartError::Listener(_) | StartError::AccessLog(_))) => {
            Err(error.into())
        }
        Err(StartError::Accounting(_)) | Ok(_) => Ok(true),
    }
}

/// The names of all loaded instances, in order.
///
/// # Errors
/// If the folder may not be read.
pub fn loaded() -> io::Result<Vec<String>> {
    if !Path::new(PINS).try_exists()? {
        return Ok(Vec::new());
    }
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = fs::read_dir(PINS)?.map(name).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}
