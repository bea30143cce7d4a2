//! When a process is to end: SIGTERM, SIGINT, or the end of whoever supervises it.
//!
//! A supervised process has the read end of a pipe as its stdin; nothing is ever written to it. Its end is the end of the
//! supervisor, however that came, kill -9 included: the kernel closes the other end.

use std::{
    future::pending,
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use anyhow::Context as _;
use nix::sys::prctl;
use tokio::{
    net::unix::pipe,
    signal::unix::{Signal, SignalKind, signal},
};

/// What a supervised process writes to its stdout once it serves.
pub const READY: &str = "ready\n";

/// Given by `weir run` and `weir demo` to their children.
#[derive(Clone, Copy, clap::Args)]
pub struct Supervised {
    /// End when stdin ends, and say `ready` on stdout.
    #[arg(long, hide = true)]
    supervised: bool,
}

impl Supervised {
    /// Tells the supervisor that this process serves.
    pub fn say_ready(self) -> io::Result<()> {
        if !self.supervised {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(READY.as_bytes())?;
        stdout.flush()
    }
}

/// Requests to end, one after the other.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    supervisor: Option<pipe::Receiver>,
}

impl Stop {
    /// Listens from now on. Needs a runtime.
    ///
    /// # Errors
    /// If the signals cannot be caught, or a supervised process has no pipe as its stdin.
    pub fn listen(supervised: Supervised) -> anyhow::Result<Self> {
        let supervisor = supervised.supervised.then(supervisor).transpose()?;
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
            hangup: None,
            supervisor,
        })
    }

    /// For a process that nobody supervises.
    pub fn listen_alone() -> anyhow::Result<Self> {
        Self::listen(Supervised { supervised: false })
    }

    /// For a process that lives and ends with its terminal: the end of that is a request, too.
    pub fn listen_at_a_terminal() -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        Ok(Self { hangup: Some(hangup), ..Self::listen_alone()? })
    }

    /// Waits for the next request.
    pub async fn requested(&mut self) {
        let gone = ended(self.supervisor.as_ref());
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
            () = gone => self.supervisor = None,
        }
    }
}

fn supervisor() -> anyhow::Result<pipe::Receiver> {
    // Run as /proc/self/exe, the process would be called `exe` in lists of processes. The name is only for people.
    let _ = prctl::set_name(c"weir");
    let stdin = io::stdin().as_fd().try_clone_to_owned().context("stdin is closed")?;
    pipe::Receiver::from_owned_fd(stdin).context("--supervised needs a pipe as stdin")
}

async fn hung_up(hangup: Option<&mut Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => pending().await,
    }
}

/// Waits until the other end is closed. Never, if there is none.
async fn ended(supervisor: Option<&pipe::Receiver>) {
    let Some(supervisor) = supervisor else { return pending().await };
    loop {
        let mut byte = [0];
        match supervisor.readable().await.and_then(|()| supervisor.try_read(&mut byte)) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}
