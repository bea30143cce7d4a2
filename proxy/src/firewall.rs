//! What a request has to pass before it is served: the host's rules, then its zone's, stage by stage.
//!
//! [`access`] asks for the client's network, [`custom`] evaluates conditions in CEL, [`limits`] counts; a rule that refuses ends
//! it. [`facts`] is the request as rules see it, [`counts`] what each rule has done. Nothing here is asked again once a request
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

use weir_config::{HostFirewall, ZoneName};

use access::{AccessList, Interned};
use country::{Countries, CountryError};
use custom::CustomRules;
use facts::Facts;
use limits::Limits;

pub use counts::{RuleCount, Stage};
pub(crate) use custom::Answer;
pub(crate) use limits::Exceeded;

use crate::request::reason::Reason;

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

/// The rules of one scope, compiled.
#[derive(Default)]
pub(crate) struct Rules {
    access: AccessList,
    custom: CustomRules,
    limits: Limits,
}

impl Rules {
    /// Compiles the rules; what `before` has counted under the same ids is kept.
    pub fn build(config: &weir_config::Firewall, before: Option<&Self>, interned: &mut Interned) -> Self {
        Self {
            access: AccessList::build(&config.access, before.map(|before| &before.access), interned),
            custom: CustomRules::build(&config.custom, before.map(|before| &before.custom)),
            limits: Limits::build(&config.limits, before.map(|before| &before.limits)),
        }
    }

    /// What each rule has done, for `zone` or the host.
    pub fn counts(&self, zone: Option<&ZoneName>) -> Vec<RuleCount> {
        let rules = self.access.counts().chain(self.custom.counts()).chain(self.limits.counts());
        rules.flat_map(|(stage, rule, counts)| counts.read(zone, stage, rule)).collect()
    }
}

/// `[firewall]`, compiled.
pub(crate) struct Firewall {
    pub rules: Rules,
    pub countries: Option<Countries>,
}

impl Firewall {
    /// Compiles the host's rules and reads its database, unless `before` has read the same one.
    pub fn build(
        config: &HostFirewall,
        before: Option<&Self>,
        interned: &mut Interned,
    ) -> Result<Self, CountryError> {
        let known = before.and_then(|before| before.countries.as_ref());
        Ok(Self {
            rules: Rules::build(&config.rules, before.map(|before| &before.rules), interned),
            countries: config.geoip.as_deref().map(|path| Countries::load(path, known)).transpose()?,
        })
    }

    /// Asks every stage, in each the host's rules before those of `zone`.
    pub fn check(&self, zone: &Rules, facts: &Facts<'_>) -> Result<(), Block> {
        let scopes = [&self.rules, zone];
        scopes.iter().try_for_each(|rules| rules.access.check(facts))?;
        scopes.iter().try_for_each(|rules| rules.custom.check(facts))?;
        scopes.iter().try_for_each(|rules| rules.limits.check(facts))
    }
}

#[cfg(test)]
mod bench;
