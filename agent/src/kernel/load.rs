//! Loading the kernel object onto an instance's pinned maps, and putting its programs in force.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, RingBuf},
};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use weir_common::{ABI_VERSION, event::Event, names};

use super::{
    KernelError,
    attach::{self, InForce},
    errands::Runner,
    gate::GateTables,
    interfaces::{self, GateLink},
    memory::{HostMemory, HostPolicyMemory, ZoneMemory},
    pins::{Cgroup, InstanceDir, netns_cookie},
    programs::{self, ProgramRun},
    rebuild::{self, Earlier, Ours},
    sources::SourceTable,
    sys,
    tables::{self, Tables},
};

/// The kernel programs, as the build compiled them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf"));

/// What the kernel side needs to know before it is loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    pub instance: String,
    pub cgroup: Option<PathBuf>,
    /// Zones to make room for; an adopted instance keeps the room that it has.
    pub max_zones: u32,
    /// Rows of the table of sources, likewise.
    pub max_sources: u32,
    /// The kernel programs' debug log.
    pub log: bool,
    /// Have the kernel count the programs' runs and time.
    pub program_stats: bool,
}

/// The kernel side of one instance.
pub struct Kernel {
    pub zones: Arc<ZoneMemory>,
    pub host: Arc<HostMemory>,
    pub policy: HostPolicyMemory,
    pub sources: Arc<SourceTable>,
    /// Counts bytes of sockets that live; `None` where the kernel refuses it.
    pub bytes: Option<Arc<Runner>>,
    /// The sockets' tags, for the socket list.
    pub tags: Arc<MapData>,
    pub tables: Tables,
    pub gate: GateTables,
    /// True if an earlier agent's maps, and so its counts, were taken over.
    pub adopted: bool,
    /// The ABI version of an earlier agent whose counts were rebuilt.
    pub rebuilt_from: Option<u64>,
    /// What is to be rebuilt when the programs are put in force.
    earlier: Option<Earlier>,
    pub cgroup_path: PathBuf,
    events: RingBuf<MapData>,
    logger: Option<EbpfLogger<ToTracing>>,
    object: Ebpf,
    cgroup: File,
    dir: InstanceDir,
    _stats: Option<OwnedFd>,
}

