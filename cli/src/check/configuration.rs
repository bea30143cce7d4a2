//! A valid configuration against this host: users, certificates, ports, the cgroup.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
    unistd::User,
};
use weir_config::{Config, Firewall, ManagedMode, Zone};

use super::{firewall, paths, ports, report::Finding};
use crate::{failure, neighbours, text::plural};

/// Everything but what the configuration itself says, which is right if it could be read.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![zones(config)];
    findings.extend(marks(config));
    findings.extend(users(config));
    findings.extend(cgroup(config));
    findings.extend(serving(config));
    findings.extend(firewall::check(config));
    findings.extend(firewall::gate(config));
    findings.extend(paths::check(config));
    findings.extend(ports::check(config));
    findings.push(accounting(config));
    findings
}

/// Who counts here already.
fn accounting(config: &Config) -> Finding {
    const NAME: &str = "accounting";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let counted = runtime.map_err(Into::into).and_then(|runtime| {
        let _inside = runtime.enter();
        neighbours::is_counted(config)
    });
    match (counted, neighbours::loaded()) {
        (Err(error), _) => Finding::wrong(NAME, failure::describe(&error), "correct what stands above"),
        (Ok(false), _) => Finding::right(NAME, "no agent has loaded its programs here yet"),
        (Ok(true), Err(_)) => {
            Finding::right(NAME, "the kernel counts (for which instance only root can see)")
        }
        (Ok(true), Ok(names)) if names.iter().any(|name| name == config.instance.as_str()) => {
            Finding::right(NAME, "the kernel counts")
        }
        (Ok(true), Ok(names)) => Finding::wrong(
            NAME,
            format!("another instance counts in this network namespace: {}", names.join(" or ")),
            "end it with `weir agent --unload --instance NAME`, or take its name as `instance`",
        ),
    }
}

fn zones(config: &Config) -> Finding {
    let (zones, plans) =
        (plural(config.zones.len() as u64, "zone"), plural(config.plans.len() as u64, "plan"));
    let found = format!("{zones} on {plans}, instance `{}`", config.instance);
    match weir_agent::check_keys(&config.zones) {
        Ok(()) => Finding::right("zones", found),
        Err(error) => Finding::wrong("zones", error.to_string(), "rename one of the two zones"),
    }
}

/// Whether each zone has a number.
fn marks(config: &Config) -> Option<Finding> {
    const NAME: &str = "agent.marks";
    Some(match weir_agent::Marks::new(config.agent.marks?, &config.zones) {
        Err(error) => Finding::wrong(NAME, error.to_string(), "give one of the two zones another `mark`"),
        Ok(marks) => match marks.unmarked() {
            [] => Finding::right(NAME, "every zone has a number"),
            [first, ..] => Finding::wrong(
                NAME,
                format!(
                    "{} without a number, as others would have the same: {first}{}",
                    plural(marks.unmarked().len() as u64, "zone"),
                    if marks.unmarked().len() > 1 { " and others" } else { "" }
                ),
                "give them one with `mark = ...`, or `marks` a mask that leaves more bits",
            ),
        },
    })
}

fn users(config: &Config) -> Vec<Finding> {
    let tagging = config.agent.tag_users.iter().map(|user| ("agent.tag_users", user));
    std::iter::once(("proxy.user", &config.proxy.user))
        .chain(tagging)
        .map(|(key, user)| find(key, user))
        .collect()
}

fn find(key: &str, user: &str) -> Finding {
    match User::from_name(user) {
        Ok(Some(found)) if found.uid.is_root() && key == "proxy.user" => Finding::wrong(
            key,
            "the proxy would stay root",
            "name a user that can do nothing, such as nobody",
        ),
        Ok(Some(found)) => Finding::right(key, format!("{user}, uid {}", found.uid)),
        Ok(None) => Finding::wrong(
            key,
            format!("no user is called `{user}`"),
            format!("create it (useradd --system {user}), or name another"),
        ),
        Err(error) => {
            Finding::wrong(key, format!("`{user}` cannot be looked up: {error}"), "see nsswitch.conf(5)")
        }
    }
}

fn cgroup(config: &Config) -> Option<Finding> {
    let path: &Path = config.agent.cgroup.as_deref()?;
    let shown = path.display().to_string();
    let remedy = "name a folder of the cgroup2 hierarchy, or leave the key out for its root";
    Some(match statfs(path) {
        Ok(fs) if fs.filesystem_type() == CGROUP2_SUPER_MAGIC => Finding::right("agent.cgroup", shown),
        Ok(_) => Finding::wrong("agent.cgroup", format!("{shown} is not of cgroup2"), remedy),
        Err(error) => Finding::wrong("agent.cgroup", format!("{shown}: {}", error.desc()), remedy),
    })
}

/// Each zone's certificate, key and origin, as the proxy reads them; those that work in one line.
fn serving(config: &Config) -> Vec<Finding> {
    // Copied for every zone: without its lists it is small.
    let mut bare =
        Config { plans: Default::default(), zones: Vec::new(), sources: Vec::new(), ..config.clone() };
    let host = weir_proxy::check(&bare).err().map(|error| failure::describe(&error.into()));
    // Found faulty once, not once a zone; and compiling managed rules takes a while.
    bare.firewall = Default::default();
    let managed = managed_rules(config).into_iter().filter_map(|zone| unusable(&bare, &zone));
    let managed: Vec<_> =
        managed.filter(|fault| host.as_ref().is_none_or(|host| !fault.ends_with(host))).collect();
    let zones = config.zones.iter().filter_map(|zone| unusable(&bare, &without_managed_rules(zone)));
    let faults: Vec<_> = host.into_iter().chain(managed).chain(zones).collect();
    if faults.is_empty() {
        let found = match config.zones.iter().filter(|zone| zone.tls.is_some()).count() {
            0 => "none needed: no zone has `tls`".to_owned(),
            with_tls => format!("{}, each with its key", plural(with_tls as u64, "zone")),
        };
        return vec![Finding::right("certificates", found)];
    }
    let remedy = "correct it: the proxy does not start with it, and does not take it over on a reload";
    faults.into_iter().map(|fault| Finding::wrong("serving", fault, remedy)).collect()
}

/// The first zone of each list of managed rules that is asked, without what else may be wrong with it.
fn managed_rules(config: &Config) -> Vec<Arc<Zone>> {
    let asked = |zone: &&Arc<Zone>| zone.firewall.managed.mode != ManagedMode::Off;
    let mut by_list: BTreeMap<&[PathBuf], &Arc<Zone>> = BTreeMap::new();
    for zone in config.zones.iter().filter(asked) {
        by_list.entry(&zone.firewall.managed.rules).or_insert(zone);
    }
    let only = |zone: &Arc<Zone>| {
        let mut only = Zone::clone(zone);
        only.tls = None;
        only.firewall = Firewall { managed: only.firewall.managed.clone(), ..Default::default() };
        Arc::new(only)
    };
    by_list.into_values().map(only).collect()
}

fn without_managed_rules(zone: &Arc<Zone>) -> Arc<Zone> {
    let mut zone = Arc::clone(zone);
    if zone.firewall.managed.mode != ManagedMode::Off {
        Arc::make_mut(&mut zone).firewall.managed = Default::default();
    }
    zone
}

/// Why the proxy could not serve this zone. `bare` has no zones.
fn unusable(bare: &Config, zone: &Arc<Zone>) -> Option<String> {
    let alone = Config { zones: vec![Arc::clone(zone)], ..bare.clone() };
    let error = weir_proxy::check(&alone).err()?;
    Some(failure::describe(&error.into()))
}
