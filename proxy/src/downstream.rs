//! Clients' connections: accepted, TLS or not, spoken to in HTTP, until each has ended or become a tunnel.
//!
//! [`listener`] accepts, [`tls`] does the handshake with a [`certificates`] pair, [`connection`] runs HTTP on the [`stream`],
//! lets heads through the [`gate`] and keeps its time limits by [`pace`]. What a request means is [`request`](crate::request)'s to know.

pub(crate) mod certificates;
pub(crate) mod connection;
pub(crate) mod gate;
pub(crate) mod listener;
pub(crate) mod pace;
pub(crate) mod proxy_protocol;
pub(crate) mod stream;
pub(crate) mod tls;
