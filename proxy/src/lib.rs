//! weir's data plane: it accepts clients, knows their zone, asks the kernel to admit their WebSockets, and tunnels them to
//! origins.
//!
//! ```text
//! downstream (listener, tls, connection) -> request (service, firewall, upgrade | forward) -> upstream
//!                                                              \-> tunnel
//! ```
//!
//! The way in is [`bind`], [`drop_privileges`], [`Bound::start`] (or [`Bound::serve`]). The proxy never talks to the agent: it
//! speaks to the kernel's books with `setsockopt` on its own sockets, in `accounting::kernel` alone, and has no capability.

mod accounting;
mod downstream;
mod firewall;
#[cfg(any(test, feature = "fuzzing"))]
pub mod hostile;
mod observe;
mod request;
mod server;
mod tunnel;
mod upstream;

// What the tests in `tests/` stand on, for those that need a stand-in for the kernel as well.
#[cfg(test)]
extern crate self as weir_proxy;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use accounting::kernel::Unavailable;
pub use downstream::{certificates::CertificateError, listener::ListenError};
pub use firewall::{RuleCount, Stage, country::CountryError, managed::library::CompileError};
pub use observe::{
    access::AccessLogError,
    admin::AdminError,
    counters::{Counter, Counters},
    timing::Timing,
};
pub use server::{BindError, Bound, Drained, ReloadError, Running, StartError, bind, check, check_reload};
pub use server::{
    privileges::{Identity, PrivilegeError, drop_privileges},
    routes::RoutesError,
    takeover::TakeoverError,
};
