//! Names of maps, programs and globals in the kernel object. At most 15 characters: the kernel cuts longer ones.

/// zone key -> slot, hash.
pub const MAP_ZONE_SLOTS: &str = "WEIR_SLOTS";
/// slot -> `ZonePolicy`, mappable array.
pub const MAP_ZONE_POLICY: &str = "WEIR_POLICY";
/// slot -> `ZoneUsage`, mappable array.
pub const MAP_ZONE_USAGE: &str = "WEIR_USAGE";
/// socket -> `SocketTag`, socket storage.
pub const MAP_TAGS: &str = "WEIR_TAGS";
/// `ListenerKey` -> `Listener`, hash.
pub const MAP_LISTENERS: &str = "WEIR_LISTENERS";
/// Word of eight ports -> the forms of addresses that are listened on there, mappable array.
pub const MAP_PORTS: &str = "WEIR_PORTS";
/// uid that may tag sockets -> 1, hash.
pub const MAP_UIDS: &str = "WEIR_UIDS";
/// 0 -> `HostUsage`, mappable array.
pub const MAP_HOST: &str = "WEIR_HOST";
/// 0 -> `HostPolicy`, mappable array.
pub const MAP_HOST_POLICY: &str = "WEIR_HOSTPOLICY";
/// `SourceKey` -> `SourceUsage`, hash.
pub const MAP_SOURCES: &str = "WEIR_SOURCES";
/// Number of a zone in a `SO_MARK` -> zone key, hash.
pub const MAP_MARKS: &str = "WEIR_MARKS";
/// `Event`s, ring buffer.
pub const MAP_EVENTS: &str = "WEIR_EVENTS";

/// `PrefixKey` -> `PrefixEntry`, trie: sources that no rule of the gate is asked about.
pub const MAP_ALLOW: &str = "WEIR_ALLOW";
/// As above: sources whose SYNs are dropped.
pub const MAP_DENY: &str = "WEIR_DENY";
/// Source prefix -> `Bucket`, hash that forgets.
pub const MAP_RATES: &str = "WEIR_RATES";
/// 0 -> `GateRecord`, mappable array.
pub const MAP_GATE: &str = "WEIR_GATE";
/// `Outcome`'s counters -> packets, array of each CPU.
pub const MAP_GATE_COUNTS: &str = "WEIR_GATE_CNT";
/// `DropEvent`s, ring buffer.
pub const MAP_DROPS: &str = "WEIR_DROPS";

/// All maps that are pinned, and so outlive the agent.
pub const PINNED_MAPS: [&str; 18] = [
    MAP_ZONE_SLOTS,
    MAP_ZONE_POLICY,
    MAP_ZONE_USAGE,
    MAP_TAGS,
    MAP_LISTENERS,
    MAP_PORTS,
    MAP_UIDS,
    MAP_HOST,
    MAP_HOST_POLICY,
    MAP_SOURCES,
    MAP_MARKS,
    MAP_EVENTS,
    MAP_ALLOW,
    MAP_DENY,
    MAP_RATES,
    MAP_GATE,
    MAP_GATE_COUNTS,
    MAP_DROPS,
];

/// `sock_ops`: birth, state changes, death.
pub const PROG_SOCK_OPS: &str = "weir_sock_ops";
/// `cgroup/setsockopt`: attribute, admit, release.
pub const PROG_SETSOCKOPT: &str = "weir_setsockopt";
/// `cgroup/setsockopt`, too: `SO_MARK`. A program of its own, so that the verifier walks either by itself.
pub const PROG_SET_MARK: &str = "weir_set_mark";
/// `cgroup/sock_release`: sockets that are closed without ever having been connected.
pub const PROG_RELEASE: &str = "weir_release";

/// XDP: the gate. Attached to interfaces, and loaded when the first one asks for it.
pub const PROG_XDP: &str = "weir_xdp";

/// An errand: bytes of sockets that live are added to their zones'. Attached nowhere, see [`errand`](crate::errand).
pub const PROG_BYTES: &str = "weir_bytes";
/// An errand: a socket that an agent of another ABI version had counted is counted anew. Loaded when it is needed.
pub const PROG_ADOPT: &str = "weir_adopt";

/// All programs that every instance has, each attached to the cgroup by a pinned link of the same name.
pub const PROGRAMS: [&str; 4] = [PROG_SOCK_OPS, PROG_SETSOCKOPT, PROG_SET_MARK, PROG_RELEASE];

/// Read-only global: `SO_NETNS_COOKIE` of the network namespace whose sockets are counted.
pub const GLOBAL_NETNS: &str = "WEIR_NETNS";
