//! `[[zones]]`, from all files: each zone by itself, and that no name and no host is there twice.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{firewall, notices, origins, plans::Plans, timeouts, tls};
use crate::{
    model::{Bounds, HostFirewall, HostPattern, Notify, Plan, PlanName, Timeouts, Zone, ZoneName},
    nearest::nearest,
    raw::{Section, TIMEOUTS, Value, ZONE, ZONE_FIREWALL},
    source::Place,
};

/// The zones read so far.
pub(super) struct Zones<'p> {
    plans: &'p Plans,
    /// `[proxy]`'s.
    timeouts: Arc<Timeouts>,
    /// What holds for all zones.
    host: &'p HostFirewall,
    lists: &'p firewall::Lists,
    by_name: BTreeMap<ZoneName, (Arc<Zone>, Place)>,
    hosts: HashMap<HostPattern, Place>,
    any_tls: bool,
    /// `[[zones]]` seen, faulty ones included.
    count: usize,
}

impl<'p> Zones<'p> {
    pub fn new(
        plans: &'p Plans,
        timeouts: Arc<Timeouts>,
        host: &'p HostFirewall,
        lists: &'p firewall::Lists,
    ) -> Self {
        Self {
            plans,
            timeouts,
            host,
            lists,
            by_name: BTreeMap::new(),
            hosts: HashMap::new(),
            any_tls: false,
            count: 0,
        }
    }

    /// Reads the `[[zones]]` of a file.
    pub fn read(&mut self, file: &Section<'_>) {
        for section in file.get("zones").map(|zones| zones.sections(&ZONE)).unwrap_or_default() {
            self.count += 1;
            self.zone(&section);
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a zone has, or was meant to have, a certificate.
    pub fn any_tls(&self) -> bool {
        self.any_tls
    }

    /// By name.
    pub fn finish(self) -> Vec<Arc<Zone>> {
        self.by_name.into_values().map(|(zone, _)| zone).collect()
    }

    fn zone(&mut self, section: &Section<'_>) {
        let named =
            section.required("name", "\"example.com\"").and_then(|value| Some((name(&value)?, value)));
        let twice = named.as_ref().is_some_and(|(name, value)| self.is_twice(name, value));
        // A copy of a zone has its hosts too: that is one fault, not many.
        let hosts = if twice { Vec::new() } else { self.hosts(section, named.as_ref()) };
        let plan = self.plan(section);
        let origins = origins::read(section);
        let tls = section.get("tls").and_then(|value| tls::read(&value));
        let timeouts = section.get("timeouts").and_then(|value| value.section(&TIMEOUTS));
        let timeouts = timeouts.map(|section| Arc::new(timeouts::read(&section, &self.timeouts)));
        let mark = section.get("mark").and_then(|value| value.number(1..=u32::MAX.into(), 1));
        let mark = mark.and_then(|mark| mark.try_into().ok());
        self.any_tls |= section.get("tls").is_some();
        let firewall = firewall::zone(&section.section("firewall", &ZONE_FIREWALL), self.host, self.lists);

        let contact = section.get("contact").and_then(|value| notices::contact(&value));

        let Some((name, value)) = named.filter(|_| !twice) else { return };
        let zone = Zone {
            name: name.clone(),
            hosts,
            plan: plan.unwrap_or_else(no_plan),
            origins,
            tls,
            timeouts: timeouts.unwrap_or_else(|| self.timeouts.clone()),
            firewall,
            mark,
            contact,
        };
        self.by_name.insert(name, (Arc::new(zone), value.at().place()));
    }

    fn is_twice(&self, name: &ZoneName, value: &Value<'_>) -> bool {
        let Some((_, first)) = self.by_name.get(name) else { return false };
        let message = format!("the zone \"{name}\" is there twice; the first is at {first}");
        value.fault(message, "remove one of the two, or give it another name");
        true
    }

    /// The zone's hosts: its name if it lists none.
    fn hosts(&mut self, section: &Section<'_>, named: Option<&(ZoneName, Value<'_>)>) -> Vec<HostPattern> {
        if let Some(value) = section.get("hosts") {
            let Some(texts) = value.texts("[\"example.com\", \"*.example.com\"]") else { return Vec::new() };
            let hosts: Vec<_> = texts.iter().filter_map(|(text, value)| self.host(text, value)).collect();
            if texts.is_empty() {
                value.fault(
                    "`hosts` is empty: no request would reach the zone",
                    "list a host, or remove `hosts`",
                );
            }
            return hosts;
        }
        let Some((name, value)) = named else { return Vec::new() };
        match HostPattern::parse(name.as_str()) {
            Ok(HostPattern::Exact(_)) => self.host(name.as_str(), value).into_iter().collect(),
            _ => {
                let message = format!("the zone \"{name}\" has no hosts, and its name is no host");
                value.fault(message, "add hosts = [\"example.com\"]");
                Vec::new()
            }
        }
    }

    fn host(&mut self, text: &str, value: &Value<'_>) -> Option<HostPattern> {
        let host = HostPattern::parse(text).map_err(|problem| value.problem(problem)).ok()?;
        match self.hosts.entry(host) {
            Entry::Vacant(entry) => {
                let host = entry.key().clone();
                entry.insert(value.at().place());
                Some(host)
            }
            Entry::Occupied(entry) => {
                let message =
                    format!("the host \"{}\" is there twice; the first is at {}", entry.key(), entry.get());
                value.fault(message, "leave it with one zone only");
                None
            }
        }
    }

    fn plan(&self, section: &Section<'_>) -> Option<Arc<Plan>> {
        let value = section.required("plan", "\"free\"")?;
        let name = value.text("\"free\"")?;
        let plan = self.plans.get(name);
        if plan.is_none() {
            let names: Vec<&str> = self.plans.keys().map(String::as_str).collect();
            let remedy = match (nearest(name, names.iter().copied()), names.is_empty()) {
                (_, true) => format!("add the plan: [plans.{}] with guideline = 500", key(name)),
                (Some(meant), _) => format!("did you mean \"{meant}\"? The plans are: {}", names.join(", ")),
                (None, _) => format!("add [plans.{}], or take one of: {}", key(name), names.join(", ")),
            };
            value.fault(format!("there is no plan {name:?}"), remedy);
        }
        plan.cloned()
    }
}

/// A TOML key, quoted if it has to be.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

fn name(value: &Value<'_>) -> Option<ZoneName> {
    let name = value.text("\"example.com\"")?;
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'/' | b',');
    if !(1..=253).contains(&name.len()) || !name.bytes().all(good) {
        value.fault(
            format!("{name:?} is no zone's name"),
            "write 1 to 253 visible ASCII characters without \" \\ / and comma; names in other scripts as xn--...",
        );
        return None;
    }
    Some(ZoneName(name.into()))
}

/// Stands in until the report refuses the configuration.
fn no_plan() -> Arc<Plan> {
    Arc::new(Plan {
        name: PlanName("".into()),
        guideline: 1,
        abuse_cap: 1,
        socket_cap: None,
        source_cap: None,
        bounds: Bounds::default(),
        notify: Notify::Manual,
    })
}
