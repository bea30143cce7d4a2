//! The loaded programs: what they cost.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{Program, ProgramError},
    sys::{Stats, enable_stats},
};
use weir_common::names;

use super::KernelError;

/// How often a program ran and for how long, as the kernel counts while its statistics are on.
#[derive(Clone, Copy, Debug)]
pub struct ProgramRun {
    pub program: &'static str,
    pub runs: u64,
    pub time: Duration,
}

/// Loads every program into the kernel; attaching is `attach`'s.
pub(super) fn load(object: &mut Ebpf) -> Result<(), KernelError> {
    for name in names::PROGRAMS {
        let program = object.program_mut(name).ok_or(KernelError::Missing { kind: "program", name })?;
        let began = Instant::now();
        load_one(program).map_err(|source| KernelError::Program { name, source: Box::new(source) })?;
        let instructions = program.info().ok().and_then(|info| info.verified_instruction_count());
        tracing::debug!(program = name, instructions, took = ?began.elapsed(), "verified");
    }
    Ok(())
}

/// The gate's program. It is loaded when the first interface asks for it, so that hosts without a gate need nothing for it.
pub(super) fn load_xdp(object: &mut Ebpf) -> Result<BorrowedFd<'_>, KernelError> {
    let name = names::PROG_XDP;
    let error = |source: ProgramError| KernelError::Program { name, source: Box::new(source) };
    let Some(Program::Xdp(program)) = object.program_mut(name) else {
        return Err(KernelError::Missing { kind: "program", name });
    };
    if program.fd().is_err() {
        program.load().map_err(error)?;
    }
    program.fd().map(|fd| fd.as_fd()).map_err(error)
}

/// The kernel counts runs and time of every BPF program as long as what this returns is open (Linux 5.8).
pub(super) fn count_runs() -> Option<OwnedFd> {
    enable_stats(Stats::RunTime)
        .inspect_err(|error| tracing::warn!(%error, "the kernel does not count program runs: weir_program_* stay at 0"))
        .ok()
}

/// What each program has run since it was loaded. One system call a program.
pub(super) fn runs(object: &Ebpf) -> Vec<ProgramRun> {
    let run = |program: &'static str| {
        let info = object.program(program)?.info().ok()?;
        Some(ProgramRun { program, runs: info.run_count(), time: info.run_time() })
    };
    // The gate is there once it is loaded.
    names::PROGRAMS.into_iter().chain([names::PROG_XDP]).filter_map(run).collect()
}

fn load_one(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::SockOps(program) => program.load(),
        Program::CgroupSockopt(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
