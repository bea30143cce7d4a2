//! weir's one configuration: a TOML file and, if it names one, a folder of zone files.
//!
//! A [`Config`] that exists is valid: it is parsed and checked whole before anything happens, and all faults are
//! reported at once, each with file, line, column and what to do ([`ConfigError`]). Unknown keys are faults.
#![forbid(unsafe_code)]

mod check;
mod error;
mod model;
mod raw;
mod watch;

pub use error::{ConfigError, Fault};
pub use model::{
    Accounting, Agent, Config, ForwardedHeaders, HostPattern, InstanceName, KernelLog, Origin, OriginScheme, Plan, PlanName,
    Proxy, Tls, Zone, ZoneName,
};
pub use watch::{Watch, watch};
