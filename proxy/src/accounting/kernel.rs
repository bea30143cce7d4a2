//! The one place that speaks to the kernel's books: `setsockopt` on our own sockets.
//!
//! The ABI is `weir_common::sockopt`. Every errno becomes a [`Denial`]: either the zone is turned away, or the socket has
//! gone, or the books cannot be kept for a reason that [`Unavailable`] names. What follows from it is for
//! [`books`](crate::accounting::books) to decide. Nothing here waits, allocates or logs.

use std::{
    io, mem,
    os::fd::{AsRawFd, RawFd},
};

use nix::{errno::Errno, unistd};
use weir_common::{
    ABI_VERSION,
    reason::Refusal,
    sockopt::{LEVEL, Op, VALUE_LEN},
};

/// Whoever keeps the books: the [`Kernel`], or a stand-in under test.
pub(crate) trait Accounts: Send + Sync + 'static {
    /// Asks for `op` on the socket. `value` is a raw zone key, or the ABI version for [`Op::Probe`].
    fn ask(&self, socket: RawFd, op: Op, value: u64) -> Result<(), Denial>;
}

/// The kernel programs that the agent attached.
pub(crate) struct Kernel;

impl Accounts for Kernel {
    fn ask(&self, socket: RawFd, op: Op, value: u64) -> Result<(), Denial> {
        set_option(socket, op as i32, value).map_err(|errno| Denial::of(op, errno))
    }
}

#[expect(
    unsafe_code,
    reason = "nix takes custom socket options only at compile-time levels of the kernel's own"
)]
fn set_option(socket: RawFd, name: i32, value: u64) -> Result<(), Errno> {
    let value = value.to_ne_bytes();
    const { assert!(mem::size_of::<u64>() == VALUE_LEN) }
    // SAFETY: the pointer is to `VALUE_LEN` initialised bytes that live until the call returns, and the kernel only reads
    // them. A descriptor that is closed or no socket is an error, not undefined behaviour.
    let result =
        unsafe { libc::setsockopt(socket, LEVEL, name, value.as_ptr().cast(), VALUE_LEN as libc::socklen_t) };
    Errno::result(result).map(drop)
}

/// Asks on a fresh socket whether accounting runs, speaks our ABI version and lets our uid tag sockets.
///
/// # Errors
/// Why not; or that no socket could be made, as [`Unavailable::Os`].
pub(crate) fn probe(accounts: &dyn Accounts) -> Result<(), Unavailable> {
    let os = |error: io::Error| Unavailable::Os(error.raw_os_error().unwrap_or(libc::EIO));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).map_err(os)?;
    match accounts.ask(socket.as_raw_fd(), Op::Probe, ABI_VERSION.into()) {
        Ok(()) => Ok(()),
        Err(Denial::Unavailable(why)) => Err(why),
        Err(Denial::Zone(refusal)) => Err(Unavailable::Os(refusal.errno())),
        Err(Denial::Gone) => Err(Unavailable::Os(libc::ENOTCONN)),
        Err(Denial::AlreadyAdmitted | Denial::NotAdmitted) => Err(Unavailable::Misuse),
    }
}

/// Why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The zone is turned away: [`Refusal::is_admission`] holds.
    Zone(Refusal),
    /// The socket is closed.
    Gone,
    /// ADMIT: it is a live WebSocket already.
    AlreadyAdmitted,
    /// RELEASE: there is nothing to take back.
    NotAdmitted,
    /// The books cannot be kept for this socket.
    Unavailable(Unavailable),
}

