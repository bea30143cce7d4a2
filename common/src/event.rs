//! What the kernel tells the agent at once, through a ring buffer.
//!
//! At most one event of a kind, zone and [`INTERVAL_NS`]: counters say how many, events say that it began. An event for
//! which the buffer has no room is lost and counted in [`HostUsage::events_lost`](crate::host::HostUsage::events_lost).

/// Shortest time between two events of one kind for one zone.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// A WebSocket or socket of the zone was refused; `reason` is a [`Refusal`](crate::reason::Refusal).
pub const KIND_REFUSED: u32 = 1;
/// The zone's live WebSockets went from its guideline to one above it.
pub const KIND_ABOVE_GUIDELINE: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    pub zone_key: u64,
    /// Live WebSockets of the zone on this host at that time.
    pub websockets: u64,
    /// What was reached: the cap or the guideline.
    pub bound: u64,
    /// `KIND_*`.
    pub kind: u32,
    /// A [`Refusal`](crate::reason::Refusal) for [`KIND_REFUSED`], else 0.
    pub reason: u32,
}
