//! `weir` as its users meet it: the built binary, its arguments, output, signals and exit codes. Needs no root and no agent.
#![cfg(test)]

mod check;
mod command_line;
mod proxy_process;
mod service_manager;
mod support;
mod zones;