impl Kernel {
    /// Opens or makes the instance's maps. Nothing is attached yet: see [`Kernel::put_in_force`].
    pub fn open(settings: Settings) -> Result<Self, KernelError> {
        let dir = InstanceDir::claim(&settings.instance)?;
        let cgroup = Cgroup::open(settings.cgroup.as_deref())?;
        let netns = netns_cookie()
            .map_err(|source| KernelError::System { what: "the network namespace's cookie", source })?;
        finish_rebuild(&dir)?;
        let found = match HostMemory::open_pinned(&dir.map(names::MAP_HOST))? {
            Some(host) => check(&host, &settings, &cgroup, netns)?,
            None => Found::Nothing,
        };
        let adopted = found == Found::Ours;
        let mut settings = settings;
        let (folder, earlier) = match found {
            Found::Other(abi_version) => {
                let earlier = Earlier::read(&dir, abi_version);
                // It keeps the room that it has.
                settings.max_zones = earlier.max_zones.unwrap_or(settings.max_zones);
                settings.max_sources = earlier.max_sources.unwrap_or(settings.max_sources);
                (dir.begin_next()?, Some(earlier))
            }
            _ => (dir.path().to_owned(), None),
        };
        if found == Found::Nothing {
            // An agent that died while it made the instance may have left some pins: nothing of them was in use.
            dir.clear()?;
            if sys::is_counted_here()
                .map_err(|source| KernelError::System { what: "a TCP socket", source })?
            {
                return Err(KernelError::OtherInstance { instance: settings.instance });
            }
        }
        let mut object = load(&folder, &settings, netns)?;
        let zones = Arc::new(ZoneMemory::new(&object)?);
        let host = Arc::new(HostMemory::new(&object)?);
        let policy = HostPolicyMemory::new(&object)?;
        let mut tables = Tables::new(&mut object)?;
        if let Some(earlier) = &earlier {
            earlier.seed(&zones, &mut tables)?;
        }
        let gate = GateTables::new(&mut object)?;
        let sources = Arc::new(SourceTable::new(&mut object)?);
        let tags = Arc::new(tables::take_tags(&mut object)?);
        programs::load(&mut object)?;
        let bytes = match Runner::of_bytes(&mut object) {
            Ok(bytes) => Some(Arc::new(bytes)),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("bytes are counted when sockets end, not while they live: {error:#}");
                None
            }
        };
        let stats = if settings.program_stats { programs::count_runs() } else { None };
        let events = take_ring(&mut object, names::MAP_EVENTS)?;
        let logger = settings.log.then(|| EbpfLogger::init_with_logger(&mut object, ToTracing)).transpose();
        let logger = logger.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel programs' log cannot be read");
            None
        });
        if !adopted {
            host.describe(netns, cgroup.id);
        }
        let (cgroup, cgroup_path) = (cgroup.file, cgroup.path);
        Ok(Self {
            zones,
            host,
            policy,
            sources,
            bytes,
            tags,
            tables,
            gate,
            adopted,
            rebuilt_from: None,
            earlier,
            cgroup_path,
            events,
            logger,
            object,
            cgroup,
            dir,
            _stats: stats,
        })
    }

    /// Attaches the programs, or puts them in place of the running ones (no moment is without).
    pub fn put_in_force(&mut self) -> Result<Vec<(&'static str, InForce)>, KernelError> {
        if let Some(earlier) = self.earlier.take() {
            let ours = Ours {
                object: &mut self.object,
                cgroup: &self.cgroup,
                dir: &self.dir,
                zones: &self.zones,
                host: &self.host,
                policy: &self.policy,
            };
            let result = rebuild::switch(ours, &earlier, ABI_VERSION)?;
            self.rebuilt_from = Some(earlier.abi_version);
            return Ok(result);
        }
        let result = attach::all(&self.object, &self.cgroup, self.dir.path())?;
        // An agent that died behind a rebuild has left it.
        self.policy.set_adopting(false);
        self.host.seal(ABI_VERSION);
        Ok(result)
    }

    /// What each program has run since it was loaded.
    pub fn program_runs(&self) -> Vec<ProgramRun> {
        programs::runs(&self.object)
    }

    /// Becomes readable when an event waits. Call it inside of a runtime.
    pub fn events_ready(&self) -> io::Result<AsyncFd<OwnedFd>> {
        ready(self.events.as_fd())
    }

    /// Gates of an earlier agent of this instance that still stand.
    pub fn gates(&self) -> Result<Vec<GateLink>, KernelError> {
        interfaces::pinned(&self.dir).map_err(gate_error)
    }

    /// Puts a gate on an interface; on one that has it, this build's program takes the place of the one that runs, in one step.
    pub fn raise_gate(&mut self, link: GateLink, standing: bool) -> Result<(), KernelError> {
        let program = programs::load_xdp(&mut self.object)?;
        let done = if standing {
            interfaces::replace(&self.dir, link, program)
        } else {
            interfaces::attach(&self.dir, link, program)
        };
        done.map_err(gate_error)
    }

    /// Takes a gate off an interface, which may be gone.
    pub fn remove_gate(&self, link: GateLink) -> Result<(), KernelError> {
        interfaces::detach(&self.dir, link).map_err(gate_error)
    }

    /// Next event, if one waits. Never blocks.
    pub fn next_event(&mut self) -> Option<Event> {
        let item = self.events.next()?;
        super::memory::read_event(&item)
    }

    /// Passes on what the kernel programs logged.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

fn gate_error(source: io::Error) -> KernelError {
    KernelError::Attach { name: names::PROG_XDP, source }
}

/// A descriptor's readiness, for a map whose buffer is read elsewhere. Call it inside of a runtime.
pub(super) fn ready(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: the descriptor was made for the `AsyncFd` alone, which owns it until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(|error| io::Error::other(error.to_string()))
}

/// What is pinned already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Or what was left when the making of an instance was interrupted.
    Nothing,
    /// To be adopted.
    Ours,
    /// Of this ABI version, whose counts are to be rebuilt.
    Other(u64),
}

/// Finishes what an agent began that died while it rebuilt the counts: to the end if they are whole, else back.
fn finish_rebuild(dir: &InstanceDir) -> Result<(), KernelError> {
    let next = HostMemory::open_pinned(&dir.next().join(names::MAP_HOST))?;
    if next.is_some_and(|host| host.abi_version() == u64::from(ABI_VERSION)) {
        dir.take_next()
    } else {
        dir.drop_next()
    }
}

