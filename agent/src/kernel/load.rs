//! Loading the kernel object onto an instance's pinned maps, and putting its programs in force.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
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
    gate::GateTables,
    interfaces::{self, GateLink},
    memory::{HostMemory, HostPolicyMemory, ZoneMemory},
    pins::{Cgroup, InstanceDir, netns_cookie},
    programs::{self, ProgramRun},
    sources::SourceTable,
    sys,
    tables::{self, Tables},
};

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
    /// The sockets' tags, for the socket list.
    pub tags: Arc<MapData>,
    pub tables: Tables,
    pub gate: GateTables,
    /// True if an earlier agent's maps, and so its counts, were taken over.
    pub adopted: bool,
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
        let earlier = HostMemory::open_pinned(&dir.map(names::MAP_HOST))?;
        let adopted = match &earlier {
            Some(host) => check(host, &settings, &cgroup, netns)?,
            None => false,
        };
        if !adopted {
            // An agent that died while it made the instance may have left some pins: nothing of them was in use.
            dir.clear()?;
            if sys::is_counted_here()
                .map_err(|source| KernelError::System { what: "a TCP socket", source })?
            {
                return Err(KernelError::OtherInstance { instance: settings.instance });
            }
        }
        let mut object = load(&dir, &settings, netns)?;
        let zones = Arc::new(ZoneMemory::new(&object)?);
        let host = Arc::new(HostMemory::new(&object)?);
        let policy = HostPolicyMemory::new(&object)?;
        let tables = Tables::new(&mut object)?;
        let gate = GateTables::new(&mut object)?;
        let sources = Arc::new(SourceTable::new(&mut object)?);
        let tags = Arc::new(tables::take_tags(&mut object)?);
        programs::load(&mut object)?;
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
            tags,
            tables,
            gate,
            adopted,
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
        let result = attach::all(&self.object, &self.cgroup, &self.dir)?;
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

/// True if the instance can be adopted, false if its making was interrupted.
fn check(host: &HostMemory, settings: &Settings, cgroup: &Cgroup, netns: u64) -> Result<bool, KernelError> {
    let instance = settings.instance.clone();
    match host.abi_version() {
        0 => Ok(false),
        found if found != u64::from(ABI_VERSION) => {
            Err(KernelError::AbiVersion { instance, found, expected: ABI_VERSION })
        }
        _ if host.netns_cookie() != netns => Err(KernelError::OtherNamespace { instance }),
        _ if host.cgroup_id() != cgroup.id => {
            Err(KernelError::OtherCgroup { instance, path: cgroup.path.clone() })
        }
        _ => Ok(true),
    }
}

fn load(dir: &InstanceDir, settings: &Settings, netns: u64) -> Result<Ebpf, KernelError> {
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
        loader.map_pin_path(name, dir.map(name));
    }
    loader
        .load(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf")))
        .map_err(|source| KernelError::Load(Box::new(source)))
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
