//! The agent's errands to single sockets of others, by kernel programs of its own that are attached nowhere: see
//! `common/src/errand.rs`.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    programs::{Program, ProgramError},
};
use weir_common::{
    errand::{ERRANDS, Errand, HEAD},
    names,
};

use super::{KernelError, sys};

/// A program that does errands.
pub struct Runner(OwnedFd);

impl Runner {
    /// Loads it.
    pub(super) fn load(object: &mut Ebpf, name: &'static str) -> Result<Self, KernelError> {
        let error = |source: ProgramError| KernelError::Program { name, source: Box::new(source) };
        let Some(Program::SchedClassifier(program)) = object.program_mut(name) else {
            return Err(KernelError::Missing { kind: "program", name });
        };
        program.load().map_err(error)?;
        let fd = program.fd().map_err(error)?.as_fd().try_clone_to_owned();
        fd.map(Self).map_err(|source| KernelError::System { what: "no descriptor for a program", source })
    }

    /// For the bytes of sockets that live.
    pub(super) fn of_bytes(object: &mut Ebpf) -> Result<Self, KernelError> {
        Self::load(object, names::PROG_BYTES)
    }

    /// Errands, of which as many as fit are done in one system call.
    pub fn batch(&self) -> Batch<'_> {
        Batch { runner: self, packet: vec![0; HEAD], most: ERRANDS, waiting: 0, done: 0 }
    }

    /// Errands that are done one a call.
    pub(super) fn one_by_one(&self) -> Batch<'_> {
        Batch { most: 1, ..self.batch() }
    }
}

/// Errands that are being collected.
pub struct Batch<'r> {
    runner: &'r Runner,
    packet: Vec<u8>,
    /// Of one call.
    most: usize,
    waiting: usize,
    done: u64,
}

impl Batch<'_> {
    /// Another errand; it may have to wait for others.
    pub fn push(&mut self, errand: &Errand) -> io::Result<()> {
        self.packet.extend(errand.tuple.iter().flat_map(|word| word.to_ne_bytes()));
        for word in [errand.tuple_len, errand.slot, errand.flags] {
            self.packet.extend(word.to_ne_bytes());
        }
        for word in [errand.rx_counted, errand.tx_counted] {
            self.packet.extend(word.to_ne_bytes());
        }
        self.waiting += 1;
        if self.waiting == self.most { self.run() } else { Ok(()) }
    }

    /// Does those that wait.
    pub fn run(&mut self) -> io::Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        let done = sys::run_once(self.runner.0.as_fd(), &self.packet);
        self.packet.truncate(HEAD);
        self.waiting = 0;
        self.done += u64::from(done?);
        Ok(())
    }

    /// Does the last ones. Returns how many of all did something.
    pub fn finish(mut self) -> io::Result<u64> {
        self.run()?;
        Ok(self.done)
    }
}
