//! What the admin addresses of both processes are made of.
//!
//! [`serve`] is an HTTP/1.1 server for few and possibly careless clients: bounded in connections and in time, so that nobody who
//! reaches the address can take the process' memory or descriptors. [`exposition`] writes numbers as Prometheus reads
//! them. What is served, and which numbers there are, is for the agent and the proxy to say.
#![forbid(unsafe_code)]

pub mod exposition;
mod places;
mod scrapes;
mod server;

pub use scrapes::{SCRAPES, Scrapes};
pub use server::{ACCEPT_PAUSE, serve, serve_connection};
