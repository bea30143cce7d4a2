//! One request: whose it is, whether it may, and who answers it.
//!
//! [`service`] is the way of every request: [`target`] reads its host, the books attribute its socket, then [`upgrade`] makes a
//! WebSocket of it or [`forward`] passes it on. [`headers`], [`forwarded`] and [`via`] are what changes on the way; [`reason`] and
//! [`refusal`] are the answers that weir gives itself.

pub(crate) mod body;
pub(crate) mod chain;
pub(crate) mod content;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod handshake;
pub(crate) mod headers;
pub(crate) mod limit;
pub(crate) mod reason;
pub(crate) mod refusal;
pub(crate) mod service;
pub(crate) mod target;
pub(crate) mod upgrade;
pub(crate) mod via;
