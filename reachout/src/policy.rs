//! The policy: every number by which usage is judged and people are written to, with its default and its version.
//!
//! [`PolicyParams`] is what an operator writes; a [`Policy`] that exists is valid and carries its [`PolicyVersion`]: the
//! operator's number and a fingerprint of all parameters, so that two policies that differ never share a version.
//! Durations are in the unit of their name; the detector works in slots of 5 minutes, to which they are rounded up.
//! Every decision and every ledger entry records the version it was made under.

use crate::slot::SLOT_SECONDS;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use time::Duration;
pub use weir_config::PolicyError;
use weir_config::{Detection, PolicyParams};

/// `NUMBER-FINGERPRINT`, as `1-5f0c2a9b`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyVersion(String);

impl PolicyVersion {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A valid policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    params: PolicyParams,
    version: PolicyVersion,
    pub(crate) slots: SlotCounts,
}

/// Durations of [`Detection`] in slots, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    pub gap: u32,
    pub spike: u32,
    pub counted_gap: u32,
    pub window: u32,
    pub normal: u32,
    pub spread: u32,
    pub surge: u32,
}

impl Policy {
    pub fn new(params: PolicyParams) -> Result<Self, PolicyError> {
        params.faults().into_iter().next().map_or(Ok(()), Err)?;
        let d = &params.detection;
        let slots = SlotCounts {
            gap: minutes(d.episode_gap_minutes),
            spike: minutes(d.spike_minutes),
            counted_gap: hours(d.counted_gap_hours),
            window: days(d.window_days),
            normal: days(d.normal_days),
            spread: days(d.repeated_spread_days),
            surge: minutes(d.surge_minutes),
        };
        let version = PolicyVersion(format!("{}-{}", params.version, fingerprint(&params)));
        Ok(Self { params, version, slots })
    }

    pub fn version(&self) -> &PolicyVersion {
        &self.version
    }

    pub fn params(&self) -> &PolicyParams {
        &self.params
    }

    pub fn detection(&self) -> &Detection {
        &self.params.detection
    }

    /// From a delivered contact to the earliest limit.
    pub fn grace(&self) -> Duration {
        Duration::days(self.params.contact.grace_days.into())
    }

    /// Between two notices to one zone.
    pub fn zone_gap(&self) -> Duration {
        Duration::hours(self.params.contact.zone_gap_hours.into())
    }

    /// Between two notices of one case.
    pub fn case_gap(&self) -> Duration {
        Duration::days(self.params.contact.case_gap_days.into())
    }

    /// Life of a lease.
    pub fn lease(&self) -> Duration {
        Duration::minutes(self.params.contact.lease_minutes.into())
    }

    /// Life of a verdict.
    pub fn verdict(&self) -> Duration {
        Duration::minutes(self.params.abuse.verdict_minutes.into())
    }

    /// True if this over time is more than the R2 budget.
    pub(crate) fn is_sustained(&self, over_slots: u32) -> bool {
        over_seconds(over_slots) > self.params.detection.sustained_hours * 3600.0
    }

    /// The part of the R2 budget that this over time has spent; above 1 it is overspent.
    pub(crate) fn budget_spent(&self, over_slots: u32) -> f64 {
        over_seconds(over_slots) / (self.params.detection.sustained_hours * 3600.0)
    }
}

impl Default for Policy {
    fn default() -> Self {
        match Self::new(PolicyParams::default()) {
            Ok(policy) => policy,
            Err(e) => unreachable!("the defaults are a policy: {e}"),
        }
    }
}

fn over_seconds(slots: u32) -> f64 {
    f64::from(slots) * SLOT_SECONDS as f64
}

fn minutes(n: u32) -> u32 {
    n.div_ceil(SLOT_SECONDS as u32 / 60)
}

fn hours(n: u32) -> u32 {
    minutes(n * 60)
}

fn days(n: u32) -> u32 {
    hours(n * 24)
}

fn fingerprint(params: &PolicyParams) -> String {
    // Plain numbers in a struct: fields keep their order, and no value of them can fail to be written.
    let text = serde_json::to_string(params).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_policy_text() {
        let slots = Policy::default().slots;
        let expected = SlotCounts {
            gap: 12,
            spike: 2,
            counted_gap: 240,
            window: 8640,
            normal: 4032,
            spread: 2016,
            surge: 12,
        };
        assert_eq!(slots, expected);
    }

    #[test]
    fn any_changed_parameter_changes_the_version() {
        let mut params = PolicyParams::default();
        params.detection.over_ratio = 1.2;
        let changed = Policy::new(params).expect("valid");
        assert_ne!(changed.version(), Policy::default().version());
        assert!(changed.version().as_str().starts_with("1-"));
    }

    #[test]
    fn a_parameter_that_means_nothing_is_named() {
        let mut params = PolicyParams::default();
        params.detection.normal_days = 31;
        let error = Policy::new(params).expect_err("longer than the window");
        assert_eq!(error.to_string(), "policy: detection.normal_days is 31; at most window_days");
        let mut params = PolicyParams::default();
        params.detection.sustained_hours = f64::NAN;
        assert_eq!(Policy::new(params).expect_err("no number").name, "detection.sustained_hours");
    }

    #[test]
    fn parameters_that_are_left_out_have_their_defaults_and_unknown_ones_are_faults() {
        let params: PolicyParams =
            serde_json::from_str(r#"{"detection":{"window_days":28}}"#).expect("valid");
        assert_eq!(params.detection.window_days, 28);
        assert_eq!(params.detection.repeated_spikes, 4);
        assert!(serde_json::from_str::<PolicyParams>(r#"{"detection":{"window":28}}"#).is_err());
    }
}
