//! The configuration as the rest of weir sees it: checked, resolved, with defaults filled in.

mod access_log;
mod bounds;
mod firewall;
mod foreign;
mod managed;
mod notices;
mod origins;
mod policy;
mod timeouts;
mod tls;
mod xdp;

pub use foreign::{Counts, ForeignListener, MarkRange};

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;

pub use access_log::{AccessLog, LogFormat, LogTo};
pub use bounds::Bounds;
pub use firewall::{
    AccessAction, AccessRule, CustomAction, CustomRule, Firewall, HostFirewall, LimitKey, OnError, RateLimit,
};
pub use managed::{Managed, ManagedMode, ManagedPool, Uninspected};
pub use notices::{
    Alertmanager, HttpUrl, Links, Mail, MailAddress, MailLogin, MailSecurity, Notices, Slack, Webhook,
};
pub use origins::{Origin, OriginScheme, OriginTls, Origins};
pub use policy::{Abuse, Contact, Detection, PolicyError, PolicyParams, Recommend};
pub use timeouts::Timeouts;
pub use tls::{Tls, TlsVersion};
pub use xdp::{DryRun, SynRate, Xdp, XdpInterface, XdpMode, XdpRule};

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Names the pins under `/sys/fs/bpf/weir/`; default `default`.
    pub instance: InstanceName,
    pub proxy: Proxy,
    pub firewall: HostFirewall,
    pub agent: Agent,
    pub xdp: Xdp,
    pub notices: Notices,
    /// `[[listeners]]`.
    pub listeners: Vec<ForeignListener>,
    pub plans: BTreeMap<PlanName, Plan>,
    pub policy: PolicyParams,
    /// By name, each once.
    pub zones: Vec<Arc<Zone>>,
    /// Every file that was read, the zone folder, and the files of certificates: what a watcher looks at.
    pub sources: Vec<PathBuf>,
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Listeners for cleartext HTTP; default none.
    pub http: Vec<SocketAddr>,
    /// Listeners for TLS; default none. At least one listener of either kind is needed.
    pub https: Vec<SocketAddr>,
    /// Address of the proxy's own `/metrics`, `/healthz`, `/readyz`; default `127.0.0.1:9465`.
    pub admin: SocketAddr,
    /// Offer HTTP/2 to TLS clients; default on.
    pub http2: bool,
    /// An HTTP/2 client that is silent for so long is asked whether it is there; default 60 s, `None` is never.
    pub http2_ping_interval: Option<Duration>,
    /// Speak HTTP/2 with cleartext clients that begin with it; default off.
    pub h2c: bool,
    /// The user that the proxy becomes when it is started as root; default `nobody`. The agent lets this user, and root, tag
    /// sockets.
    pub user: String,
    /// What to do without accounting in the kernel; default `required`.
    pub accounting: Accounting,
    /// Which forwarding headers an origin gets; default `x-forwarded`.
    pub forwarded: ForwardedHeaders,
    /// Peers whose forwarding headers are believed and added to; default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers whose connections begin with a PROXY protocol header, and have to; default none.
    pub proxy_protocol_from: Vec<IpNet>,
    /// DNS servers for the names of origins; default, as an empty list, what the system asks.
    pub resolvers: Vec<SocketAddr>,
    /// Failures in a row, within `origin_fail_timeout`, after which an origin is left out; 0 is never; default 3.
    pub origin_max_fails: u32,
    /// How long an origin is left out at first, twice as long each time that it fails again; default 10 s.
    pub origin_fail_timeout: Duration,
    /// The time limits as long as the zone is not known, and of zones that say nothing else.
    pub timeouts: Arc<Timeouts>,
    /// The oldest version of TLS that is spoken with clients; default 1.2.
    pub tls_min_version: TlsVersion,
    /// The certificate for zones without one of their own, and for handshakes that name no host; default none.
    pub default_tls: Option<Tls>,
    /// How long live tunnels may go on after SIGTERM; default 30 s.
    pub drain_timeout: Duration,
    /// Over how long the closes of those are spread that are left then; default 10 s.
    pub close_spread: Duration,
    /// The status code that their clients are told; default 1001.
    pub close_code: CloseCode,
    /// The Unix socket by which the next proxy takes the listening sockets over; default none.
    pub takeover: Option<PathBuf>,
    /// Default off.
    pub access_log: AccessLog,
    /// `Retry-After` of a 503 at a cap, in whole seconds; default 30 s.
    pub retry_after: Duration,
    /// Live sockets of one source prefix on this host, above which new ones of the proxy's listeners are refused; default none.
    pub source_cap: Option<u64>,
}

/// `accounting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// The proxy does not start, and serves no upgrade, without it.
    Required,
    /// Sockets pass uncounted; a metric says how many.
    Optional,
}

