//! weir's control plane: the only owner of the kernel side.
//!
//! [`run`] loads or adopts the kernel programs, keeps the zone table in step with the configuration, reads the kernel's
//! counts, audits them against the kernel's own socket list and serves them on the admin address. Operators act through
//! its Unix socket; the ledger has what they did. It is not on the data
//! path: stopped or killed, counting and caps go on in the kernel.

mod admin;
mod api;
mod audit;
mod doomed;
mod events;
mod fault;
pub mod gate;
mod host;
mod kernel;
pub mod ledger;
mod marks;
mod metrics;
pub mod notices;
mod operator;
mod peaks;
mod reachout;
mod run;
mod sights;
mod sources;
mod state;
mod zones;

pub use api::{
    EventRecord, EventsReply, HeldReply, HostReply, SourceRecord, SourcesReply, XdpInterfaceReply,
    XdpPackets, XdpReply, ZoneRecord, ZonesReply,
};
pub use host::{Finding, check_host};
pub use kernel::{KernelError, unload};
pub use ledger::{LedgerError, Reader as LedgerReader};
pub use marks::{MarkCollision, Marks, ZoneMarks};
pub use operator::{ActRecord, ActReply, ActRequest, ActsReply, DeniedRecord, DeniedReply, act_record};
pub use reachout::{
    CaseAct, CaseRecord, CaseReply, CaseRequest, CasesReply, DayRecord, NoticeRecord, PolicyReply,
    ReportReply, VerdictRecord,
};
pub use run::{AgentError, Moment, run};
pub use zones::{ZoneTableError, check_keys};
