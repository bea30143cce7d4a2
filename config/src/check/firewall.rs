//! `[firewall]` and `[zones.firewall]`: the rules by stage, and that no two of a scope have one id.

mod access;
mod limits;
mod managed;
mod rules;

use std::{collections::HashMap, sync::Arc};

pub(super) use access::Lists;

use crate::{
    model::{Firewall, HostFirewall, Managed, RuleId},
    raw::{ACCESS, LIMIT, RULE, Section},
    source::Place,
};

/// The most rules of one stage of a scope: they are asked one after the other.
const MAX_RULES: usize = 256;

pub(super) fn host(section: &Section<'_>, lists: &Lists) -> HostFirewall {
    let geoip = section.get("geoip").and_then(|value| {
        let path = value.path("\"/var/lib/GeoIP/GeoLite2-Country.mmdb\"")?;
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => value.fault(format!("{} is not a file", path.display()), "name a MaxMind database"),
            Err(error) => value.fault(
                format!("the database {} cannot be read: {error}", path.display()),
                "put the MaxMind database there, or correct the path",
            ),
        }
        Some(path)
    });
    if let Some(path) = &geoip {
        lists.follow(path.clone());
    }
    let (managed, managed_pool) = managed::host(section, lists);
    HostFirewall {
        rules: scope(section, section.get("geoip").is_some(), managed, lists),
        geoip,
        managed_pool,
    }
}

/// `host` is the host's own.
pub(super) fn zone(section: &Section<'_>, host: &HostFirewall, lists: &Lists) -> Firewall {
    scope(section, host.geoip.is_some(), managed::zone(section, &host.rules.managed, lists), lists)
}

fn scope(section: &Section<'_>, has_geoip: bool, managed: Arc<Managed>, lists: &Lists) -> Firewall {
    let mut ids = Ids::default();
    let stage = |name, keys| {
        let value = section.get(name);
        let rules = value.as_ref().map(|value| value.sections(keys)).unwrap_or_default();
        if let Some(value) = value.filter(|_| rules.len() > MAX_RULES) {
            let remedy = "one rule can have many networks, and one condition many parts";
            value.fault(format!("`{name}` has {} rules, more than {MAX_RULES}", rules.len()), remedy);
        }
        rules
    };
    Firewall {
        access: stage("access", &ACCESS)
            .iter()
            .filter_map(|rule| access::read(rule, ids.read(rule), lists))
            .collect(),
        custom: stage("rules", &RULE)
            .iter()
            .filter_map(|rule| rules::read(rule, ids.read(rule), has_geoip))
            .collect(),
        limits: stage("limits", &LIMIT)
            .iter()
            .filter_map(|rule| limits::read(rule, ids.read(rule)))
            .collect(),
        managed,
    }
}

/// The ids of a scope.
#[derive(Default)]
struct Ids(HashMap<RuleId, Place>);

impl Ids {
    fn read(&mut self, rule: &Section<'_>) -> Option<RuleId> {
        let value = rule.required("id", "\"office\"")?;
        let text = value.text("\"office\"")?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(1..=64).contains(&text.len()) || !text.bytes().all(good) {
            value.fault(format!("{text:?} is no rule's id"), "write 1 to 64 of A-Z a-z 0-9 . - _");
            return None;
        }
        let id = RuleId(text.into());
        if let Some(first) = self.0.get(&id) {
            let message = format!("the rule \"{id}\" is there twice; the first is at {first}");
            value.fault(message, "give it another id: counters and answers name rules by it");
            return None;
        }
        self.0.insert(id.clone(), value.at().place());
        Some(id)
    }
}

/// `dry_run`; default false.
fn dry_run(rule: &Section<'_>) -> bool {
    rule.get("dry_run").and_then(|value| value.flag()).unwrap_or(false)
}
