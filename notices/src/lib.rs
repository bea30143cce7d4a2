//! What reaches people: the evidence as a picture, letters to a customer, their delivery, and the links in them.
//!
//! Nothing here decides anything: who is written to and when is `weir_reachout`'s to say, and the agent keeps what was said
//! and what became of it. A [`plot`] and a [`letter`] are pure functions of what they are given, so that the same
//! notice is the same bytes; [`delivery`] tells apart what arrived, what never will, and what is worth another try; a
//! [`link`] proves itself by a key and carries no secret of anybody's.
#![forbid(unsafe_code)]

pub mod answer;
pub mod delivery;
pub mod keys;
pub mod letter;
pub mod link;
pub mod page;
pub mod plot;
pub mod telling;