/// Why the books cannot be kept. Prints as a sentence that says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("no weir agent has loaded its programs for this cgroup: start `weir agent` first")]
    NoAgent,
    #[error(
        "the agent does not let uid {} tag sockets: run the proxy as the user that `proxy.user` names, or list its user in \
         `agent.tag_users`",
        unistd::geteuid()
    )]
    CallerNotAllowed,
    #[error(
        "the loaded agent does not speak ABI version {ABI_VERSION}: run agent and proxy of the same release"
    )]
    AbiMismatch,
    #[error("the agent does not know the zone yet: let the agent and the proxy read the same configuration")]
    ZoneUnknown,
    #[error(
        "the socket is older than the agent's programs and this kernel cannot follow it: let the client reconnect"
    )]
    CannotFollow,
    #[error("the kernel had no memory for the socket's books: raise `agent.max_zones` or free memory")]
    NoMemory,
    #[error("the socket is a live WebSocket of another zone")]
    OtherZone,
    #[error("the kernel did not understand the request: run agent and proxy of the same release")]
    Misuse,
    #[error("the kernel answered {}", io::Error::from_raw_os_error(*.0))]
    Os(i32),
}

impl Denial {
    /// The verdict for an errno. Where one errno stands for several refusals, the operation tells them apart.
    fn of(op: Op, errno: Errno) -> Self {
        match errno {
            Errno::EACCES => Self::Zone(Refusal::ZoneBlocked),
            Errno::EMFILE => Self::Zone(Refusal::SocketCap),
            Errno::EDQUOT => Self::Zone(Refusal::AbuseCap),
            Errno::EUSERS => Self::Zone(Refusal::Limit),
            Errno::ECONNREFUSED => Self::Zone(Refusal::Verdict),
            Errno::ENOSPC => Self::Zone(Refusal::SourceCap),
            Errno::ENOTCONN => Self::Gone,
            Errno::EALREADY => Self::AlreadyAdmitted,
            Errno::EINVAL if op == Op::Release => Self::NotAdmitted,
            Errno::EINVAL => Self::Unavailable(Unavailable::Misuse),
            Errno::EBUSY => Self::Unavailable(Unavailable::OtherZone),
            Errno::ENOENT => Self::Unavailable(Unavailable::ZoneUnknown),
            Errno::EPERM => Self::Unavailable(Unavailable::CallerNotAllowed),
            Errno::EOPNOTSUPP => Self::Unavailable(Unavailable::CannotFollow),
            Errno::ENOMEM => Self::Unavailable(Unavailable::NoMemory),
            Errno::EPROTO => Self::Unavailable(Unavailable::AbiMismatch),
            Errno::ENOPROTOOPT => Self::Unavailable(Unavailable::NoAgent),
            other => Self::Unavailable(Unavailable::Os(other as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(op: Op, refusal: Refusal) -> Denial {
        Denial::of(op, Errno::from_raw(refusal.errno()))
    }

    #[test]
    fn every_refusal_of_the_kernel_has_a_verdict() {
        for refusal in Refusal::ALL {
            for op in [Op::Probe, Op::Attribute, Op::Admit, Op::Release] {
                let verdict = verdict(op, refusal);
                assert!(!matches!(verdict, Denial::Unavailable(Unavailable::Os(_))), "{op:?} {refusal:?}");
                assert_eq!(matches!(verdict, Denial::Zone(_)), refusal.is_admission(), "{op:?} {refusal:?}");
            }
        }
    }

    #[test]
    fn a_cap_is_named_by_whatever_operation_met_it() {
        for refusal in Refusal::ALL.into_iter().filter(|refusal| refusal.is_admission()) {
            for op in [Op::Attribute, Op::Admit] {
                assert_eq!(verdict(op, refusal), Denial::Zone(refusal));
            }
        }
        assert_eq!(verdict(Op::Release, Refusal::NotAdmitted), Denial::NotAdmitted);
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_an_error() {
        let file = tempfile::tempfile().expect("a file");
        let denial = Kernel.ask(file.as_raw_fd(), Op::Probe, ABI_VERSION.into());
        assert_eq!(denial, Err(Denial::Unavailable(Unavailable::Os(libc::ENOTSOCK))));
    }

    #[test]
    fn the_remedy_names_the_uid() {
        let text = Unavailable::CallerNotAllowed.to_string();
        assert!(
            text.contains(&format!("uid {}", unistd::geteuid())) && text.contains("proxy.user"),
            "{text}"
        );
    }
}
