//! Whoever takes the outbox's rows to people: the worker, what it writes, and the pages behind the links in it.
//!
//! It decides nothing. A row is there because the policy or a person wanted it; the [`worker`] takes what is due, a [`post`] of
//! the configuration in force sends it, and the row keeps what became of it. What a letter and a page say is read from
//! the ledger as a [`dossier`]. Nothing here is needed for counting, caps or cases: when all ways are down, rows wait.

pub mod dossier;
mod links;
pub mod post;
#[cfg(test)]
mod tests;
mod worker;

pub use links::{AnswerDesk, Links, Pending, pages};
pub use worker::{Tally, serve};
