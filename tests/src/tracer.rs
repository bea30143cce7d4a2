//! System calls of a process, counted by ptrace.
//!
//! The thread that counts becomes the tracer of every thread of the process; the kernel lets them go when it ends.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How often each system call was made; by number, as the architecture has it.
pub type Calls = BTreeMap<u64, u64>;

/// Counts the system calls that a process makes while `work` runs (and those that it is in the middle of).
pub fn count<T>(pid: u32, work: impl FnOnce() -> T) -> (Calls, T) {
    let (ready, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let tracer = scope.spawn(|| trace(pid, &ready, &over));
        while !ready.load(SeqCst) && !tracer.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        let done = work();
        over.store(true, SeqCst);
        (tracer.join().expect("the tracer"), done)
    })
}

fn trace(pid: u32, ready: &AtomicBool, over: &AtomicBool) -> Calls {
    // A group of threads, so that no thread is missed that another one is about to start.
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    for entry in fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of a live process") {
        let thread = entry.expect("a thread").file_name().to_string_lossy().parse().expect("a thread's id");
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, options).expect("the right to trace");
        ptrace::interrupt(thread).expect("a thread that can be stopped");
    }
    ready.store(true, SeqCst);
    let mut calls = Calls::new();
    // Threads that are inside of a call: the next stop is its end.
    let mut inside: BTreeMap<Pid, bool> = BTreeMap::new();
    // Only what this thread traces: other children are for others to wait for.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    while !over.load(SeqCst) {
        let (thread, signal) = match waitpid(None, Some(flags)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let inside = inside.entry(thread).or_default();
                *inside = !*inside;
                if *inside {
                    *calls.entry(number(thread)).or_default() += 1;
                }
                (thread, None)
            }
            Ok(WaitStatus::PtraceEvent(thread, _, _)) => (thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => {
                (thread, (signal != Signal::SIGTRAP).then_some(signal))
            }
            Ok(_) => {
                thread::sleep(Duration::from_micros(100));
                continue;
            }
            Err(error) => panic!("the traced process is gone: {error}"),
        };
        match ptrace::syscall(thread, signal) {
            // A thread may end between two stops.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("a thread cannot go on: {error}"),
        }
    }
    calls
}

#[cfg(target_arch = "x86_64")]
fn number(thread: Pid) -> u64 {
    ptrace::getregs(thread).map_or(u64::MAX, |registers| registers.orig_rax)
}

#[cfg(target_arch = "aarch64")]
fn number(thread: Pid) -> u64 {
    ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(thread).map_or(u64::MAX, |registers| registers.regs[8])
}
