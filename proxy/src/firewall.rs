//! What a request has to pass before it is served: the host's rules, then its zone's, stage by stage.
//!
//! [`access`] asks for the client's network, [`custom`] evaluates conditions in CEL, [`limits`] counts, [`managed`] has
//! ModSecurity's rules evaluated on other threads; a rule that refuses ends it. [`facts`] is the request as rules see it, [`counts`] what each rule has done. Nothing here is asked again once a request
//! was answered: the bytes of a tunnel are nobody's business.
//!
//! Rules are compiled with the snapshot. Counts and the state of limits go over from a rule to the one with the same id in the
//! next snapshot, so a reload neither forgets nor forgives.

pub(crate) mod access;
pub(crate) mod country;
mod counts;
mod custom;
pub(crate) mod facts;
mod limits;
pub(crate) mod managed;

use std::sync::Arc;

use weir_config::{HostFirewall, ZoneName};

use access::{AccessList, Interned};
use country::{Countries, CountryError};
use custom::CustomRules;
use facts::Facts;
use limits::Limits;
use managed::{ManagedRules, library::CompileError, matches::Matches, pool::Pool, sets::Sets};

pub use counts::{RuleCount, Stage};
pub(crate) use custom::Answer;
pub(crate) use limits::Exceeded;

use crate::{observe::timing::Timing, request::reason::Reason};

/// A request that a rule refuses.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub reason: Reason,
    pub rule: weir_config::RuleId,
    /// What a custom rule says instead of the problem.
    pub answer: Option<Answer>,
    /// What a limit says of itself.
    pub exceeded: Option<Exceeded>,
}

impl Block {
    fn new(reason: Reason, rule: &weir_config::RuleId) -> Self {
        Self { reason, rule: rule.clone(), answer: None, exceeded: None }
    }
}

/// What the rules of a snapshot have in common.
pub(crate) struct Shared {
    pub interned: Interned,
    pub sets: Sets,
}

/// The rules of one scope, compiled.
#[derive(Default)]
pub(crate) struct Rules {
    access: AccessList,
    custom: CustomRules,
    limits: Limits,
    pub managed: ManagedRules,
}

impl Rules {
    /// Compiles the rules; what `before` has counted under the same ids is kept.
    pub fn build(
        config: &weir_config::Firewall,
        before: Option<&Self>,
        shared: &mut Shared,
    ) -> Result<Self, CompileError> {
        let Shared { interned, sets } = shared;
        Ok(Self {
            access: AccessList::build(&config.access, before.map(|before| &before.access), interned),
            custom: CustomRules::build(&config.custom, before.map(|before| &before.custom)),
            limits: Limits::build(&config.limits, before.map(|before| &before.limits)),
            managed: ManagedRules::build(&config.managed, before.map(|before| &before.managed), sets)?,
        })
    }

    /// What each rule has done, for `zone` or the host.
    pub fn counts(&self, zone: Option<&ZoneName>) -> Vec<RuleCount> {
        // Managed rules are a zone's, also where it has them from the host.
        let managed = zone.is_some().then(|| self.managed.counts()).into_iter().flatten();
        let rules = self.access.counts().chain(self.custom.counts()).chain(self.limits.counts());
        rules.chain(managed).flat_map(|(stage, rule, counts)| counts.read(zone, stage, rule)).collect()
    }
}

/// `[firewall]`, compiled.
pub(crate) struct Firewall {
    pub rules: Rules,
    pub countries: Option<Countries>,
    pool: Pool,
    matches: Arc<Matches>,
}

/// Rules of the host that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostFirewallError {
    #[error(transparent)]
    Country(#[from] CountryError),
    #[error(transparent)]
    Managed(#[from] CompileError),
}

impl Firewall {
    /// Compiles the host's rules and reads its database, unless `before` has read the same one.
    pub fn build(
        config: &HostFirewall,
        before: Option<&Self>,
        shared: &mut Shared,
    ) -> Result<Self, HostFirewallError> {
        let known = before.and_then(|before| before.countries.as_ref());
        Ok(Self {
            rules: Rules::build(&config.rules, before.map(|before| &before.rules), shared)?,
            countries: config.geoip.as_deref().map(|path| Countries::load(path, known)).transpose()?,
            pool: Pool::build(config.managed_pool, before.map(|before| &before.pool)),
            matches: before.map(|before| before.matches.clone()).unwrap_or_default(),
        })
    }

    /// How often each managed rule matched, over all zones, by its number; and what inspecting took.
    pub fn managed_counts(&self) -> (Vec<(String, u64)>, &Timing) {
        let by_rule = self.matches.read().into_iter().map(|(rule, count)| (rule.to_string(), count));
        (by_rule.collect(), &self.pool.time)
    }

    /// Asks every stage but the last, in each the host's rules before those of `zone`.
    pub fn check(&self, zone: &Rules, facts: &Facts<'_>) -> Result<(), Block> {
        let scopes = [&self.rules, zone];
        scopes.iter().try_for_each(|rules| rules.access.check(facts))?;
        scopes.iter().try_for_each(|rules| rules.custom.check(facts))?;
        scopes.iter().try_for_each(|rules| rules.limits.check(facts))
    }
}

#[cfg(test)]
mod bench;
