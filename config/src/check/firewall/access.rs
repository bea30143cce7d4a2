//! `access`: networks in the configuration itself or in a file of their own, one a line.

use std::{cell::RefCell, collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use ipnet::IpNet;

use super::{dry_run, managed::Known};
use crate::{
    error::Problem,
    model::{AccessAction, AccessRule, RuleId},
    raw::{Section, Value},
    source::Source,
};

const ACTIONS: [(&str, AccessAction); 2] = [("allow", AccessAction::Allow), ("deny", AccessAction::Deny)];
const EXAMPLE: &str = "[\"192.0.2.0/24\", \"2001:db8::/32\"]";

/// The files that rules name. One that many rules name is read once.
#[derive(Default)]
pub(crate) struct Lists {
    read: RefCell<BTreeMap<PathBuf, Arc<[IpNet]>>>,
    others: RefCell<Vec<PathBuf>>,
    pub(super) managed: Known,
}

impl Lists {
    /// Notes a file that is read by somebody else, so that its changes are seen.
    pub fn follow(&self, path: PathBuf) {
        self.others.borrow_mut().push(path);
    }

    /// What a reload has to look at.
    pub fn into_paths(self) -> impl Iterator<Item = PathBuf> {
        self.read.into_inner().into_keys().chain(self.others.into_inner())
    }

    fn get(&self, value: &Value<'_>) -> Option<Arc<[IpNet]>> {
        let path = value.path("\"lists/blocked.txt\"")?;
        if let Some(known) = self.read.borrow().get(&path) {
            return Some(known.clone());
        }
        let networks: Arc<[IpNet]> = match Source::read(&path, value.report()) {
            Some(source) => parse(&source, value).into(),
            None => Arc::new([]),
        };
        self.read.borrow_mut().insert(path, networks.clone());
        Some(networks)
    }
}

/// One network a line; what follows `#` or `;` is a comment, as in the lists that are published.
fn parse(source: &Source, value: &Value<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    let mut offset = 0;
    for line in source.text().split_inclusive('\n') {
        let text = line.split(['#', ';']).next().unwrap_or_default();
        let start = offset + text.len() - text.trim_start().len();
        offset += line.len();
        if text.trim().is_empty() {
            continue;
        }
        match network(text.trim()) {
            Ok(network) => networks.push(network),
            Err(problem) => value.report().add(source.at(start), problem),
        }
    }
    networks
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, Problem> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let wrong = |message| Problem::new(message, "for example 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32");
    match parsed {
        Ok(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => Err(wrong(format!(
            "{text:?} is an IPv4 network in IPv6 clothes: no client has such an address here"
        ))),
        Ok(network) if network.trunc() != network => {
            let meant = network.trunc();
            Err(Problem::new(
                format!("{text:?} has bits set behind its length"),
                format!("write {meant}, or an address without a length"),
            ))
        }
        Ok(network) => Ok(network),
        Err(_) => Err(wrong(format!("{text:?} is no network"))),
    }
}

pub(super) fn read(rule: &Section<'_>, id: Option<RuleId>, lists: &Lists) -> Option<AccessRule> {
    let action = rule.required("action", "\"deny\"").and_then(|value| value.choice(&ACTIONS));
    let written = rule.get("networks").and_then(|value| value.texts(EXAMPLE)).unwrap_or_default();
    let one =
        |(text, value): &(&str, Value<'_>)| network(text).map_err(|problem| value.problem(problem)).ok();
    let mut networks: Vec<IpNet> = written.iter().filter_map(one).collect();
    let file = rule.get("file").and_then(|value| lists.get(&value));
    if rule.get("networks").is_none() && rule.get("file").is_none() {
        rule.fault(
            "the rule names no network",
            format!("add networks = {EXAMPLE}, or file = \"lists/blocked.txt\""),
        );
    }
    let networks = match file {
        Some(file) if networks.is_empty() => file,
        file => {
            networks.extend(file.iter().flat_map(|file| file.iter()));
            networks.into()
        }
    };
    Some(AccessRule { id: id?, action: action?, networks, dry_run: dry_run(rule) })
}
