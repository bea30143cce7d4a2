//! Which stages of the firewall are on, for the host and for the zones that have something of their own, and where the gate stands.

use std::{fmt::Write as _, fs};

use weir_config::{Config, Firewall, ManagedMode, XdpMode, XdpRule};

use super::report::Finding;
use crate::text::plural;

/// So many zones have a line of their own.
const MOST: usize = 20;

/// Nothing where there is no rule at all.
pub fn check(config: &Config) -> Vec<Finding> {
    let host = &config.firewall.rules;
    let mut findings = Vec::new();
    if let Some(stages) = stages(host) {
        findings.push(Finding::right("firewall", stages));
    }
    let own = config.zones.iter().filter_map(|zone| {
        let firewall = &zone.firewall;
        let has_own =
            !firewall.access.is_empty() || !firewall.custom.is_empty() || !firewall.limits.is_empty();
        (has_own || firewall.managed != host.managed).then_some((&zone.name, firewall))
    });
    let mut more = 0;
    for (n, (name, firewall)) in own.enumerate() {
        if n < MOST {
            let found =
                stages(firewall).unwrap_or_else(|| "nothing of its own, managed rules off".to_owned());
            findings.push(Finding::right(format!("firewall of {name}"), found));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        findings.push(Finding::right(
            "firewall",
            format!("{} more with rules of their own", plural(more, "zone")),
        ));
    }
    findings
}

/// The stages that have rules, in their order.
fn stages(firewall: &Firewall) -> Option<String> {
    let lists = [
        ("access", firewall.access.iter().map(|rule| rule.dry_run).collect::<Vec<_>>()),
        ("rules", firewall.custom.iter().map(|rule| rule.dry_run).collect()),
        ("limits", firewall.limits.iter().map(|rule| rule.dry_run).collect()),
    ];
    let mut parts: Vec<String> = Vec::new();
    for (stage, rules) in lists.iter().filter(|(_, rules)| !rules.is_empty()) {
        let dry = rules.iter().filter(|dry_run| **dry_run).count();
        let dry = if dry > 0 { format!(" ({dry} dry)") } else { String::new() };
        parts.push(format!("{stage} {}{dry}", rules.len()));
    }
    let files = plural(firewall.managed.rules.len() as u64, "file");
    match firewall.managed.mode {
        ManagedMode::Off => {}
        ManagedMode::Detect => parts.push(format!("managed detect, {files}")),
        ManagedMode::Block => parts.push(format!("managed block, {files}")),
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Where the gate will stand, by what interfaces there are now.
pub fn gate(config: &Config) -> Option<Finding> {
    if config.xdp.interfaces.is_empty() {
        return None;
    }
    let names: Vec<String> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut taken: Vec<&String> = Vec::new();
    let mut parts = Vec::new();
    for interface in &config.xdp.interfaces {
        // The first that a name fits decides.
        let mut fits: Vec<_> =
            names.iter().filter(|name| interface.matches(name) && !taken.contains(name)).collect();
        fits.sort();
        taken.extend(&fits);
        let mode = match interface.mode {
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
            XdpMode::Off => "off",
        };
        let here = match fits.len() {
            0 => "none here now".to_owned(),
            1..=4 => fits.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "),
            many => format!("{many} interfaces"),
        };
        parts.push(format!("{} {mode} ({here})", interface.pattern));
    }
    let mut found = parts.join("; ");
    let dry: Vec<_> = config.xdp.dry_run.rules().map(rule).collect();
    if !dry.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(found, "; dry: {}", dry.join(" "));
    }
    Some(Finding::right("xdp", found))
}

fn rule(rule: XdpRule) -> &'static str {
    match rule {
        XdpRule::Deny => "deny",
        XdpRule::SourceCap => "source_cap",
        XdpRule::SynRate => "syn_rate",
        XdpRule::Zone => "zone",
    }
}