/// Whether the instance can be adopted, or rebuilt.
fn check(host: &HostMemory, settings: &Settings, cgroup: &Cgroup, netns: u64) -> Result<Found, KernelError> {
    let instance = settings.instance.clone();
    match host.abi_version() {
        0 => Ok(Found::Nothing),
        _ if host.netns_cookie() != netns => Err(KernelError::OtherNamespace { instance }),
        _ if host.cgroup_id() != cgroup.id => {
            Err(KernelError::OtherCgroup { instance, path: cgroup.path.clone() })
        }
        found if found == u64::from(ABI_VERSION) => Ok(Found::Ours),
        found => Ok(Found::Other(found)),
    }
}

fn load(folder: &Path, settings: &Settings, netns: u64) -> Result<Ebpf, KernelError> {
    let log_level: u8 = if settings.log { aya_log::Level::Debug as u8 } else { 0 };
    let slots = settings.max_zones + 1;
    let mut loader = EbpfLoader::new();
    loader
        .override_global(names::GLOBAL_NETNS, &netns, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries(names::MAP_ZONE_SLOTS, settings.max_zones)
        .map_max_entries(names::MAP_ZONE_POLICY, slots)
        .map_max_entries(names::MAP_ZONE_USAGE, slots)
        .map_max_entries(names::MAP_MARKS, settings.max_zones)
        .map_max_entries(names::MAP_SOURCES, settings.max_sources);
    for name in names::PINNED_MAPS {
        loader.map_pin_path(name, folder.join(name));
    }
    loader.load(OBJECT).map_err(|source| KernelError::Load(Box::new(source)))
}

fn take_ring(object: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, KernelError> {
    let map: Map = object.take_map(name).ok_or(KernelError::Missing { kind: "map", name })?;
    RingBuf::try_from(map).map_err(KernelError::map(name))
}

/// The kernel programs' log as the agent's: whoever asks for it in the configuration sees it at the default level.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::info!(target: "weir_kernel", "{}", record.args());
    }

    fn flush(&self) {}
}

/// The object parses without a kernel: what is in it, and nothing else.
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aya_obj::{Object, ProgramSection};

    use super::*;

    fn object() -> Object {
        Object::parse(OBJECT).expect("an object that aya can read")
    }

    #[test]
    fn the_object_has_every_program_of_its_kind_and_no_other() {
        let object = object();
        let kind = |section: &ProgramSection| match section {
            ProgramSection::SockOps => "sock_ops",
            ProgramSection::CgroupSockopt { .. } => "cgroup/sockopt",
            ProgramSection::CgroupSock { .. } => "cgroup/sock",
            ProgramSection::Xdp { frags: true, .. } => "xdp.frags",
            ProgramSection::SchedClassifier => "classifier",
            _ => "another",
        };
        let found: BTreeSet<(&str, &str)> =
            object.programs.iter().map(|(name, program)| (name.as_str(), kind(&program.section))).collect();
        let expected = BTreeSet::from([
            (names::PROG_SOCK_OPS, "sock_ops"),
            (names::PROG_SETSOCKOPT, "cgroup/sockopt"),
            (names::PROG_SET_MARK, "cgroup/sockopt"),
            (names::PROG_RELEASE, "cgroup/sock"),
            (names::PROG_XDP, "xdp.frags"),
            (names::PROG_BYTES, "classifier"),
            (names::PROG_ADOPT, "classifier"),
        ]);
        assert_eq!(found, expected);
        assert_eq!(object.license.to_str(), Ok("Dual MIT/GPL"), "helpers are lent to such only");
        assert!(object.btf.is_some(), "maps are described by it");
        assert!(names::PROGRAMS.iter().all(|name| found.iter().any(|(program, _)| program == name)));
    }

    #[test]
    fn the_object_has_every_map_that_is_pinned_and_no_memory_of_its_own_that_changes() {
        let object = object();
        let found: BTreeSet<&str> = object.maps.keys().map(String::as_str).collect();
        let pinned = BTreeSet::from(names::PINNED_MAPS);
        assert_eq!(pinned.difference(&found).collect::<Vec<_>>(), Vec::<&&str>::new(), "missing");
        // Read-only globals, and the log's.
        let others: Vec<_> =
            found.difference(&pinned).filter(|name| !name.starts_with("AYA_LOG")).copied().collect();
        // Wide constants get a section of their own from some compilers.
        let constant = |name: &&str| *name == ".rodata" || name.starts_with(".rodata.");
        assert!(
            others.iter().all(constant),
            "what is neither pinned nor constant would not outlive the agent: {others:?}"
        );
        assert!(found.iter().all(|name| name.len() <= 15), "the kernel cuts longer names");
    }
}
