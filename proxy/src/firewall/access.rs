//! Lists of networks: the first rule with a network that the client is in decides.
//!
//! Each rule's networks are a prefix trie, so a look-up takes as many steps as an address has bits at most, however many
//! networks there are. A list that many zones name is one trie.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;
use weir_config::{AccessAction, AccessRule, RuleId};

use super::{
    Block,
    counts::{Counts, Stage, kept},
    facts::Facts,
};
use crate::request::reason::Reason;

/// Networks that an address can be looked up in.
#[derive(Default)]
pub(crate) struct Networks {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl Networks {
    fn new(networks: &[IpNet]) -> Self {
        let mut set = Self::default();
        for network in networks {
            match network {
                IpNet::V4(network) => set.v4.insert(*network),
                IpNet::V6(network) => set.v6.insert(*network),
            };
        }
        set
    }

    pub fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.get_spm(&Ipv4Net::from(address)).is_some(),
            IpAddr::V6(address) => self.v6.get_spm(&Ipv6Net::from(address)).is_some(),
        }
    }
}

/// The tries made so far for a snapshot, by the list that they are of.
#[derive(Default)]
pub(crate) struct Interned(HashMap<*const IpNet, Arc<Networks>>);

impl Interned {
    /// `networks` outlives this: the configuration has it.
    fn get(&mut self, networks: &Arc<[IpNet]>) -> Arc<Networks> {
        let known = self.0.entry(networks.as_ptr());
        known.or_insert_with(|| Arc::new(Networks::new(networks))).clone()
    }
}

struct Rule {
    id: RuleId,
    action: AccessAction,
    networks: Arc<Networks>,
    dry_run: bool,
    counts: Arc<Counts>,
}

/// The rules of a scope.
#[derive(Default)]
pub(crate) struct AccessList(Vec<Rule>);

impl AccessList {
    pub fn build(rules: &[AccessRule], before: Option<&Self>, interned: &mut Interned) -> Self {
        let before = before.map_or(&[][..], |before| &before.0);
        let compile = |rule: &AccessRule| Rule {
            id: rule.id.clone(),
            action: rule.action,
            networks: if rule.networks.is_empty() { Arc::default() } else { interned.get(&rule.networks) },
            dry_run: rule.dry_run,
            counts: kept(before.iter().map(|rule| (&rule.id, &rule.counts)), &rule.id),
        };
        Self(rules.iter().map(compile).collect())
    }

    pub fn check(&self, facts: &Facts<'_>) -> Result<(), Block> {
        for rule in &self.0 {
            if !rule.networks.contain(facts.address) {
                continue;
            }
            rule.counts.matched.add();
            if rule.dry_run {
                rule.counts.dry_run.add();
                continue;
            }
            return match rule.action {
                AccessAction::Allow => Ok(()),
                AccessAction::Deny => {
                    rule.counts.blocked.add();
                    Err(Block::new(Reason::FirewallDenied, &rule.id))
                }
            };
        }
        Ok(())
    }

    pub fn counts(&self) -> impl Iterator<Item = (Stage, &RuleId, &Counts)> {
        self.0.iter().map(|rule| (Stage::Access, &rule.id, &*rule.counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_any_of_its_networks() {
        let networks: Vec<IpNet> = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32"]
            .map(|network| network.parse().expect("a network"))
            .into();
        let networks = Networks::new(&networks);
        for (address, inside) in [
            ("10.0.0.1", true),
            ("10.1.2.3", true),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::a00:1", false),
        ] {
            assert_eq!(networks.contain(address.parse().expect("an address")), inside, "{address}");
        }
        assert!(
            Networks::new(&["0.0.0.0/0".parse().expect("a network")]).contain(IpAddr::from([1, 2, 3, 4]))
        );
    }

    #[test]
    fn a_list_of_many_zones_is_one_trie() {
        let list: Arc<[IpNet]> = Arc::new(["10.0.0.0/8".parse().expect("a network")]);
        let mut interned = Interned::default();
        assert!(Arc::ptr_eq(&interned.get(&list), &interned.get(&list.clone())));
    }
}
