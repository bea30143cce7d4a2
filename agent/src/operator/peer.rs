//! Who is at the other end of the Unix socket: the kernel's word (`SO_PEERCRED`), not the caller's.

use std::{ffi::CString, fs, io};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixStream;
use weir_config::Operator;

/// Whoever connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    /// The user's name; its number if it has none.
    pub user: String,
    /// The user who logged in to that session, where the audit system knows and it is somebody else: who `sudo` is for.
    pub login: Option<String>,
    /// May act and look.
    pub allowed: bool,
}

impl Peer {
    /// Asks the kernel and the databases of users and groups, which may take time.
    pub fn of(stream: &UnixStream, operators: &[Operator]) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let user = name_of(uid);
        let login = credentials.pid().and_then(login_of).filter(|login| *login != uid).map(name_of);
        Ok(Self { uid, allowed: is_operator(operators, uid, gid, &user), user, login })
    }
}

fn name_of(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// `None` for daemons, and without the audit system.
fn login_of(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// root is one always: it could do all of it without asking.
fn is_operator(operators: &[Operator], uid: u32, gid: u32, user: &str) -> bool {
    let named = |operator: &Operator| match operator {
        Operator::User(name) => {
            User::from_name(name).ok().flatten().is_some_and(|found| found.uid.as_raw() == uid)
        }
        Operator::Group(name) => {
            let group = Group::from_name(name).ok().flatten();
            group.is_some_and(|group| is_member(group.gid, gid, user))
        }
    };
    uid == 0 || operators.iter().any(named)
}

fn is_member(group: Gid, gid: u32, user: &str) -> bool {
    let of_user = || {
        let own = User::from_name(user).ok().flatten()?.gid;
        getgrouplist(&CString::new(user).ok()?, own).ok()
    };
    group.as_raw() == gid || of_user().is_some_and(|groups| groups.contains(&group))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u32 = 65534;

    #[test]
    fn root_and_those_who_are_named_may_and_nobody_else() {
        let user = |name: &str| Operator::User(name.to_owned());
        assert!(is_operator(&[], 0, 0, "root"));
        assert!(!is_operator(&[user("root")], NOBODY, NOBODY, "nobody"));
        assert!(is_operator(&[user("root"), user("nobody")], NOBODY, NOBODY, "nobody"));
        assert!(!is_operator(&[user("no such user")], NOBODY, NOBODY, "nobody"));
    }

    #[test]
    fn a_group_lets_its_members_in() {
        let group = |name: &str| [Operator::Group(name.to_owned())];
        let daemon = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
        assert!(is_operator(&group("daemon"), NOBODY, daemon, "nobody"), "by the group that it runs as");
        assert!(is_operator(&group("daemon"), 1, NOBODY, "daemon"), "by the database of groups");
        assert!(!is_operator(&group("daemon"), NOBODY, NOBODY, "nobody"));
        assert!(!is_operator(&group("no such group"), NOBODY, NOBODY, "nobody"));
    }

    #[tokio::test]
    async fn the_kernel_says_who_it_is() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one, &[]).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.allowed, peer.uid == 0);
    }
}
