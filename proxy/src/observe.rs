//! What the proxy tells of itself and of its work.
//!
//! [`counters`] are written where things happen and read by [`metrics`], which [`admin`] serves. [`exchange`] follows a request to the
//! end of its answer, for the counters and for the [`access`] log; [`request_id`] names it. [`rare`] keeps the process' own
//! log from being flooded.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod counters;
pub(crate) mod exchange;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod rare;
pub(crate) mod request_id;
pub(crate) mod timing;
