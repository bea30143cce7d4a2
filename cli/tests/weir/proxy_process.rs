//! The life of `weir proxy` as a process: ready, reloaded, ended. Without an agent, and as any user.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStderr, ExitStatus, Stdio},
};

use crate::support::{Folder, configuration, free_port, weir};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A supervised proxy that serves. Ended with its pipes when it is dropped.
struct Proxy {
    child: Child,
    log: BufReader<ChildStderr>,
    port: u16,
    folder: Folder,
}

impl Proxy {
    fn start(more_arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = Folder::new(&configuration(port, free_port(), ""));
        let config = folder.config();
        let arguments = [&["proxy", "--supervised", "--config", &config], more_arguments].concat();
        let mut child = weir(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("weir starts");
        let mut said = [0; 6];
        child.stdout.as_mut().expect("a pipe").read_exact(&mut said).expect("it says that it is ready");
        assert_eq!(&said, b"ready\n");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        Self { child, log, port, folder }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it lives");
    }

    fn serves(&self) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    /// Reads log lines until one contains `part`.
    fn log_line(&mut self, part: &str) -> String {
        let line =
            self.log.by_ref().lines().map(|line| line.expect("a line")).find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("no line with {part:?}"))
    }

    fn ended(&mut self) -> ExitStatus {
        // The log is read to its end, so that nobody waits for room in the pipe.
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("UTF-8");
        self.child.wait().expect("a child")
    }
}

#[test]
fn a_supervised_process_ends_with_its_supervisor() {
    let mut proxy = Proxy::start(&[]);
    assert!(proxy.serves());
    drop(proxy.child.stdin.take());
    assert!(proxy.ended().success());
    assert!(!proxy.serves());
}

#[test]
fn sigterm_drains_and_ends_well() {
    let mut proxy = Proxy::start(&[]);
    proxy.signal(Signal::SIGTERM);
    proxy.log_line("draining");
    assert!(proxy.ended().success());
}

#[test]
fn a_faulty_configuration_is_not_taken_over_and_a_good_one_is() {
    let mut proxy = Proxy::start(&[]);
    let text = configuration(proxy.port, free_port(), "");
    proxy.folder.write("weir.toml", &format!("{text}plann = 1\n"));
    proxy.signal(Signal::SIGHUP);
    proxy.log_line("configuration not reloaded, nothing changed");
    assert!(proxy.log_line("weir.toml:14:1").contains("plann"));
    assert!(proxy.serves());
    proxy.folder.write("weir.toml", &text);
    proxy.signal(Signal::SIGHUP);
    proxy.log_line("routes reloaded");
    assert!(proxy.serves());
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.ended().success());
}

#[test]
fn a_changed_file_is_taken_over_without_a_signal() {
    let mut proxy = Proxy::start(&[]);
    let more = "[[zones]]\nname = \"b.example\"\nplan = \"free\"\norigin = \"ws://127.0.0.1:1\"\n";
    proxy.folder.write("weir.toml", &configuration(proxy.port, free_port(), more));
    assert!(proxy.log_line("routes reloaded").contains("zones=2"));
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.ended().success());
}

#[test]
fn log_lines_can_be_json() {
    let mut proxy = Proxy::start(&["--log-format", "json"]);
    proxy.signal(Signal::SIGTERM);
    let line: serde_json::Value = serde_json::from_str(&proxy.log_line("draining")).expect("JSON");
    assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("INFO"), Some("draining")));
    assert!(proxy.ended().success());
}
