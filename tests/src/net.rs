//! A second host: another network namespace, on a cable to the test's own.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, gettid},
};

use crate::{ip, world::HTTP};

/// Where the test's own namespace is reached from the other one.
pub fn this_end() -> SocketAddr {
    SocketAddr::new([10, 9, 8, 1].into(), HTTP.port())
}

/// A namespace with a thread in it that does what it is told.
pub struct Elsewhere {
    jobs: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Elsewhere {
    /// Makes it, with a cable from the calling thread's namespace.
    pub fn new() -> Self {
        let (elsewhere, tid) = Self::make();
        ip(&format!("link add here type veth peer name there netns {tid}"));
        ip("address add 10.9.8.1/24 dev here");
        ip("link set here up");
        elsewhere.run(|| {
            ip("link set lo up");
            ip("address add 10.9.8.2/24 dev there");
            ip("link set there up");
        });
        elsewhere
    }

    /// One that no cable leads to.
    pub fn apart() -> Self {
        Self::make().0
    }

    fn make() -> (Self, Pid) {
        let (jobs, inbox) = channel::<Box<dyn FnOnce() + Send>>();
        let (ready, is_ready) = channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(gettid()).expect("somebody waits");
            inbox.into_iter().for_each(|job| job());
        });
        let tid = is_ready.recv().expect("a namespace");
        (Self { jobs: Some(jobs), thread: Some(thread) }, tid)
    }

    /// Runs a job there, to its end.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start(job).recv().expect("the job elsewhere did not panic")
    }

    /// Starts a job there. Jobs run one after the other.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (done, result) = channel();
        let job = Box::new(move || drop(done.send(job())));
        self.jobs.as_ref().expect("it lives").send(job).expect("its thread lives");
        result
    }

    /// Pulls the cable: nothing gets through any more, and nobody is told.
    pub fn pull_the_cable(&self) {
        self.run(|| ip("link set there down"));
    }
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