/// `close_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// 1001 (RFC 6455, 7.4.1).
    GoingAway,
    /// 1012, of the IANA's list.
    ServiceRestart,
}

impl CloseCode {
    pub const fn to_number(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::ServiceRestart => 1012,
        }
    }
}

/// `forwarded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    Both,
    None,
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Address of `/metrics`, `/healthz`, `/readyz`, `/api`; default `127.0.0.1:9464`.
    pub admin: SocketAddr,
    /// The Unix socket through which operators act; default `/run/weir/agent.sock`, of an instance that is not called `default`
    /// `/run/weir/INSTANCE/agent.sock`.
    pub socket: PathBuf,
    /// Who may act; default root, who always may.
    pub operators: Vec<Operator>,
    /// The ledger of everything that operators and the policy did; default `/var/lib/weir/ledger.db`, of an instance that is not
    /// called `default` `/var/lib/weir/INSTANCE/ledger.db`.
    pub ledger: PathBuf,
    /// The cgroup whose sockets are counted; default the root of cgroup2, wherever it is mounted.
    pub cgroup: Option<PathBuf>,
    /// Further users that may tag sockets; default none.
    pub tag_users: Vec<String>,
    /// Zones that the kernel maps have room for; default 16,384, at most 1,000,000. About 700 bytes of kernel memory each.
    pub max_zones: u32,
    /// Source prefixes that the kernel's table has room for; default 262,144, at most 16,777,216. About 110 bytes of kernel memory
    /// each.
    pub max_sources: u32,
    /// Length of the IPv4 prefixes that sockets are counted by; default 32.
    pub source_prefix_v4: u32,
    /// Length of the IPv6 prefixes that sockets are counted by; default 64.
    pub source_prefix_v6: u32,
    /// The range of `SO_MARK` by which other proxies say of which zone a socket is; default none.
    pub marks: Option<MarkRange>,
    /// Between two comparisons with the kernel's socket list; default 60 s.
    pub audit_interval: Duration,
    /// Let the kernel count the programs' runs and their time (about 30 ns a run, for every BPF program of the host); default on.
    pub program_stats: bool,
    /// The kernel programs' own log; default off.
    pub kernel_log: KernelLog,
}

/// Somebody who may act through the agent's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    User(String),
    /// Written `@GROUP`.
    Group(String),
}

/// `kernel_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelLog {
    Off,
    Debug,
}

/// `[plans.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: PlanName,
    /// Concurrent WebSockets over the fleet that the plan is made for. Nothing is refused above it.
    pub guideline: u64,
    /// Concurrent WebSockets of a zone on one host above which the kernel refuses; default 10 times the guideline.
    pub abuse_cap: u64,
    /// Kernel sockets of a zone on one host above which the kernel refuses; default none.
    pub socket_cap: Option<u64>,
    /// Live sockets of one source prefix on this host, above which new ones are refused by the plan's zones; default none.
    pub source_cap: Option<u64>,
    /// Other resources that the plan is made for; default none.
    pub bounds: Bounds,
    /// Who sends a notice to a customer; default a person.
    pub notify: Notify,
}

/// `notify`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// weir drafts, a person sends.
    #[default]
    Manual,
    /// weir sends, within the policy's spacing.
    Automatic,
}

/// `[[zones]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: ZoneName,
    /// The hosts that are the zone's; default its name. No two zones share one.
    pub hosts: Vec<HostPattern>,
    pub plan: Arc<Plan>,
    pub origins: Origins,
    pub tls: Option<Tls>,
    /// `[proxy]`'s where the zone says nothing else.
    pub timeouts: Arc<Timeouts>,
    /// What is asked after the host's own rules.
    pub firewall: Firewall,
    /// The zone's number in marks; default one of its name.
    pub mark: Option<u32>,
    /// Where the zone's customer gets mail; default none, and then no notice can be sent.
    pub contact: Option<MailAddress>,
}

/// A host that a zone answers to: lower case, without a port or a trailing dot, IDNA names in their ASCII form, an IPv6
/// address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(String),
    /// `*.example.com` is kept as `example.com`: one label or more in front of it (the longest match wins).
    Wildcard(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// 1 to 32 of `a-z 0-9 - _`, beginning with a letter or digit: it becomes a folder's name.
    InstanceName
);
name!(
    /// 1 to 64 of `A-Z a-z 0-9 . - _`.
    PlanName
);
name!(
    /// 1 to 64 of `A-Z a-z 0-9 . - _`: names a rule of a firewall in counters, logs and answers.
    RuleId
);
name!(
    /// 1 to 253 visible ASCII characters without `"`, `\`, `/` or `,`; it becomes a metric label.
    ZoneName
);
