//! What the proxy tells of itself: what it counts, and how it keeps its log from being flooded.

pub(crate) mod counters;
pub(crate) mod rare;
