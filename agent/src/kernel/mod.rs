//! The agent's BPF room: everything that touches aya, map memory or the `bpf` system call is below this module.
//!
//! [`Kernel::open`] adopts what an earlier agent pinned under `/sys/fs/bpf/weir/<instance>/`, or makes it. Programs, links
//! and maps are pinned, so nothing here has to live for counting and caps to go on.

#![expect(unsafe_code, reason = "map memory and system calls that no library offers")]

mod attach;
mod errands;
mod error;
mod gate;
mod interfaces;
mod link_news;
mod load;
mod memory;
mod netstat;
mod pins;
mod programs;
mod rebuild;
mod sock_destroy;
mod sock_diag;
mod sources;
mod sys;
mod tables;

pub use errands::{Batch, Runner};
pub use error::KernelError;
pub use gate::{GateTables, PrefixTable};
pub use interfaces::GateLink;
pub use link_news::LinkNews;
pub use load::{Kernel, Settings};
pub use memory::{HostMemory, ZoneMemory, at_least_zero};
pub use netstat::listen_overflows;
pub use pins::cgroup2_mount;
pub use pins::unload;
pub use programs::ProgramRun;
pub use sock_destroy::{SocketId, can_destroy, destroy_sockets};
pub use sock_diag::{SocketHolds, SocketSeen, list_holdings, list_sockets};
pub use sources::{SourceTable, correct_source};
pub use sys::{XdpMode, rcu_grace_period};
pub use tables::{MapFill, Tables, listener_key};
