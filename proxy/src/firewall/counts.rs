//! What a rule has done: relaxed counters, shared by the rules of one id through all reloads.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use weir_config::{RuleId, ZoneName};

/// A step of the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Access,
    Custom,
    Limit,
    Managed,
}

impl Stage {
    /// The stage's name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Custom => "custom",
            Self::Limit => "limit",
            Self::Managed => "managed",
        }
    }
}

/// How often a rule did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// `None` for a rule of the host.
    pub zone: Option<ZoneName>,
    pub stage: Stage,
    pub rule: RuleId,
    /// `matched`, `blocked`, `dry_run`, `failed` or `crowded`.
    pub outcome: &'static str,
    pub n: u64,
}

/// The counters of a rule.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The rule applied to the request, whatever followed.
    pub matched: Count,
    /// It refused the request.
    pub blocked: Count,
    /// It would have allowed or refused it, but for `dry_run`.
    pub dry_run: Count,
    /// Its condition, or managed rules, could not be evaluated.
    pub failed: Count,
    /// A limit had no room for another key: the request was counted with all others like it. Or no thread was free to ask managed
    /// rules.
    pub crowded: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Counts {
    pub fn read(
        &self,
        zone: Option<&ZoneName>,
        stage: Stage,
        rule: &RuleId,
    ) -> impl Iterator<Item = RuleCount> {
        let outcomes = [
            ("matched", &self.matched),
            ("blocked", &self.blocked),
            ("dry_run", &self.dry_run),
            ("failed", &self.failed),
            ("crowded", &self.crowded),
        ];
        outcomes
            .map(|(outcome, count)| RuleCount {
                zone: zone.cloned(),
                stage,
                rule: rule.clone(),
                outcome,
                n: count.0.load(Relaxed),
            })
            .into_iter()
    }
}

/// The counts of `id` among those of the rules before, or new ones.
pub(crate) fn kept<'a>(
    mut before: impl Iterator<Item = (&'a RuleId, &'a Arc<Counts>)>,
    id: &RuleId,
) -> Arc<Counts> {
    before.find(|(known, _)| *known == id).map(|(_, counts)| counts.clone()).unwrap_or_default()
}
