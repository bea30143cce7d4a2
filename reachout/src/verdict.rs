//! A verdict: a suspicion of abuse that holds its evidence and expires.
//!
//! One without two families of evidence cannot be built, nor read from a ledger; one that refuses prefixes needs prefixes, and
//! three families or harm to the host. It gives no lease once it has expired, and none while it only observes.

use crate::{
    actor::Person,
    limit::{Effect, Ground, Lease},
    refusal::Refused,
    signal::{Finding, Findings, PrefixCount},
    slot::SlotIndex,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A suspicion reaches back so far at most: what was before is the customer's usage, whatever one sign said of it.
const REACH: Duration = Duration::minutes(30);

/// What a verdict does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
pub enum Measure {
    Observe,
    RefusePrefixes { prefixes: Vec<String> },
}

/// Why a verdict ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Expired,
    /// 24 h without a person.
    Unattended,
    ByPerson,
}

/// Baseline against now, and where it came from. At least two families.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub families: Vec<Finding>,
    pub prefixes: Vec<PrefixCount>,
    pub live: u64,
    pub harm: bool,
}

/// A suspicion with evidence and an expiry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawVerdict", into = "RawVerdict")]
pub struct Verdict(RawVerdict);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RawVerdict {
    id: String,
    zone: String,
    measure: Measure,
    /// Since when two of its signs held together, as far as it reaches back.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
    evidence: Evidence,
    attended_by: Option<Person>,
}

/// Not a verdict: a part of what makes one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a verdict needs two families of evidence and an end after its beginning; to refuse it needs prefixes, and three \
     families or harm to the host"
)]
pub struct NoVerdict;

impl TryFrom<RawVerdict> for Verdict {
    type Error = NoVerdict;

    fn try_from(raw: RawVerdict) -> Result<Self, NoVerdict> {
        let mut families: Vec<_> = raw.evidence.families.iter().map(|finding| finding.family).collect();
        families.sort_unstable();
        families.dedup();
        let enough = families.len() >= 2 && raw.until > raw.since;
        let justified = match &raw.measure {
            Measure::Observe => true,
            Measure::RefusePrefixes { prefixes } => {
                !prefixes.is_empty() && (families.len() >= 3 || raw.evidence.harm)
            }
        };
        if enough && justified { Ok(Self(raw)) } else { Err(NoVerdict) }
    }
}

impl From<Verdict> for RawVerdict {
    fn from(verdict: Verdict) -> Self {
        verdict.0
    }
}

impl Verdict {
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub fn measure(&self) -> &Measure {
        &self.0.measure
    }

    pub fn evidence(&self) -> &Evidence {
        &self.0.evidence
    }

    pub fn since(&self) -> OffsetDateTime {
        self.0.since
    }

    pub fn until(&self) -> OffsetDateTime {
        self.0.until
    }

    pub fn is_over(&self, now: OffsetDateTime) -> bool {
        now >= self.0.until
    }

    /// What the kernel gets of it. Refused when it has expired, or only observes.
    pub fn lease(&self, now: OffsetDateTime) -> Result<Lease, Refused> {
        let Measure::RefusePrefixes { prefixes } = &self.0.measure else { return Err(Refused::NotCovered) };
        if self.is_over(now) {
            return Err(Refused::NotCovered);
        }
        Ok(Lease {
            zone: self.0.zone.clone(),
            ground: Ground::Verdict { verdict: self.0.id.clone() },
            effect: Effect::RefusePrefixes { prefixes: prefixes.clone() },
            from: now,
            until: self.0.until,
        })
    }

    pub fn zone(&self) -> &str {
        &self.0.zone
    }

    /// The person who lets it go on past 24 h.
    pub fn attended_by(&self) -> Option<&Person> {
        self.0.attended_by.as_ref()
    }

    /// True if the slot, in part or whole, lies between its signs' beginning and its end.
    pub fn covers(&self, slot: SlotIndex) -> bool {
        slot.end() > self.0.since && slot.start() < self.0.until
    }

    /// A suspicion: it observes. None without two families.
    pub(crate) fn suspicion(
        zone: &str,
        findings: &Findings,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Option<Self> {
        let mut began: Vec<_> = findings.families.iter().map(|finding| finding.since).collect();
        began.sort_unstable();
        // One sign alone is none: it may have held for weeks.
        let since = (*began.get(1)?).max(now - REACH);
        let evidence = evidence(findings);
        let (id, zone, measure) = (id(zone, since), zone.to_owned(), Measure::Observe);
        Self::try_from(RawVerdict { id, zone, measure, since, until, evidence, attended_by: None }).ok()
    }

    /// The same, and its prefixes are refused. Who has seen it observe has not seen that.
    pub(crate) fn mitigating(self, findings: &Findings, until: OffsetDateTime) -> Self {
        self.refusing(findings, until).unattended()
    }

    fn refusing(mut self, findings: &Findings, until: OffsetDateTime) -> Self {
        let prefixes = findings.prefixes.iter().map(|prefix| prefix.prefix.clone()).collect();
        self.0.measure = Measure::RefusePrefixes { prefixes };
        (self.0.until, self.0.evidence) = (until, evidence(findings));
        self
    }

    /// Two families, and of a refusal: who is refused is still there, or others are whose networks hold the sockets.
    pub(crate) fn goes_on(&self, findings: &Findings) -> bool {
        let is_refused = |prefix: &String| findings.largest.iter().any(|large| large.prefix == *prefix);
        let has_reason = match &self.0.measure {
            Measure::Observe => true,
            Measure::RefusePrefixes { prefixes } => {
                !findings.prefixes.is_empty() || prefixes.iter().any(is_refused)
            }
        };
        findings.families.len() >= 2 && has_reason
    }

    /// Refused, an attack shows fewer signs, so measures keep the evidence and the prefixes that they were taken on, unless what is
    /// seen now justifies its own.
    pub(crate) fn renewed(mut self, findings: &Findings, until: OffsetDateTime) -> Self {
        match self.0.measure {
            Measure::RefusePrefixes { .. } if justifies_measures(findings) => {
                return self.refusing(findings, until);
            }
            Measure::RefusePrefixes { .. } => {}
            Measure::Observe => self.0.evidence = evidence(findings),
        }
        self.0.until = until;
        self
    }

    pub(crate) fn refuses(&self) -> bool {
        matches!(self.0.measure, Measure::RefusePrefixes { .. })
    }

    pub(crate) fn unattended(mut self) -> Self {
        self.0.attended_by = None;
        self
    }

    pub(crate) fn attended(mut self, by: Person) -> Self {
        self.0.attended_by = Some(by);
        self
    }

    pub(crate) fn cut_off(mut self, at: OffsetDateTime) -> Self {
        self.0.until = self.0.until.min(at);
        self
    }
}

/// Narrow measures need somebody to be narrow about.
pub(crate) fn justifies_measures(findings: &Findings) -> bool {
    let families = findings.families.len();
    (families >= 3 || (families >= 2 && findings.harm)) && !findings.prefixes.is_empty()
}

fn evidence(findings: &Findings) -> Evidence {
    let Findings { families, prefixes, live, harm, largest: _ } = findings.clone();
    Evidence { families, prefixes, live, harm }
}

fn id(zone: &str, since: OffsetDateTime) -> String {
    let digest =
        Sha256::new().chain_update(since.unix_timestamp_nanos().to_be_bytes()).chain_update(zone).finalize();
    digest.iter().take(6).fold("v-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}
