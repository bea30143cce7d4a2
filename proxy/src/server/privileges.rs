//! From root to a user that can do nothing but serve, and the limit of open files.
//!
//! Ports and key files come first, this second, the runtime's threads last: glibc changes the ids of every thread, but there is
//! no reason to have any yet.

use std::fs;

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::{Gid, Uid, User, geteuid, getuid, initgroups, setresgid, setresuid, setuid},
};
use tracing::{debug, info, warn};

use std::ffi::CString;

/// The proxy cannot become the user that it should be.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("there is no user {user:?} on this host: create it, or name another in `proxy.user`")]
    NoSuchUser { user: String },
    #[error("cannot look up user {user:?}: {source}")]
    Lookup { user: String, source: Errno },
    #[error("cannot become user {user:?}: {call}: {source}")]
    Change { user: String, call: &'static str, source: Errno },
    #[error("user {user:?} could become root again: refusing to serve")]
    Regained { user: String },
}

/// Who the process is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    /// True if the process was root before.
    pub dropped: bool,
}

/// Becomes `user` for good, with that user's groups, no capabilities and no way to new ones. Does nothing but look if the
/// process is not root.
///
/// # Errors
/// The user does not exist, or root could be regained; the process must not go on then.
pub fn drop_privileges(user: &str) -> Result<Identity, PrivilegeError> {
    let uid = geteuid();
    if !uid.is_root() {
        debug!(%uid, user, "not root: staying who we are");
        return Ok(Identity { uid: uid.as_raw(), dropped: false });
    }
    let lookup =
        User::from_name(user).map_err(|source| PrivilegeError::Lookup { user: user.to_owned(), source })?;
    let account = lookup.ok_or_else(|| PrivilegeError::NoSuchUser { user: user.to_owned() })?;
    if account.uid.is_root() {
        warn!(user, "`proxy.user` is root: the proxy keeps all privileges");
        return Ok(Identity { uid: 0, dropped: false });
    }
    become_user(user, account.uid, account.gid)?;
    info!(user, uid = %account.uid, "privileges dropped");
    Ok(Identity { uid: account.uid.as_raw(), dropped: true })
}

fn become_user(user: &str, uid: Uid, gid: Gid) -> Result<(), PrivilegeError> {
    let change = |call: &'static str| {
        move |source: Errno| PrivilegeError::Change { user: user.to_owned(), call, source }
    };
    let name = CString::new(user).map_err(|_| PrivilegeError::NoSuchUser { user: user.to_owned() })?;
    initgroups(&name, gid).map_err(change("initgroups"))?;
    setresgid(gid, gid, gid).map_err(change("setresgid"))?;
    // With the last of the three ids not 0 any more, the kernel empties the permitted, effective and ambient capabilities.
    setresuid(uid, uid, uid).map_err(change("setresuid"))?;
    prctl::set_no_new_privs().map_err(change("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    if is_privileged() {
        return Err(PrivilegeError::Regained { user: user.to_owned() });
    }
    Ok(())
}

/// True if the process is root, could become root again, or has a capability.
fn is_privileged() -> bool {
    if getuid().is_root() || geteuid().is_root() || setuid(Uid::from_raw(0)).is_ok() {
        return true;
    }
    // Without /proc the uids have to do.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| matches!(*name, "CapPrm" | "CapEff" | "CapAmb"))
        .any(|(_, set)| u64::from_str_radix(set.trim(), 16).is_ok_and(|set| set != 0))
}

/// Raises the soft limit of open files to the hard one. A failure is logged: serving goes on with what there is.
pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => debug!(limit, "open files"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_does_not_exist_is_named() {
        if !geteuid().is_root() {
            let identity = drop_privileges("weir-no-such-user").expect("only root changes");
            assert_eq!(identity, Identity { uid: geteuid().as_raw(), dropped: false });
            return;
        }
        let error = drop_privileges("weir-no-such-user").expect_err("no such user").to_string();
        assert!(error.contains("weir-no-such-user") && error.contains("proxy.user"), "{error}");
    }
}
