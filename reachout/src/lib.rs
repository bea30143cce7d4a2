#![forbid(unsafe_code)]
//! weir's reach-out policy: from a count to a dialogue, without IO.
//!
//! No socket, no clock, no thread, no storage: samples and people's acts come in with their time, decisions, ledger entries
//! and [`Command`](command::Command)s go out, and whoever runs them is the agent. The way of a sample:
//! [`slot`] (5 minutes) -> [`detector`] (30 days) -> [`decision`] -> [`zone`] and its [`case`] -> [`ledger`] and
//! [`command`]. Attacks go another way: [`signal`] -> [`abuse`] and its [`verdict`].
//!
//! The policy in words, for the people who apply it, is `docs/reachout.md`.

pub mod abuse;
pub mod actor;
pub mod case;
pub mod command;
pub mod contact;
mod deciding;
pub mod decision;
pub mod detector;
pub mod disproportion;
mod episode;
pub mod fact;
pub mod forecast;
pub mod hand;
pub mod history;
pub mod ledger;
pub mod limit;
pub mod outbox;
pub mod policy;
pub mod recommend;
pub mod refusal;
pub mod series;
pub mod signal;
pub mod simulate;
pub mod slot;
pub mod surge;
pub mod verdict;
mod window;
pub mod zone;

/// The policy's parameters, which are a section of the configuration.
pub mod params {
    pub use weir_config::{Abuse, Contact, Detection, PolicyParams, Recommend};
}
