//! weir's data plane: it accepts clients, knows their zone, asks the kernel to admit their WebSockets, and tunnels them to
//! origins.
//!
//! ```text
//! listener -> connection -> (tls) -> service -> upgrade -> tunnel
//!                                           \-> forward
//! ```
//!
//! The way in is [`bind`], [`drop_privileges`], [`Bound::start`] (or [`Bound::serve`]). The proxy never talks to the agent: it
//! speaks to the kernel's books with `setsockopt` on its own sockets, in `accounting` alone, and has no capability.

mod accounting;
mod body;
mod books;
mod certificates;
mod connection;
mod counters;
mod forward;
mod forwarded;
mod headers;
mod listener;
mod origin;
mod pace;
mod privileges;
mod rare;
mod reason;
mod refusal;
mod roster;
mod routes;
mod server;
mod service;
mod stream;
mod target;
mod tls;
mod tunnel;
mod upgrade;
mod via;

// What the tests in `tests/` stand on, for those that need a stand-in for the kernel as well.
#[cfg(test)]
extern crate self as weir_proxy;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use accounting::Unavailable;
pub use certificates::CertificateError;
pub use counters::{Counter, Counters};
pub use listener::ListenError;
pub use privileges::{Identity, PrivilegeError, drop_privileges};
pub use routes::RoutesError;
pub use server::{BindError, Bound, Drained, ReloadError, Running, StartError, bind, check};
