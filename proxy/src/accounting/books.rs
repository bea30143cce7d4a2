//! A client's place in the kernel's books, and what the configuration makes of a denial.
//!
//! A client of HTTP/1.1 becomes one WebSocket, and its own socket is what counts. Over HTTP/2 its socket is attributed, and each
//! WebSocket counts by the socket to its origin.
//!
//! With `accounting = "required"` a socket that cannot be counted is not served; with `"optional"` it passes and is counted
//! once in [`Counters::untracked`]. An [`Admission`] that is dropped takes ADMIT back, unless the socket is closed (then the
//! kernel has settled it) or the admission was [kept](Admission::keep) for a tunnel.

#[cfg(test)]
mod tests;

use std::{
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use nix::{
    errno::Errno,
    sys::socket::{SockaddrStorage, getpeername},
};
use tracing::{debug, warn};
use weir_common::{reason::Refusal, sockopt::Op, zone::ZoneKey};
use weir_config::Accounting;

use crate::{
    accounting::kernel::{Accounts, Denial, Unavailable},
    downstream::stream::Descriptor,
    observe::{counters::Counters, rare::Rarely},
};

/// Why a socket is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Its zone is turned away.
    Away(Refusal),
    /// It cannot be counted, and has to be.
    Uncounted,
    /// It is closed.
    Gone,
}

/// The books of one client.
pub(crate) struct Books {
    accounts: Arc<dyn Accounts>,
    counters: Arc<Counters>,
    /// The client's socket.
    descriptor: Arc<Descriptor>,
    /// The raw key of the zone that the socket is attributed to; 0 if none (no zone has key 0).
    zone: AtomicU64,
    untracked: AtomicBool,
}

static UNCOUNTED: Rarely = Rarely::new();
static UNRELEASED: Rarely = Rarely::new();

/// The socket has no connection any more, whoever ended it.
fn is_closed(socket: RawFd) -> bool {
    getpeername::<SockaddrStorage>(socket) == Err(Errno::ENOTCONN)
}

impl Books {
    pub fn new(accounts: Arc<dyn Accounts>, counters: Arc<Counters>, descriptor: Arc<Descriptor>) -> Self {
        Self { accounts, counters, descriptor, zone: AtomicU64::new(0), untracked: AtomicBool::new(false) }
    }

    /// The socket is the zone's from here on. No system call if it is already.
    pub fn attribute(&self, zone: ZoneKey, rule: Accounting) -> Result<(), Turned> {
        if self.zone.load(Relaxed) == zone.to_raw() {
            return Ok(());
        }
        match self.ask(&self.descriptor, Op::Attribute, zone) {
            Ok(()) => {
                self.zone.store(zone.to_raw(), Relaxed);
                Ok(())
            }
            Err(denial) => self.judge(denial, rule, &self.untracked),
        }
    }

    /// The socket is a live WebSocket of the zone until the admission is dropped or the socket closed.
    pub fn admit(&self, zone: ZoneKey, rule: Accounting) -> Result<Admission, Turned> {
        self.admit_socket(&self.descriptor, zone, rule, &self.untracked)
    }

    /// A stream of the client's is a live WebSocket of the zone. The client's socket carries others besides, so it is the one to
    /// the stream's origin that counts; it is not connected yet.
    pub fn admit_upstream(
        &self,
        socket: &Arc<Descriptor>,
        zone: ZoneKey,
        rule: Accounting,
    ) -> Result<Admission, Turned> {
        self.admit_socket(socket, zone, rule, &AtomicBool::new(false))
    }

    fn admit_socket(
        &self,
        socket: &Arc<Descriptor>,
        zone: ZoneKey,
        rule: Accounting,
        untracked: &AtomicBool,
    ) -> Result<Admission, Turned> {
        let held = match self.ask(socket, Op::Admit, zone) {
            Ok(()) => true,
            // A release that failed: the socket counts once, and whoever releases next settles it.
            Err(Denial::AlreadyAdmitted) => true,
            Err(denial) => {
                if matches!(denial, Denial::Unavailable(_)) {
                    // Other programs than those that attributed it, perhaps: the next request asks anew.
                    self.zone.store(0, Relaxed);
                }
                self.judge(denial, rule, untracked)?;
                false
            }
        };
        let held = held.then(|| (self.accounts.clone(), socket.clone()));
        Ok(Admission { held, zone })
    }

    fn ask(&self, socket: &Descriptor, op: Op, zone: ZoneKey) -> Result<(), Denial> {
        socket.with(|fd| self.accounts.ask(fd, op, zone.to_raw())).unwrap_or(Err(Denial::Gone))
    }

    /// `untracked` is true once a socket that passes without books has been counted as one.
    fn judge(&self, denial: Denial, rule: Accounting, untracked: &AtomicBool) -> Result<(), Turned> {
        let why = match denial {
            Denial::Zone(refusal) => return Err(Turned::Away(refusal)),
            Denial::Gone => return Err(Turned::Gone),
            Denial::AlreadyAdmitted | Denial::NotAdmitted => Unavailable::Misuse,
            Denial::Unavailable(why) => why,
        };
        if rule == Accounting::Required {
            UNCOUNTED.then(|| warn!(%why, "a socket cannot be counted and is refused"));
            return Err(Turned::Uncounted);
        }
        if !untracked.swap(true, Relaxed) {
            self.counters.untracked.add(1);
            debug!(%why, "a socket is not counted");
        }
        Ok(())
    }
}

/// A live WebSocket in the kernel's books. Dropping it takes it back.
#[must_use]
pub(crate) struct Admission {
    /// `None` if there is nothing to take back.
    held: Option<(Arc<dyn Accounts>, Arc<Descriptor>)>,
    zone: ZoneKey,
}

impl Admission {
    /// The tunnel is up: the kernel settles the admission when the socket closes.
    pub fn keep(mut self) {
        self.held = None;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some((accounts, descriptor)) = self.held.take() else { return };
        match descriptor.with(|fd| accounts.ask(fd, Op::Release, self.zone.to_raw())) {
            // A closed socket has left the books already.
            None | Some(Ok(()) | Err(Denial::Gone)) => {}
            // So has one that its peer closed, whose end the kernel has settled; nothing is left to take back.
            Some(Err(Denial::NotAdmitted)) if descriptor.with(is_closed).unwrap_or(true) => {}
            Some(Err(denial)) => UNRELEASED
                .then(|| warn!(?denial, "an admission could not be taken back before its socket closes")),
        }
    }
}
