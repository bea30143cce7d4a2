//! What a plan bounds beside WebSockets.

/// Nothing is refused above these: they are what a plan is made for, and rule R3 of the reach-out judges by them. `None`: not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Kernel memory of a zone's sockets.
    pub socket_memory_bytes: Option<u64>,
    /// Both ways.
    pub bytes_per_second: Option<u64>,
    pub upgrades_per_second: Option<u64>,
}
