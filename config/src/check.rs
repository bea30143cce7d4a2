//! From files to a [`Config`]: the sections in turn, each in a room of its own, then what must hold between them.
//!
//! Every room reports all it finds and goes on with a default, so that one run names every fault. The result is only handed
//! out if there was none.

mod access_log;
mod agent;
mod firewall;
mod foreign;
mod listeners;
mod networks;
mod notices;
mod origin;
mod origins;
mod plans;
mod policy;
mod proxy;
mod resolvers;
mod timeouts;
mod tls;
mod xdp;
mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    error::{ConfigError, Problem},
    model::{Config, InstanceName, Plan, PlanName, PolicyParams, Proxy, Tls, Zone},
    raw::{AGENT, FIREWALL, NOTICES, POLICY, PROXY, ROOT, Section, Value, XDP, ZONE_FILE},
    source::{Report, Source},
};
use listeners::Listeners;
use zones::Zones;

/// The longest duration that is taken for meant.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest that is.
const MILLISECOND: Duration = Duration::from_millis(1);

impl Config {
    /// Reads and checks a configuration file and the zone files that it names.
    ///
    /// # Errors
    /// Everything that is wrong with them, a file that cannot be read included.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let path = absolute(path);
        let report = Report::default();
        let config = Source::read(&path, &report).and_then(|main| assemble(&main, &report));
        report.finish(&path, config).map(|mut config| {
            config.sources.insert(0, path);
            config
        })
    }

    /// Checks a text as if it were the file `weir.toml` in `base_dir`; [`Config::sources`] does not have that file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(toml: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        let main = Source::new(&absolute(base_dir).join("weir.toml"), toml.to_owned());
        let report = Report::default();
        let config = assemble(&main, &report);
        report.finish(main.path(), config)
    }

    /// Reads only the plans and the policy of a configuration file, which needs neither listeners nor zones for that.
    ///
    /// # Errors
    /// What is wrong with them, or that the file cannot be read or has keys that nothing is called by.
    pub fn load_policy(path: &Path) -> Result<(BTreeMap<PlanName, Plan>, PolicyParams), ConfigError> {
        let path = absolute(path);
        let report = Report::default();
        let read = Source::read(&path, &report).and_then(|main| {
            let table = main.parse(&report)?;
            let root = Section::open(&ROOT, main.at(0), table.get_ref(), &report);
            let plans = plans::read(root.get("plans"));
            let plans = plans.into_values().map(|plan| (plan.name.clone(), (*plan).clone())).collect();
            Some((plans, policy::read(&root.section("policy", &POLICY))))
        });
        report.finish(&path, read)
    }

    /// Zones in this configuration.
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }
}

/// Fails only for an empty path, or without a current folder; reading it then says so.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// `None` only if the main file is not TOML. What is returned is valid only if nothing was reported.
fn assemble(main: &Source, report: &Report) -> Option<Config> {
    let table = main.parse(report)?;
    let root = Section::open(&ROOT, main.at(0), table.get_ref(), report);
    let mut listeners = Listeners::default();

    let instance = instance(&root);
    let proxy_section = root.section("proxy", &PROXY);
    let proxy = proxy::read(&proxy_section, &mut listeners, root.get("listeners").is_some());
    let agent_section = root.section("agent", &AGENT);
    let agent = agent::read(&agent_section, &instance, &mut listeners);
    let xdp = xdp::read(&root.section("xdp", &XDP));
    let notices = notices::read(&root.section("notices", &NOTICES), &instance, &agent, &mut listeners);
    let plans = plans::read(root.get("plans"));
    let policy = policy::read(&root.section("policy", &POLICY));
    let lists = firewall::Lists::default();
    let firewall = firewall::host(&root.section("firewall", &FIREWALL), &lists);

    let mut zones = Zones::new(&plans, proxy.timeouts.clone(), &firewall, &lists);
    zones.read(&root);
    let mut sources = Vec::new();
    if let Some(folder) = root.get("zones_dir") {
        zone_files(&folder, &mut sources, &mut zones, report);
    }
    agent::check_room(&agent_section, &agent, zones.count());
    let any_tls = zones.any_tls() || proxy_section.get("default_tls").is_some();
    if let Some(https) = proxy_section.get("https").filter(|_| !proxy.https.is_empty() && !any_tls) {
        https.fault(
            "there are https listeners, but no zone has a certificate",
            "give a zone tls = { cert = \"...\", key = \"...\" }, or [proxy] a default_tls, or remove `https`",
        );
    }
    let zones = zones.finish();
    sources.extend(certificates(&proxy, &zones));
    let dedicated = foreign::listeners(&root, &mut listeners, &zones);
    foreign::check_numbers(&agent_section, agent.marks, &zones);
    let plans = plans.into_values().map(|plan| (plan.name.clone(), (*plan).clone())).collect();
    sources.extend(lists.into_paths());
    Some(Config {
        instance,
        proxy,
        firewall,
        agent,
        xdp,
        notices,
        listeners: dedicated,
        plans,
        policy,
        zones,
        sources,
    })
}

/// The files of all certificates, each once: many zones may share a pair.
fn certificates(proxy: &Proxy, zones: &[Arc<Zone>]) -> BTreeSet<PathBuf> {
    let all = zones.iter().filter_map(|zone| zone.tls.as_ref()).chain(&proxy.default_tls);
    all.flat_map(Tls::files).cloned().collect()
}

fn instance(root: &Section<'_>) -> InstanceName {
    let name = root.get("instance").and_then(|value| Some((value.text("\"default\"")?, value)));
    let Some((name, value)) = name else {
        return InstanceName("default".into());
    };
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.len() > 32 || !name.as_bytes().first().is_some_and(first) || !name.bytes().all(inner) {
        value.fault(
            format!("`instance` is {name:?}, which cannot be a folder's name below /sys/fs/bpf/weir"),
            "write 1 to 32 of a-z 0-9 - _, beginning with a letter or digit",
        );
    }
    InstanceName(name.into())
}

/// Reads the zone files one by one, in the order of their names.
fn zone_files(folder: &Value<'_>, sources: &mut Vec<PathBuf>, zones: &mut Zones<'_>, report: &Report) {
    let Some(path) = folder.path("\"zones.d\"") else { return };
    let files = match list(&path) {
        Ok(files) => files,
        Err(error) => {
            let message = format!("the folder {} cannot be read: {error}", path.display());
            folder.problem(Problem::new(message, "create it, or correct `zones_dir`"));
            return;
        }
    };
    sources.push(path);
    for path in files {
        if let Some(source) = Source::read(&path, report)
            && let Some(table) = source.parse(report)
        {
            zones.read(&Section::open(&ZONE_FILE, source.at(0), table.get_ref(), report));
        }
        sources.push(path);
    }
}

/// The zone files of a folder by name: `*.toml`, but not hidden ones, which editors and copying tools leave while they write.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if is_zone_file(&path) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

pub(crate) fn is_zone_file(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}
