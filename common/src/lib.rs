//! The ABI between weir's kernel programs and user space, defined once for both.
//!
//! Kernel programs (`ebpf`), the agent and the proxy all take names, numbers and layouts from here; nothing of it is
//! typed twice. Every shared struct is `#[repr(C)]` without implicit padding, in native byte order unless a name ends in
//! `_be`; `tests/layout.rs` pins size, alignment and every offset. A change of any of them raises [`ABI_VERSION`].
//!
//! `no_std`, no dependencies, no allocation: what is here compiles to BPF.
#![no_std]
#![forbid(unsafe_code)]

pub mod errand;
pub mod event;
pub mod gate;
pub mod host;
pub mod listener;
pub mod mark;
pub mod names;
pub mod packet;
pub mod reason;
pub mod socket;
pub mod sockopt;
pub mod source;
pub mod verdict;
pub mod zone;

/// Version of everything in this crate that the kernel and a process must agree on.
///
/// An agent adopts pinned maps only if they carry this number, and rebuilds its counts from the kernel's socket list if they carry
/// another; the proxy asks for it with
/// [`sockopt::Op::Probe`].
///
/// New words may take the place of such as were 0 in every record of the same version, as the last four of
/// [`zone::ZoneUsage`] did: whoever adopts the maps finds them at 0, and whoever is older never read them.
pub const ABI_VERSION: u32 = 5;
