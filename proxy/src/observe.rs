//! What the proxy tells of itself: what it counts and serves as metrics, and how it keeps its log from being flooded.

pub(crate) mod admin;
pub(crate) mod counters;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod rare;
pub(crate) mod timing;
