//! weir's one configuration: a TOML file and, if it names one, a folder of zone files.
//!
//! A [`Config`] that exists is valid: it is parsed and checked whole before anything happens, and all faults are
//! reported at once, each with file, line, column and what to do ([`ConfigError`]). Unknown keys are faults.
//!
//! [`Config::load`] reads, [`HostIndex`] finds the zone of a host, [`watch`] says when to load again.
#![forbid(unsafe_code)]

mod check;
mod condition;
mod error;
mod host;
mod index;
mod model;
mod nearest;
mod raw;
mod source;
mod watch;

pub use condition::{Condition, FUNCTIONS, Literal, VARIABLES};
pub use error::{ConfigError, Fault};
pub use host::normalise_host;
pub use index::HostIndex;
pub use model::{
    Abuse, AccessAction, AccessLog, AccessRule, Accounting, Agent, Alertmanager, Bounds, CloseCode, Config,
    Contact, Counts, CustomAction, CustomRule, Detection, Firewall, ForeignListener, ForwardedHeaders,
    HostFirewall, HostPattern, HttpUrl, InstanceName, KernelLog, LimitKey, Links, LogFormat, LogTo, Mail,
    MailAddress, MailLogin, MailSecurity, Managed, ManagedMode, ManagedPool, MarkRange, Notices, Notify,
    OnError, Operator, Origin, OriginScheme, OriginTls, Origins, Plan, PlanName, PolicyError, PolicyParams,
    Proxy, RateLimit, Recommend, RuleId, Slack, SynRate, Timeouts, Tls, TlsVersion, Uninspected, Webhook,
    Xdp, XdpInterface, XdpMode, XdpRule, Zone, ZoneName,
};
pub use watch::{Watch, WatchError, watch};
