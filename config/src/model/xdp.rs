//! `[xdp]`: which packets the gate drops, and on which interfaces it stands.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// `[xdp]`. Without it there is no gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xdp {
    /// The first that an interface's name matches decides; an interface that none matches has no gate.
    pub interfaces: Vec<XdpInterface>,
    /// Sources that no rule is asked about, in order, each once; default none.
    pub allow: Vec<IpNet>,
    /// Sources whose SYNs are dropped, likewise; default none.
    pub deny: Vec<IpNet>,
    /// SYNs of one source prefix in time; default no bound.
    pub syn_rate: Option<SynRate>,
    /// Rules that only count; default none.
    pub dry_run: DryRun,
}

/// An item of `interfaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpInterface {
    /// A name, in which `*` stands for any characters.
    pub pattern: String,
    pub mode: XdpMode,
}

impl XdpInterface {
    /// True if the interface of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.pattern.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes a packet buffer.
    Native,
    /// In the network stack: works on every interface, and costs more.
    Generic,
    Off,
}

/// `syn_rate`: a token bucket for each source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynRate {
    pub per_second: u64,
    /// What may come at once; default as many as `per_second`.
    pub burst: u64,
}

/// `dry_run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DryRun(pub(crate) BTreeSet<XdpRule>);

impl DryRun {
    pub fn rules(&self) -> impl Iterator<Item = XdpRule> {
        self.0.iter().copied()
    }
}

/// A rule of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum XdpRule {
    Deny,
    SourceCap,
    SynRate,
    Zone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_whole_name_with_stars() {
        let matches = |pattern: &str, name: &str| {
            XdpInterface { pattern: pattern.to_owned(), mode: XdpMode::Native }.matches(name)
        };
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth0", "eth", false),
            ("eth*", "eth", true),
            ("eth*", "eth0.100", true),
            ("eth*", "veth0", false),
            ("*", "anything", true),
            ("*0", "eth0", true),
            ("*0", "eth01", false),
            ("e*h*0", "enp1sh00", true),
            ("e*h*0", "enp1s0", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("a*b*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
