//! What a service manager hears of a process: that it serves, lives and ends; and that only the process itself speaks.

use std::{
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{Folder, configuration, free_port, weir};

/// Longer than anything here takes on a slow machine.
const SOON: Duration = Duration::from_secs(30);

/// The manager's end of the socket, and one process that was given the other.
struct Managed {
    socket: UnixDatagram,
    child: Child,
    _folder: Folder,
}

impl Managed {
    fn start(watchdog: Option<Duration>) -> Self {
        let folder = Folder::new(&configuration(free_port(), free_port(), ""));
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(SOON)).expect("a time");
        let mut command = weir(&["proxy", "--config", &folder.config()]);
        // As root it becomes another user, for whom the socket has to be there as systemd's is.
        open_to_all(&path);
        command.env("NOTIFY_SOCKET", &path).stderr(Stdio::null());
        if let Some(limit) = watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        Self { socket, child: spawn(&mut command), _folder: folder }
    }

    /// The next message that says something else than the one before: signs of life come many times.
    fn hears(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        for _ in 0..10_000 {
            let length = self.socket.recv(&mut buffer).expect("a message in time");
            let message = String::from_utf8(buffer[..length].to_vec()).expect("UTF-8");
            if message.lines().any(|line| line == wanted) {
                return message;
            }
        }
        panic!("{wanted} was never said")
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_to_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).expect("its mode");
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).spawn().expect("weir starts")
}

#[test]
fn a_manager_hears_that_the_proxy_serves_and_that_it_ends() {
    let mut managed = Managed::start(None);
    assert!(managed.hears("READY=1").contains("STATUS=serving"));
    kill(Pid::from_raw(managed.child.id() as i32), Signal::SIGTERM).expect("it lives");
    assert!(managed.hears("STOPPING=1").contains("STATUS=draining"));
    assert!(managed.child.wait().expect("a child").success());
}

#[test]
fn a_watchdog_gets_signs_of_life_until_the_end() {
    let managed = Managed::start(Some(Duration::from_millis(100)));
    managed.hears("READY=1");
    for _ in 0..3 {
        managed.hears("WATCHDOG=1");
    }
    // It drains for a second, as nobody waits for less.
    kill(Pid::from_raw(managed.child.id() as i32), Signal::SIGTERM).expect("it lives");
    managed.hears("STOPPING=1");
}

#[test]
fn without_a_watchdog_there_are_no_signs_of_life() {
    let mut managed = Managed::start(None);
    managed.hears("READY=1");
    kill(Pid::from_raw(managed.child.id() as i32), Signal::SIGTERM).expect("it lives");
    managed.child.wait().expect("a child");
    managed.socket.set_nonblocking(true).expect("a mode");
    let mut buffer = [0; 4096];
    while let Ok(length) = managed.socket.recv(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]);
        assert!(!message.contains("WATCHDOG"), "{message}");
    }
}
