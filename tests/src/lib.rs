//! The harness of weir's whole-system tests: the real `weir` binary, on the real kernel, each test in a network namespace
//! of its own.
//!
//! A test begins with [`world`], which gives it a namespace, a folder, a weir instance and a tokio runtime, and takes all of
//! it away when the test ends, however it ends. Kernel programs ignore the sockets of other namespaces, so tests run side by
//! side although all of them attach to the one root cgroup; a semaphore bounds how many do.
//!
//! Needs root and iproute2 (`ip`, `ss`); `cargo xtask test` sees to what else there is. Nothing here waits for a time to pass:
//! it waits for a condition, with [`eventually`], and fails with what it saw last.

mod agent;
pub mod browser;
pub mod clock;
mod conf;
pub mod frames;
pub mod gate;
pub mod hand;
pub mod hook;
pub mod host;
pub mod http;
mod instance;
pub mod machine;
pub mod mail;
pub mod metrics;
pub mod net;
pub mod origin;
pub mod pinned;
mod process;
pub mod programs;
mod proxy;
pub mod python;
pub mod sockopt;
pub mod ss;
pub mod storm;
pub mod tls;
pub mod tracer;
mod wait;
pub mod websocket;
mod world;

pub use agent::Agent;
pub use conf::{Conf, ZoneConf};
pub use process::Process;
pub use proxy::Proxy;
pub use wait::{SOON, eventually};
pub use world::{ADMIN, HTTP, HTTPS, ORIGIN, World, ip, world};
